"""Which clients await which run.

A stream asks for runs by name or UID and gets each one's end once, at once if it is over already. A client that awaits
a run that does not exist, or is deleted meanwhile, is told so: nobody waits forever. While the step that spawned a run
awaits it, the step occupies no slot, so that parents cannot starve their children.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.results import StepResult, run_results
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import NotFound, Refused
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import WorkflowRun

DELETED = "Deleted"

_MOST_TOGETHER = 100
"""More make messages no cheaper, and whoever is told first would wait for the last one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended: its phase, or Deleted.

    ``texts``: what its references stand for, once that was read. ``is_unknown``: there is no such run; a light one may
    have been lost with the operator that had begun it.
    """

    run: str
    phase: str
    steps: list[StepResult]
    texts: Mapping[str, str] | None = None
    is_unknown: bool = False


class ResultStream:
    """The runs that one client awaits."""

    def __init__(self, results: "Results", caller: Caller) -> None:
        self._results = results
        self.caller = caller
        self._ready: asyncio.Queue[RunResult] = asyncio.Queue()
        self._awaited: dict[RunRecord, set[str]] = {}  # the ids by which each was asked for
        self._looking: set[asyncio.Task[None]] = set()

    def add(self, run_id: str) -> None:
        """Await one more run, by its name or UID; its result has the same id."""
        record = self._results.store.find(self.caller.namespace, run_id)
        if record is None:
            self._in_background(self._look_up(run_id))
        elif record.is_final:
            self._tell_end(record, run_id)
        else:
            record.awaited_by.add(self)
            self._awaited.setdefault(record, set()).add(run_id)
            self._results.begin_waiting(record)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    def _tell_end(self, record: RunRecord, run_id: str) -> None:
        if record.whole is None:
            self._in_background(self._read_end(record, run_id))  # it ended a while ago
            return
        self._put_end(record, record.whole, run_id)

    def _put_end(self, record: RunRecord, run: WorkflowRun, run_id: str) -> None:
        record.is_told = True
        graph = record.graph or self._results.graph_of(record.workflow_ref)
        self._ready.put_nowait(_result(graph, run, run_id))

    async def _read_end(self, record: RunRecord, run_id: str) -> None:
        """Tell how a run ended that is not fully in memory; it may have been deleted, or replayed, meanwhile."""
        try:
            run = await self._results.reader.read(record)
        except Refused as error:
            self._ready.put_nowait(_lost(run_id, f"run {run_id} can't be read: {error.message}"))
            return
        if run is None:
            self._ready.put_nowait(_deleted(run_id))
        elif record.is_final:
            self._put_end(record, run, run_id)
        else:
            self.add(run_id)

    async def _look_up(self, run_id: str) -> None:
        """Look a run up in the API server, which is authoritative; our memory may be a moment behind."""
        namespace = self.caller.namespace
        try:
            obj = await self._results.look_up(namespace, run_id)
        except Refused as error:
            self._ready.put_nowait(_lost(run_id, f"run {run_id} can't be read: {error.message}"))
            return
        if obj is None:
            unknown = _lost(run_id, f"run {run_id} was deleted, or never existed")
            self._ready.put_nowait(replace(unknown, is_unknown=True))
            return
        self._results.observer.observe("MODIFIED", obj)
        if self._results.observer.is_of_another(str(obj["metadata"]["uid"])):  # type: ignore[index]  # an object has them
            self._ready.put_nowait(
                _lost(run_id, f"run {run_id} is run by another controller (spec.managedBy); ask that")
            )
        elif self._results.store.find(namespace, run_id) is None:  # deleted between the two
            self._ready.put_nowait(_deleted(run_id))
        else:
            self.add(run_id)

    def finished(self, record: RunRecord) -> None:
        for run_id in self._end(record):
            self._tell_end(record, run_id)

    def deleted(self, record: RunRecord) -> None:
        for run_id in self._end(record):
            lost = record.light.lost if record.light is not None else ""
            self._ready.put_nowait(_lost(run_id, lost) if lost else _deleted(run_id))

    def _end(self, record: RunRecord, *, heard_it: bool = True) -> set[str]:
        """Stop awaiting a run; return the ids by which it was awaited."""
        record.awaited_by.discard(self)
        asked_for = self._awaited.pop(record, set())
        self._results.end_waiting(record, heard_it=heard_it)
        return asked_for

    def tell(self, result: RunResult) -> None:
        """Send a result that was delayed."""
        self._ready.put_nowait(result)

    async def results(self) -> AsyncIterator[list[RunResult]]:
        """Yield results as they come, those that are there by then together."""
        while True:
            found = [await self._ready.get()]
            while not self._ready.empty() and len(found) < _MOST_TOGETHER:
                found.append(self._ready.get_nowait())
            yield found

    def close(self) -> None:
        """Close the stream: its client went away, or asks again on another stream."""
        for task in self._looking:
            task.cancel()
        for record in list(self._awaited):
            self._end(record, heard_it=False)


class Results:
    """Opens streams, and tells the queue which steps wait for their own children."""

    def __init__(
        self,
        api: Api,
        store: RunStore,
        *,
        observer: RunObserver,
        reader: RunReader,
        graph_of: Callable[[ObjectRef], Graph | None],
        clock: Clock,
        slot_changed: Callable[[Attempt], None],
    ) -> None:
        self.api = api
        self.store = store
        self.observer = observer
        self.reader = reader
        self.graph_of = graph_of
        self._clock = clock
        self._slot_changed = slot_changed

    async def look_up(self, namespace: str, run_id: str) -> dict[str, object] | None:
        """Read a run by its name or UID from the API server; None: there is none.

        Objects can't be read by UID, so all are listed, but only for a run that we don't know, which is rare.
        """
        api = self.api
        with suppress(NotFound):
            return await api.until_answered(api.get, RUNS, namespace, run_id)
        if not _is_uid(run_id) or self.store.was_deleted(run_id):
            return None
        items, _ = await api.until_answered(api.list_all, RUNS, namespace)
        return next((item for item in items if item["metadata"]["uid"] == run_id), None)

    def run_changed(self, change: RunChange) -> None:
        """React to a change: tell the clients that await the run of its end."""
        record = change.record
        if change.gone or change.ended:
            for listener in list(record.awaited_by):
                (listener.deleted if change.gone else listener.finished)(record)

    def open(self, caller: Caller) -> ResultStream:
        return ResultStream(self, caller)

    def begin_waiting(self, child: RunRecord) -> None:
        attempt = self._spawning_attempt(child)
        if attempt is not None and _is_awaited_by(attempt, child):
            attempt.change_slot(lambda: attempt.awaits.add(child.ref))
            self._slot_changed(attempt)

    def end_waiting(self, child: RunRecord, *, heard_it: bool) -> None:
        """Note that a run is no longer awaited: it is over, or its client went away and may be dead."""
        attempt = self._spawning_attempt(child)
        if attempt is not None and not _is_awaited_by(attempt, child):
            if attempt.awaits and not heard_it:
                attempt.waited_until = self._clock.loop_time()
            attempt.change_slot(lambda: attempt.awaits.discard(child.ref))
            self._slot_changed(attempt)  # with one waiting parent fewer, roots may be taken again

    def resume_waiting(self, parent: RunRecord) -> None:
        """Resume a parent's attempt that was found again after a restart; its children may be awaited already."""
        for child in self.store.unfinished_children_of(parent.uid):
            self.begin_waiting(child)

    def _spawning_attempt(self, child: RunRecord) -> Attempt | None:
        parent_ref = child.run.spec.parent
        parent = self.store.by_uid(parent_ref.uid) if parent_ref else None
        return parent.attempts.get(parent_ref.step) if parent and parent_ref else None


def _is_awaited_by(attempt: Attempt, child: RunRecord) -> bool:
    """Whether the worker with the attempt awaits this child of it: if others do, that does not free its slot."""
    return any(attempt.is_of(stream.caller) for stream in child.awaited_by)


def _result(graph: Graph | None, run: WorkflowRun, run_id: str) -> RunResult:
    on_failure = graph.on_failure.name if graph and graph.on_failure else None
    steps = run_results(run, on_failure=on_failure, api=graph.client_api if graph else None)
    return RunResult(run=run_id, phase=run.status.phase.value, steps=steps)


def _is_uid(run_id: str) -> bool:
    try:
        uuid.UUID(run_id)
    except ValueError:
        return False
    return True


def _deleted(name: str) -> RunResult:
    return _lost(name, f"run {name} was deleted")


def _lost(name: str, error: str) -> RunResult:
    return RunResult(run=name, phase=DELETED, steps=[StepResult(step="", attempt_id="", error=error)])
