"""Which workflows connected workers offer, and how many of them: shown on the Workflow, a moment after it changed."""

import asyncio
from collections import Counter
from collections.abc import Callable

from hatchet_operator.decisions.workflow_status import Offer
from hatchet_operator.engine.workers import Worker
from hatchet_operator.engine.workflows import Workflows
from hatchet_operator.resources.names import ObjectRef

_LOOK_AFTER_SECONDS = 3.0
"""Workers come and go by the dozen in a rollout, and all of them at a start: one write a workflow for many changes."""


class Offers:
    """Looks at the pools whose workers changed.

    Args:
        workflows: Whose statuses say it.
        workers_of: The workers of a pool, without those of pods that were made for one run.
        is_settled: Whether the workers that were there before a start have had time to come back.
    """

    def __init__(
        self, workflows: Workflows, *, workers_of: Callable[[ObjectRef], list[Worker]], is_settled: Callable[[], bool]
    ) -> None:
        self._workflows = workflows
        self._workers_of = workers_of
        self._is_settled = is_settled
        self._looks: dict[ObjectRef, asyncio.TimerHandle] = {}

    def changed(self, pool: ObjectRef) -> None:
        """A worker of the pool came or went."""
        if pool not in self._looks:
            self._looks[pool] = asyncio.get_running_loop().call_later(_LOOK_AFTER_SECONDS, self._look, pool)

    def _look(self, pool: ObjectRef) -> None:
        del self._looks[pool]
        if not self._is_settled():
            return self.changed(pool)
        connected = [worker for worker in self._workers_of(pool) if worker.is_connected]
        offering = Counter(action for worker in connected for action in set(worker.registration.actions))
        for ref, graph in self._workflows.graphs_of_pool(pool):
            least = min(offering[step.action] for step in graph.steps)
            self._workflows.offered(ref, Offer(workers=least, connected=len(connected)))
        return None

    def stop(self) -> None:
        for look in self._looks.values():
            look.cancel()
