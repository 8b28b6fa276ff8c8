"""Which workflows connected workers offer, and how many workers do: shown on the Workflow, a moment after a change."""

import logging
from collections import Counter
from collections.abc import Callable

from hatchet_operator.decisions.workflow_status import Offer
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.names import ObjectRef

log = logging.getLogger(__name__)

_LOOK_AFTER_SECONDS = 3.0
"""Workers come and go by the dozen in a rollout, and all of them at a start: many changes are written at once."""


class Offers:
    """Looks at the pools whose workers changed.

    Args:
        workflows: Their statuses show it.
        workers_of: The workers of a pool, without those in pods that serve only one run.
        is_settled: Whether the workers that were there before a start have had time to come back.
    """

    def __init__(
        self, workflows: Workflows, *, workers_of: Callable[[ObjectRef], list[Worker]], is_settled: Callable[[], bool]
    ) -> None:
        self._workflows = workflows
        self._workers_of = workers_of
        self._is_settled = is_settled
        self._work: WorkQueue[ObjectRef] = WorkQueue(self._look, failed=_failed, gather_seconds=_LOOK_AFTER_SECONDS)

    def changed(self, pool: ObjectRef) -> None:
        """Note that a worker of the pool came or went."""
        self._work.add(pool)

    def _look(self, pool: ObjectRef) -> None:
        if not self._is_settled():
            self.changed(pool)
            return
        connected = [worker for worker in self._workers_of(pool) if worker.is_connected]
        offering = Counter(action for worker in connected for action in set(worker.registration.actions))
        for ref, graph in self._workflows.graphs_of_pool(pool):
            least = min(offering[step.action] for step in graph.steps)
            self._workflows.offered(ref, Offer(workers=least, connected=len(connected)))

    async def stop(self) -> None:
        await self._work.stop()


def _failed(pool: ObjectRef, error: Exception) -> None:
    log.error("workflows of pool not looked at", extra={"pool": str(pool)}, exc_info=error)
