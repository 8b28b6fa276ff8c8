"""What a replay does to a run's children before its own steps run: those that failed are replayed, or all are deleted.

    status.childrenFirst: Failed ─► read those that failed ─► ask each once (a patch) ─► all of them over ─► ready
                          Start  ─► delete all ─► none exists any more ─► ready

This is only remembered in the objects: after a start it continues from what the children say.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.replays import asks_for, request_for, was_asked
from hatchet_operator.engine.runs.definitions import Definitions
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import Conflict, NotFound, Refused
from hatchet_operator.resources.reasons import Phase, ReplayFrom
from hatchet_operator.resources.run import WorkflowRun

log = logging.getLogger(__name__)

_AT_A_TIME = 8
_AGAIN_AFTER_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Preparation:
    """The preparation of one rerun of one run."""

    rerun: int
    task: asyncio.Task[None] | None = None
    asked: list[RunRecord] = field(default_factory=list)
    is_done: bool = False


class Replays:
    """Prepares replays.

    Args:
        api: Where runs are.
        store: What is known of them.
        observer: Observes the results of our own requests.
        reader: Reads those that are over.
        definitions: What they execute.
        requeue: Has a run reconciled.
    """

    def __init__(
        self,
        api: Api,
        store: RunStore,
        *,
        observer: RunObserver,
        reader: RunReader,
        definitions: Definitions,
        requeue: Callable[[RunRecord], None],
    ) -> None:
        self._api = api
        self._store = store
        self._observer = observer
        self._reader = reader
        self._definitions = definitions
        self._requeue = requeue
        self._preparing: dict[RunRecord, _Preparation] = {}
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    def prepare(self, record: RunRecord) -> None:
        """Begin to prepare the children of a run whose replay waits for that; it is requeued when they are."""
        preparation = self._preparing.get(record)
        if not self._is_wanted(record):
            if preparation is not None and record.run.status.children_first is None:
                del self._preparing[record]
            return
        reruns, first = record.run.status.reruns, record.run.status.children_first
        if preparation is None or preparation.rerun != reruns:
            preparation = self._preparing[record] = _Preparation(reruns)
        if preparation.is_done or preparation.task is not None:
            return
        work = self._replay_failed if first is ReplayFrom.FAILED else self._delete
        task = asyncio.get_running_loop().create_task(work(record, preparation))
        preparation.task = task
        task.add_done_callback(lambda task: self._ended(record, preparation, task))

    def are_children_ready(self, record: RunRecord) -> bool:
        """Whether the own steps of a run that is replayed may run."""
        preparation = self._preparing.get(record)
        if not self._is_wanted(record) or preparation is None or not preparation.is_done:
            return False
        if record.run.status.children_first is ReplayFrom.START:
            return not self._store.children_of(record.uid)
        return all(child.is_final or child.gone for child in preparation.asked)

    def _is_wanted(self, record: RunRecord) -> bool:
        status, spec = record.run.status, record.run.spec
        return not (status.children_first is None or spec.suspended or spec.cancelled or self._observer.loading)

    def forget(self, record: RunRecord) -> None:
        """Forget a run whose object is gone."""
        preparation = self._preparing.pop(record, None)
        if preparation is not None and preparation.task is not None:
            preparation.task.cancel()

    def _ended(self, record: RunRecord, preparation: _Preparation, task: asyncio.Task[None]) -> None:
        preparation.task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.error("replay not prepared", extra={"run": str(record.ref)}, exc_info=error)
            asyncio.get_running_loop().call_later(_AGAIN_AFTER_SECONDS, self._requeue, record)
            return
        preparation.is_done = True
        self._requeue(record)

    async def _delete(self, record: RunRecord, preparation: _Preparation) -> None:
        await asyncio.gather(*(self._delete_child(child) for child in self._store.children_of(record.uid)))

    async def _delete_child(self, child: RunRecord) -> None:
        ref = child.ref
        try:
            async with self._turns:
                if child.light is not None:
                    self._observer.forget(child)
                elif not child.gone and not child.is_deleting:
                    await self._api.until_answered(self._api.delete, RUNS, ref.namespace, ref.name, uid=child.uid)
        except (NotFound, Conflict):
            return  # somebody else did, or created another run of that name

    async def _replay_failed(self, record: RunRecord, preparation: _Preparation) -> None:
        parent = record.run
        graph = self._definitions.graph_of(record)
        on_failure = graph.on_failure.name if graph and graph.on_failure else None
        failed = [
            child
            for child in self._store.children_of(record.uid)
            if child.phase in (Phase.FAILED, Phase.CANCELLED) or not child.is_final
        ]
        asked = await asyncio.gather(*(self._ask(child, parent, on_failure) for child in failed))
        preparation.asked = [child for child, is_asked in zip(failed, asked, strict=True) if is_asked]

    async def _ask(self, child: RunRecord, parent: WorkflowRun, on_failure: str | None) -> bool:
        """Have a child replayed, unless it must not be; true: this replay of the parent waits for it."""
        ref = child.ref
        async with self._turns:
            run = await self._reader.read(child)
            while run is not None:
                if was_asked(run, parent):
                    return True
                if not child.is_final or not asks_for(run, parent, on_failure=on_failure):
                    return False
                try:
                    answer = await self._api.until_answered(
                        self._api.patch, RUNS, ref.namespace, ref.name, request_for(run, parent)
                    )
                except (Conflict, NotFound):
                    run = await self._read(child)
                except Refused as error:
                    log.error("child not replayed", extra={"run": str(ref), "error": error.message[:1000]})
                    return False  # its parent sees that it failed, and says so
                else:
                    self._observer.observe("MODIFIED", answer)
                    return True
        return False

    async def _read(self, child: RunRecord) -> WorkflowRun | None:
        try:
            obj = await self._api.until_answered(self._api.get, RUNS, child.ref.namespace, child.ref.name)
        except NotFound:
            return None
        self._observer.observe("MODIFIED", obj)
        return None if obj["metadata"]["uid"] != child.uid else WorkflowRun.model_validate(obj)

    async def stop(self) -> None:
        tasks = [preparation.task for preparation in self._preparing.values() if preparation.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_replayed(record: RunRecord) -> bool:
    """Whether a run is being replayed and its own steps do not run yet."""
    if record.is_final or record.whole is None:
        return False
    status = record.run.status
    return status.phase.is_final or status.children_first is not None
