"""The service by which programs find runs of their namespace, read them and act on them: translated to engine calls."""

import asyncio
from collections.abc import Mapping

import grpc
import orjson

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.acts import Act, Verdict
from hatchet_operator.decisions.inputs import input_text
from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.dispatcher.calls import unary
from hatchet_operator.dispatcher.payloads import message_problem, texts_of
from hatchet_operator.dispatcher.stamps import stamp_of, valid_time_of
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import InvalidRequest, UnknownObject
from hatchet_operator.resources.limits import MAX_BULK_ITEMS
from hatchet_operator.resources.names import workflow_object_name
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_sdk.contracts import runs_pb2 as wire
from hatchet_sdk.contracts.runs_pb2_grpc import RunsServicer, add_RunsServicer_to_server

_PAGE = 100
_ACTS = {
    wire.CANCEL: Act.CANCEL,
    wire.RETRY: Act.RETRY,
    wire.REPLAY: Act.REPLAY,
    wire.SUSPEND: Act.SUSPEND,
    wire.RESUME: Act.RESUME,
}


class _Runs(RunsServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.callers = engine.callers

    @unary
    async def ListRuns(self, request: wire.ListRunsRequest, caller: Caller) -> wire.ListRunsResponse:
        if not 0 <= request.limit <= MAX_BULK_ITEMS:
            raise InvalidRequest(f"limit is {request.limit}; expected 1 to {MAX_BULK_ITEMS}, or 0 for {_PAGE}")
        page = await self._engine.asked.page(
            caller.namespace, _filter(request), limit=request.limit or _PAGE, token=request.page_token
        )
        return wire.ListRunsResponse(runs=map(_run, page.runs), next_page_token=page.next_token)

    @unary
    async def GetRun(self, request: wire.GetRunRequest, caller: Caller) -> wire.GetRunResponse:
        found = await self._engine.find_run(caller, request.name)
        if found is None:
            raise UnknownObject(f'there is no run "{request.name}" in namespace "{caller.namespace}"')
        run, _ = found
        texts = await texts_of(self._engine, caller, run)
        given = input_text(run.spec)
        steps = [_step(name, state, texts) for name, state in run.status.steps.items()]
        answer = wire.GetRunResponse(run=_run(run), input=texts.get(given, given), steps=steps)
        if (problem := message_problem(answer.ByteSize(), f"What run {run.ref} was given and returned")) is not None:
            raise InvalidRequest(problem)
        return answer

    @unary
    async def ActOnRuns(self, request: wire.ActOnRunsRequest, caller: Caller) -> wire.ActOnRunsResponse:
        act = _ACTS.get(request.act)
        if act is None:
            raise InvalidRequest(f"act {request.act} is unknown; expected one of {', '.join(Act)}")
        if not 1 <= len(request.names) <= MAX_BULK_ITEMS:
            raise InvalidRequest(f"{len(request.names)} runs in one call; expected 1 to {MAX_BULK_ITEMS}")
        done = await asyncio.gather(*(self._act(caller, act, name) for name in request.names))
        return wire.ActOnRunsResponse(results=[result for results in done for result in results])

    async def _act(self, caller: Caller, act: Act, asked: str) -> list[wire.ActResult]:
        done = await self._engine.asked.act(caller.namespace, act, asked)
        if isinstance(done, str):
            return [wire.ActResult(asked=asked, name=asked, outcome=wire.NOT_FOUND, message=done)]
        return [
            wire.ActResult(
                asked=asked,
                name=each.run.name,
                outcome=_outcome(each.verdict),
                message=f"run {each.run.name} {each.verdict.says}",
            )
            for each in done
        ]


def _outcome(verdict: Verdict) -> wire.Outcome.ValueType:
    if verdict.is_refused:
        return wire.REFUSED
    return wire.UNCHANGED if verdict.patch is None else wire.DONE


def _filter(request: wire.ListRunsRequest) -> RunFilter:
    try:
        phases = tuple(map(Phase, request.phases))
        workflow = workflow_object_name(request.workflow) if request.HasField("workflow") else None
    except ValueError as error:
        expected = f" (phases: {', '.join(Phase)})" if "Phase" in str(error) else ""
        raise InvalidRequest(f"{error}{expected}") from error
    return RunFilter(
        workflow=workflow,
        phases=phases,
        since=valid_time_of(request.since, "since") if request.HasField("since") else None,
        until=valid_time_of(request.until, "until") if request.HasField("until") else None,
        metadata=dict(request.metadata),
        tree=request.tree or None,
    )


def _run(run: WorkflowRun) -> wire.Run:
    status, spec = run.status, run.spec
    told = wire.Run(
        name=run.metadata.name,
        uid=run.metadata.uid,
        workflow=spec.workflow,
        phase=status.phase.value,
        reason=status.reason or "",
        message=status.message or "",
        created_at=stamp_of(run.metadata.creation_timestamp),
        started_at=stamp_of(status.started_at),
        finished_at=stamp_of(status.finished_at),
        reruns=status.reruns,
        suspended=spec.suspended,
        cancelled=spec.cancelled,
        additional_metadata=orjson.dumps(spec.additional_metadata or {}).decode(),
    )
    if spec.parent is not None:
        told.parent, told.parent_step = spec.parent.name, spec.parent.step
        if spec.parent.key is not None:
            told.parent_key = spec.parent.key
    if (children := status.children) is not None:
        told.children, told.children_succeeded = children.total, children.succeeded
        told.children_failed, told.children_cancelled = children.failed, children.cancelled
    return told


def _step(name: str, state: StepStatus, texts: Mapping[str, str]) -> wire.Step:
    return wire.Step(
        name=name,
        phase=state.phase.value,
        reason=state.reason or "",
        attempt=state.attempt,
        worker=state.worker or "",
        error=state.error,
        output=None if state.output is None else texts.get(state.output, state.output),
        started_at=stamp_of(state.started_at),
        finished_at=stamp_of(state.finished_at),
    )


def add_service(engine: Engine, server: grpc.aio.Server) -> None:
    """Register this service with a server."""
    add_RunsServicer_to_server(_Runs(engine), server)
