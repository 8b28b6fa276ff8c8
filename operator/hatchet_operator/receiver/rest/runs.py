"""Runs over the REST API: found, listed, counted, started, cancelled and replayed, for both generations of clients."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from aiohttp import web

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.acts import Act
from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.spawning.trigger import Trigger, check_dedupe
from hatchet_operator.errors import InvalidRequest, UnknownObject
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.receiver.rest import v0, v1
from hatchet_operator.receiver.rest.calls import (
    Call,
    Unserved,
    answer,
    flag_of,
    metadata_of,
    page_of,
    phases_of,
    time_of,
)
from hatchet_operator.receiver.rest.known_runs import KnownRuns, event_of, whole_seconds
from hatchet_operator.receiver.rest.models import (
    ActedOn,
    ReplayedRuns,
    RunIds,
    StatusCount,
    TaskSummary,
    TaskSummaryList,
    TriggerRequest,
    TriggerRunRequest,
    WorkflowRunList,
)
from hatchet_operator.resources.limits import size_problem
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.run import WorkflowRun

_PRIORITIES = (1, 3)


class Runs:
    """Calls about runs.

    Args:
        engine: Knows them.
        bounds: Of what it answers.
    """

    def __init__(self, engine: Engine, bounds: Bounds) -> None:
        self._engine = engine
        self._answer_bytes = bounds.answer_bytes
        self._known = KnownRuns(engine, bounds)

    # --- Clients before 1.0

    async def v0_get(self, call: Call) -> web.Response:
        return answer(v0.shown(await self._known.whole(call, call.path["run"])))

    async def v0_list(self, call: Call) -> web.Response:
        query, page = call.query, page_of(call.query)
        wanted = RunFilter(
            workflow=self._known.workflow_name(call, query.get("workflowId")),
            phases=phases_of(query.getall("statuses", []), v0.STATUSES),
            since=whole_seconds(time_of(query.get("createdAfter"), "createdAfter")),
            until=time_of(query.get("createdBefore"), "createdBefore"),
            metadata=metadata_of(query.getall("additionalMetadata", [])),
            event=event_of(query.get("eventId")),
        )
        of_run, of_step = query.get("parentWorkflowRunId"), query.get("parentStepRunId")
        if of_step or of_run:
            wanted = self._known.below(call, wanted, of_step or of_run or "")
        rows, total = await self._engine.asked.newest(
            call.namespace,
            wanted,
            skip=page.skip,
            limit=page.limit,
            show=lambda run: v0.shown(self._known.seen(call.caller, run, with_payloads=False), whole=False),
        )
        return answer(WorkflowRunList(rows=tuple(rows), pagination=page.shown(total)))

    async def v0_cancel(self, call: Call) -> web.Response:
        asked = await call.body(RunIds)
        return answer(RunIds(workflow_run_ids=tuple(await self._act(call, Act.CANCEL, asked.workflow_run_ids))))

    async def v0_replay(self, call: Call) -> web.Response:
        asked = await call.body(RunIds)
        done = await self._act(call, Act.REPLAY, asked.workflow_run_ids)
        runs = await asyncio.gather(*(self._engine.find_run(call.caller, uid) for uid in done))
        seen = [self._known.seen(call.caller, run, with_payloads=False) for run, _ in filter(None, runs)]
        return answer(ReplayedRuns(workflow_runs=tuple(v0.shown(each, whole=False) for each in seen)))

    async def v0_trigger(self, call: Call) -> web.Response:
        asked = await call.body(TriggerRequest)
        name = self._known.workflow_name(call, call.path["workflow"]) or call.path["workflow"]
        workflow = self._engine.workflows.get(ObjectRef(call.namespace, name))
        exact = workflow.exact_name if workflow is not None else name
        run_id = await self._engine.trigger(
            run_wanted(call.caller, exact, asked.input, asked.additional_metadata, priority=None)
        )
        return answer(v0.shown(await self._known.whole(call, run_id)))

    # --- Clients from 1.0 on

    async def v1_get(self, call: Call) -> web.Response:
        return answer(v1.details(await self._known.whole(call, call.path["run"])))

    async def v1_status(self, call: Call) -> web.Response:
        run, _ = await self._known.find(call, call.path["run"])
        return _json(v1.status_name(run.status.phase))

    async def v1_task(self, call: Call) -> web.Response:
        run_uid, step = self._known.place(call, call.path["task"])
        seen = await self._known.whole(call, run_uid)
        if step is None and not seen.is_one_task:
            raise InvalidRequest(f"{call.path['task']} is a run of {len(seen.steps)} tasks; ask for it, or for one")
        return answer(v1.task(seen, step or seen.steps[0]))

    async def v1_list(self, call: Call) -> web.Response:
        query, page = call.query, page_of(call.query)
        _refuse_unserved(query)
        only_tasks = flag_of(query, "only_tasks", False)
        with_payloads = flag_of(query, "include_payloads", True)
        left = self._answer_bytes

        def show(run: WorkflowRun) -> tuple[TaskSummary, ...]:
            nonlocal left
            left -= _size_of(run) if with_payloads else 0
            if left < 0:
                raise InvalidRequest(
                    f"the inputs and outputs of this page have more than {self._answer_bytes} bytes: ask for fewer "
                    "runs at a time, or without these (include_payloads=False)"
                )
            seen = self._known.seen(call.caller, run, with_payloads=with_payloads)
            return v1.tasks(seen) if only_tasks else (v1.row(seen),)

        shown, total = await self._engine.asked.newest(
            call.namespace, self._known.v1_filter(call), skip=page.skip, limit=page.limit, show=show
        )
        rows = tuple(row for rows in shown for row in rows)
        return answer(TaskSummaryList(rows=rows, pagination=page.shown(total)))

    async def v1_ids(self, call: Call) -> web.Response:
        return _json(await self._engine.asked.ids(call.namespace, self._known.v1_filter(call)))

    async def v1_counts(self, call: Call) -> web.Response:
        """Count runs by status: a run of several tasks counts once."""
        wanted = self._known.v1_filter(call)
        if wanted.needs_object:
            phases, _ = await self._engine.asked.newest(
                call.namespace, wanted, skip=0, limit=len(self._engine.store), show=lambda run: run.status.phase
            )
        else:
            phases = [record.phase for record in await self._engine.asked.matching(call.namespace, wanted)]
        counted = Counter(phases)
        return _json([StatusCount(status=name, count=counted[of]).model_dump() for name, of in v1.STATUSES.items()])

    async def v1_cancel(self, call: Call) -> web.Response:
        return answer(ActedOn(ids=tuple(await self._act(call, Act.CANCEL, await self._known.meant(call)))))

    async def v1_replay(self, call: Call) -> web.Response:
        return answer(ActedOn(ids=tuple(await self._act(call, Act.REPLAY, await self._known.meant(call)))))

    async def v1_trigger(self, call: Call) -> web.Response:
        asked = await call.body(TriggerRunRequest)
        run_id = await self._engine.trigger(
            run_wanted(
                call.caller,
                asked.workflow_name,
                asked.input,
                asked.additional_metadata or {},
                priority=asked.priority,
            )
        )
        return answer(v1.details(await self._known.whole(call, run_id)))

    async def _act(self, call: Call, act: Act, asked: Iterable[str]) -> list[str]:
        """Cancel or replay runs; return the ids of those that it has an effect on.

        Raises:
            UnknownObject: None of them is known.
            InvalidRequest: None of them can be replayed. A run that is over is not cancelled, and that is no error.
        """
        places = {each: self._known.place_or_error(call, each) for each in asked}
        if places and all(isinstance(place, UnknownObject) for place in places.values()):
            raise next(place for place in places.values() if isinstance(place, UnknownObject))
        uids = list(dict.fromkeys(place for place in places.values() if isinstance(place, str)))
        done = await asyncio.gather(*(self._engine.asked.act(call.namespace, act, uid) for uid in uids))
        effective, refused = [], []
        for uid, results in zip(uids, done, strict=True):
            if isinstance(results, str):
                refused.append(results)
            elif any(not each.verdict.is_refused for each in results):
                effective.append(uid)
            else:
                refused += [f"run {each.run.name} {each.verdict.says}" for each in results]
        if act is Act.REPLAY and refused and not effective:
            raise InvalidRequest(refused[0])
        return effective


def run_wanted(
    caller: Caller, workflow: str, given: dict[str, Any], metadata: dict[str, Any], *, priority: int | None
) -> Trigger:
    """Read a request for a run.

    Raises:
        InvalidRequest: A part of it makes no sense.
    """
    what, of_metadata = f'input for workflow "{workflow}"', f'metadata for workflow "{workflow}"'
    text, said = orjson.dumps(given).decode(), orjson.dumps(metadata).decode()
    for each, name in ((text, what), (said, of_metadata)):
        if (problem := size_problem(len(each.encode()), name)) is not None:
            raise InvalidRequest(problem)
        parse_object(each, what=name)
    check_dedupe(metadata, what=of_metadata)
    lowest, highest = _PRIORITIES
    return Trigger(
        caller=caller,
        workflow=workflow,
        input_json=text,
        metadata=metadata,
        priority=None if priority is None else min(max(priority, lowest), highest),
    )


def _refuse_unserved(query: Mapping[str, str]) -> None:
    for name in ("worker_id", "idempotency_keys"):
        if query.get(name):
            raise Unserved(f"runs can't be listed by {name} here; docs/published-sdk.md says what is served")


def _size_of(run: WorkflowRun) -> int:
    """Return about how large what a run was given and returned is, in bytes."""
    given = run.spec.input_json
    size = len(given) if given is not None else len(orjson.dumps(run.spec.input or {}))
    return size + sum(len(state.output or "") for state in run.status.steps.values())


def _json(value: list[Any] | str) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
