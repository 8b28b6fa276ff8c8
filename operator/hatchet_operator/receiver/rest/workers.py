"""Workers over the REST API: who is there, pausing one, and what waits for them."""

from collections import Counter
from datetime import UTC, datetime

from aiohttp import web

from hatchet_operator.engine.dispatch import worker as dispatch
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import InvalidRequest, NotPermitted, UnknownObject
from hatchet_operator.receiver.rest.calls import Call, Page, answer
from hatchet_operator.receiver.rest.models import (
    Metadata,
    QueueMetrics,
    SlotConfig,
    UpdateWorkerRequest,
    Worker,
    WorkerList,
)

_EVER = datetime.fromtimestamp(0, UTC)


class Workers:
    """Calls about workers.

    Args:
        engine: Knows them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, call: Call) -> web.Response:
        found = [worker for worker in self._engine.workers if worker.namespace == call.namespace]
        rows = tuple(shown(worker) for worker in sorted(found, key=lambda worker: worker.registration.registered_at))
        return answer(WorkerList(rows=rows, pagination=Page(0, max(len(rows), 1)).shown(len(rows))))

    async def get(self, call: Call) -> web.Response:
        worker = self._find(call)
        if worker is None:
            raise UnknownObject(f'there is no worker "{call.path["worker"]}" in namespace "{call.namespace}"')
        return answer(shown(worker))

    async def update(self, call: Call) -> web.Response:
        """Give a worker nothing new, as clients ask for theirs when they are to end.

        A worker that is no longer known gets nothing either way: a client that was taken for dead asks too, and ends
        only when it is answered.
        """
        asked = await call.body(UpdateWorkerRequest)
        if asked.is_paused is not True:
            raise InvalidRequest("a worker that is paused ends, and is not given work again: start another")
        worker = self._find(call)
        if worker is None:
            metadata = Metadata(id=call.path["worker"][:36], created_at=_EVER, updated_at=_EVER)
            return answer(Worker(metadata=metadata, name="", status="INACTIVE"))
        if not worker.is_of(call.caller):
            raise NotPermitted(f"{call.caller} can't pause worker {worker.shown_name}, which is not its own")
        self._engine.connections.drain(worker)
        return answer(shown(worker))

    async def queues(self, call: Call) -> web.Response:
        """Say how many attempts wait for a worker, by the action that it must offer."""
        waiting: Counter[str] = Counter()
        for (namespace, _pool, action, _run), depth in self._engine.runs.attempts.queue.depth().items():
            if namespace == call.namespace:
                waiting[action] += depth
        return answer(QueueMetrics(queues=dict(waiting)))

    def _find(self, call: Call) -> dispatch.Worker | None:
        worker = self._engine.workers.get(call.path["worker"])
        return worker if worker is not None and worker.namespace == call.namespace else None


def shown(worker: dispatch.Worker) -> Worker:
    registered = worker.registration.registered_at.astimezone(UTC)
    free = max(worker.free_slots, 0)
    return Worker(
        metadata=Metadata(id=worker.id, created_at=registered, updated_at=registered),
        name=worker.registration.name,
        status="PAUSED" if worker.draining else "ACTIVE" if worker.is_connected else "INACTIVE",
        actions=worker.registration.actions,
        max_runs=worker.slots,
        available_runs=free,
        slot_config={"default": SlotConfig(available=free, limit=worker.slots)},
    )
