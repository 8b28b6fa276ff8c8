"""The operator's service for runs: the calls of `Runs`, to the wire and back. Used in the I/O thread."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from hatchet_sdk._client.arguments import checked_number, checked_text, in_utc
from hatchet_sdk._client.connection import Connection
from hatchet_sdk._client.io_thread import IoThread
from hatchet_sdk._client.runs import Run, RunActResult, RunActResults, RunDetails, RunFilter, RunPage, RunStep
from hatchet_sdk.contracts import runs_pb2 as wire
from hatchet_sdk.errors import RunNotFound

_ACTS_IN_ONE_CALL = 100
_MOST_OF_A_PAGE = 1000


class RunCalls:
    """Asks one operator; every method may be called from any thread and returns a future.

    Args:
        io: The thread in which calls are made.
        connection: The connection to the operator.
        prefixed: Prefixes a workflow's name with the namespace of the configuration.
        patience_seconds: When a call gives up.
    """

    def __init__(
        self, io: IoThread, connection: Connection, *, prefixed: Callable[[str], str], patience_seconds: float
    ) -> None:
        self._io = io
        self._connection = connection
        self._prefixed = prefixed
        self._patience_seconds = patience_seconds

    def list(self, which: RunFilter, *, limit: int, page: str | None) -> Future[RunPage]:
        if not isinstance(which, RunFilter):
            raise TypeError(f"runs.list: which is {which!r} (expected a RunFilter)")
        most = _MOST_OF_A_PAGE
        checked_number(limit, what="runs.list: limit", expected=f"1 to {most}", least=1, most=most)
        if page is not None:
            checked_text(page, what="runs.list: page")
        return self._io.submit(self._list(which, limit=limit, page=page))

    def get(self, run_id: str) -> Future[RunDetails]:
        return self._io.submit(self._get(_checked_id(run_id)))

    def act(self, act: str, run_ids: Sequence[str]) -> Future[RunActResults]:
        return self._io.submit(self._act(act, [_checked_id(each) for each in run_ids]))

    def act_on_many(self, act: str, runs: Sequence[str] | RunFilter) -> Future[RunActResults]:
        if not isinstance(runs, RunFilter):
            if isinstance(runs, str) or not isinstance(runs, Sequence):
                raise TypeError(f"runs is {runs!r} (expected a list of ids of runs, or a RunFilter)")
            runs = [_checked_id(each) for each in runs]
        return self._io.submit(self._act_on_many(act, runs))

    async def _list(self, which: RunFilter, *, limit: int, page: str | None) -> RunPage:
        request = _list_request(which, limit=limit, page=page, prefixed=self._prefixed)
        return _page_of(await self._call(self._connection.runs.ListRuns, request))

    async def _get(self, run_id: str) -> RunDetails:
        return _details_of(await self._call(self._connection.runs.GetRun, wire.GetRunRequest(name=run_id)))

    async def _act(self, act: str, run_ids: Sequence[str]) -> RunActResults:
        request = wire.ActOnRunsRequest(act=wire.Act.Value(act), names=run_ids)
        return _results_of(await self._call(self._connection.runs.ActOnRuns, request))

    async def _act_on_many(self, act: str, runs: Sequence[str] | RunFilter) -> RunActResults:
        names = await self._all_of(runs) if isinstance(runs, RunFilter) else runs
        return [result for part in _in_parts(names) for result in await self._act(act, part)]

    async def _all_of(self, which: RunFilter) -> Sequence[str]:
        """Find all runs first: acting on some of them changes which ones match."""
        page = await self._list(which, limit=_MOST_OF_A_PAGE, page=None)
        found = [run.run_id for run in page.runs]
        while page.next_page is not None:
            page = await self._list(which, limit=_MOST_OF_A_PAGE, page=page.next_page)
            found += [run.run_id for run in page.runs]
        return found

    async def _call(self, method: Any, request: Any) -> Any:
        missing = {StatusCode.NOT_FOUND: RunNotFound}
        return await self._connection.call(method, request, patience_seconds=self._patience_seconds, refusals=missing)


def _checked_id(run_id: object) -> str:
    return checked_text(run_id, what="the id of a run")


def _list_request(
    which: RunFilter, *, limit: int, page: str | None, prefixed: Callable[[str], str]
) -> wire.ListRunsRequest:
    request = wire.ListRunsRequest(
        workflow=prefixed(which.workflow) if which.workflow else None,
        phases=which.phases,
        metadata=dict(which.metadata),
        tree=which.tree,
        limit=limit,
        page_token=page or "",
    )
    for name, at in (("since", which.since), ("until", which.until)):
        if at is not None:
            getattr(request, name).FromDatetime(in_utc(at, what=f"RunFilter: {name}"))
    return request


def _page_of(answer: wire.ListRunsResponse) -> RunPage:
    return RunPage(runs=[_run_of(run) for run in answer.runs], next_page=answer.next_page_token or None)


def _run_of(run: wire.Run) -> Run:
    return Run(
        run_id=run.name,
        uid=run.uid,
        workflow=run.workflow,
        phase=run.phase,
        reason=run.reason,
        message=run.message,
        created_at=run.created_at.ToDatetime(UTC),
        started_at=_time(run.started_at) if run.HasField("started_at") else None,
        finished_at=_time(run.finished_at) if run.HasField("finished_at") else None,
        parent_run_id=run.parent if run.HasField("parent") else None,
        parent_step=run.parent_step if run.HasField("parent_step") else None,
        key=run.parent_key if run.HasField("parent_key") else None,
        reruns=run.reruns,
        is_suspended=run.suspended,
        is_cancelled=run.cancelled,
        additional_metadata=json.loads(run.additional_metadata or "{}"),
        children={
            "total": run.children,
            "succeeded": run.children_succeeded,
            "failed": run.children_failed,
            "cancelled": run.children_cancelled,
        },
    )


def _details_of(answer: wire.GetRunResponse) -> RunDetails:
    return RunDetails(
        run=_run_of(answer.run),
        input=json.loads(answer.input or "{}"),
        steps={step.name: _step_of(step) for step in answer.steps},
    )


def _step_of(step: wire.Step) -> RunStep:
    return RunStep(
        name=step.name,
        phase=step.phase,
        reason=step.reason,
        attempt=step.attempt,
        worker=step.worker,
        error=step.error if step.HasField("error") else None,
        output=json.loads(step.output) if step.HasField("output") else None,
        started_at=_time(step.started_at) if step.HasField("started_at") else None,
        finished_at=_time(step.finished_at) if step.HasField("finished_at") else None,
    )


def _results_of(answer: wire.ActOnRunsResponse) -> list[RunActResult]:
    return [
        RunActResult(run_id=result.name, outcome=wire.Outcome.Name(result.outcome).lower(), message=result.message)
        for result in answer.results
    ]


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def _in_parts(run_ids: Sequence[str]) -> list[Sequence[str]]:
    """Split many ids into the calls in which they are sent."""
    return [run_ids[at : at + _ACTS_IN_ONE_CALL] for at in range(0, len(run_ids), _ACTS_IN_ONE_CALL)]
