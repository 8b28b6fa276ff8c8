"""Who awaits which run.

A stream asks for runs by name or UID and gets each one's end once, at once if it is over already. Whoever awaits a run
that is not there, or is deleted meanwhile, is told so: nobody waits for ever. While the step that spawned a run has it
awaited, the step occupies no slot, so that parents cannot starve their children.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.results import StepResult, run_results
from hatchet_operator.engine.records import Attempt, RunRecord, RunStore
from hatchet_operator.errors import NotFound, Refused
from hatchet_operator.identity import Caller
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun

DELETED = "Deleted"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended: its phase, or Deleted."""

    run: str
    phase: str
    steps: list[StepResult]


class ResultStream:
    """The runs that one client awaits."""

    def __init__(self, results: "Results", caller: Caller) -> None:
        self._results = results
        self.caller = caller
        self._ready: asyncio.Queue[RunResult] = asyncio.Queue()
        self._awaited: dict[RunRecord, set[str]] = {}  # by which ids each was asked for
        self._looking: set[asyncio.Task[None]] = set()

    def add(self, run_id: str) -> None:
        """Await one more run, by its name or UID; it is told of by the same."""
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
        self._ready.put_nowait(_result(record, run, run_id))

    async def _read_end(self, record: RunRecord, run_id: str) -> None:
        """Tell how a run ended of which memory has not all; it may have been deleted, or run again, meanwhile."""
        try:
            run = await self._results.read(record)
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
        """Our memory may be a moment behind; what counts is what the API server has."""
        namespace = self.caller.namespace
        try:
            obj = await self._results.look_up(namespace, run_id)
        except Refused as error:
            self._ready.put_nowait(_lost(run_id, f"run {run_id} can't be read: {error.message}"))
            return
        if obj is None:
            self._ready.put_nowait(_lost(run_id, f"run {run_id} was deleted, or there never was one"))
            return
        self._results.observe("MODIFIED", obj)
        if self._results.store.find(namespace, run_id) is None:  # deleted between the two
            self._ready.put_nowait(_deleted(run_id))
        else:
            self.add(run_id)

    def finished(self, record: RunRecord) -> None:
        for run_id in self._end(record):
            self._tell_end(record, run_id)

    def deleted(self, record: RunRecord) -> None:
        for run_id in self._end(record):
            self._ready.put_nowait(_deleted(run_id))

    def _end(self, record: RunRecord, *, heard_it: bool = True) -> set[str]:
        """Await a run no more; return by which ids it was."""
        record.awaited_by.discard(self)
        asked_for = self._awaited.pop(record, set())
        self._results.end_waiting(record, heard_it=heard_it)
        return asked_for

    async def results(self) -> AsyncIterator[RunResult]:
        while True:
            yield await self._ready.get()

    def close(self) -> None:
        """The client went away, or asks anew on another stream."""
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
        observe: Callable[[str, dict[str, object]], None],
        read: Callable[[RunRecord], Awaitable[WorkflowRun | None]],
        slot_changed: Callable[[Attempt], None],
    ) -> None:
        self.api = api
        self.store = store
        self.observe = observe
        self.read = read
        self._slot_changed = slot_changed

    async def look_up(self, namespace: str, run_id: str) -> dict[str, object] | None:
        """Read a run by its name or UID from the API server; None: there is none.

        No object can be read by its UID, so all are listed: for one that we don't know, which is rare.
        """
        api = self.api
        with suppress(NotFound):
            return await api.until_answered(api.get, RUNS, namespace, run_id)
        if not _is_uid(run_id) or self.store.was_deleted(run_id):
            return None
        items, _ = await api.until_answered(api.list_all, RUNS, namespace)
        return next((item for item in items if item["metadata"]["uid"] == run_id), None)

    def open(self, caller: Caller) -> ResultStream:
        return ResultStream(self, caller)

    def begin_waiting(self, child: RunRecord) -> None:
        attempt = self._spawning_attempt(child)
        if attempt is not None and _is_awaited_by(attempt, child):
            attempt.change_slot(lambda: attempt.awaits.add(child.ref))
            self._slot_changed(attempt)

    def end_waiting(self, child: RunRecord, *, heard_it: bool) -> None:
        """Nobody awaits a run any more: it is over, or its client went away and may be dead."""
        attempt = self._spawning_attempt(child)
        if attempt is not None and not _is_awaited_by(attempt, child):
            if attempt.awaits and not heard_it:
                attempt.waited_until = asyncio.get_running_loop().time()
            attempt.change_slot(lambda: attempt.awaits.discard(child.ref))
            self._slot_changed(attempt)  # with one parent less that waits, roots may be taken again

    def resume_waiting(self, parent: RunRecord) -> None:
        """A parent's attempt was found again after a restart; its children may be awaited already."""
        for child in self.store.unfinished_children_of(parent.uid):
            self.begin_waiting(child)

    def _spawning_attempt(self, child: RunRecord) -> Attempt | None:
        parent_ref = child.run.spec.parent
        parent = self.store.by_uid(parent_ref.uid) if parent_ref else None
        return parent.attempts.get(parent_ref.step) if parent and parent_ref else None


def _is_awaited_by(attempt: Attempt, child: RunRecord) -> bool:
    """Whether the one who has the attempt awaits this child of it: others may, and that frees no slot of it."""
    return any(attempt.is_of(stream.caller) for stream in child.awaited_by)


def _result(record: RunRecord, run: WorkflowRun, run_id: str) -> RunResult:
    on_failure = record.graph.on_failure.name if record.graph and record.graph.on_failure else None
    phase: Phase = run.status.phase
    return RunResult(run=run_id, phase=phase.value, steps=run_results(run, on_failure=on_failure))


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
