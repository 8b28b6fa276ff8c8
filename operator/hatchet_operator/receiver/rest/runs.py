"""Runs over the REST API: found, listed, counted, started, cancelled and replayed, for both generations of clients."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.acts import Act
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.payloads.texts import references_of
from hatchet_operator.engine.spawning.trigger import Trigger, check_dedupe
from hatchet_operator.errors import InvalidRequest, UnknownObject
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
from hatchet_operator.receiver.rest.models import (
    ActedOn,
    ActRequest,
    ReplayedRuns,
    RunIds,
    StatusCount,
    TaskFilter,
    TaskSummary,
    TaskSummaryList,
    TriggerRequest,
    TriggerRunRequest,
    WorkflowRunList,
)
from hatchet_operator.receiver.rest.sight import NO_TEXTS, SeenRun, step_names, task_id_of
from hatchet_operator.resources.limits import MAX_BULK_ITEMS, MAX_MESSAGE_BYTES, size_problem
from hatchet_operator.resources.names import ObjectRef, event_label, runs_of_task
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.run import WorkflowRun
from hatchet_sdk.payloads.reference import BadReference, reference_in
from hatchet_sdk.payloads.store import PayloadError

_PRIORITIES = (1, 3)
_UUID = 36
_ROOM = 4 * MAX_MESSAGE_BYTES


class Runs:
    """Calls about runs.

    Args:
        engine: Knows them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- Clients before 1.0

    async def v0_get(self, call: Call) -> web.Response:
        return answer(v0.shown(await self._seen_whole(call, call.path["run"])))

    async def v0_list(self, call: Call) -> web.Response:
        query, page = call.query, page_of(call.query)
        wanted = RunFilter(
            workflow=self._workflow_name(call, query.get("workflowId")),
            phases=phases_of(query.getall("statuses", []), v0.STATUSES),
            since=_whole_seconds(time_of(query.get("createdAfter"), "createdAfter")),
            until=time_of(query.get("createdBefore"), "createdBefore"),
            metadata=metadata_of(query.getall("additionalMetadata", [])),
            event=_event(query.get("eventId")),
        )
        of_run, of_step = query.get("parentWorkflowRunId"), query.get("parentStepRunId")
        if of_step or of_run:
            wanted = self._below(call, wanted, of_step or of_run or "")
        rows, total = await self._engine.asked.newest(
            call.namespace,
            wanted,
            skip=page.skip,
            limit=page.limit,
            show=lambda run: v0.shown(self._seen(call.caller, run, with_payloads=False), whole=False),
        )
        return answer(WorkflowRunList(rows=tuple(rows), pagination=page.shown(total)))

    async def v0_cancel(self, call: Call) -> web.Response:
        asked = await call.body(RunIds)
        return answer(RunIds(workflow_run_ids=tuple(await self._act(call, Act.CANCEL, asked.workflow_run_ids))))

    async def v0_replay(self, call: Call) -> web.Response:
        asked = await call.body(RunIds)
        done = await self._act(call, Act.REPLAY, asked.workflow_run_ids)
        runs = await asyncio.gather(*(self._engine.find_run(call.caller, uid) for uid in done))
        seen = [self._seen(call.caller, run, with_payloads=False) for run, _ in filter(None, runs)]
        return answer(ReplayedRuns(workflow_runs=tuple(v0.shown(each, whole=False) for each in seen)))

    async def v0_trigger(self, call: Call) -> web.Response:
        asked = await call.body(TriggerRequest)
        name = self._workflow_name(call, call.path["workflow"]) or call.path["workflow"]
        workflow = self._engine.workflows.get(ObjectRef(call.namespace, name))
        exact = workflow.exact_name if workflow is not None else name
        run_id = await self._engine.trigger(
            run_wanted(call.caller, exact, asked.input, asked.additional_metadata, priority=None)
        )
        return answer(v0.shown(await self._seen_whole(call, run_id)))

    # --- Clients from 1.0 on

    async def v1_get(self, call: Call) -> web.Response:
        return answer(v1.details(await self._seen_whole(call, call.path["run"])))

    async def v1_status(self, call: Call) -> web.Response:
        run, _ = await self._find(call, call.path["run"])
        return _json(v1.status_name(run.status.phase))

    async def v1_task(self, call: Call) -> web.Response:
        run_uid, step = self._place(call, call.path["task"])
        seen = await self._seen_whole(call, run_uid)
        if step is None and not seen.is_one_task:
            raise InvalidRequest(f"{call.path['task']} is a run of {len(seen.steps)} tasks; ask for it, or for one")
        return answer(v1.task(seen, step or seen.steps[0]))

    async def v1_list(self, call: Call) -> web.Response:
        query, page = call.query, page_of(call.query)
        _refuse_unserved(query)
        only_tasks = flag_of(query, "only_tasks", False)
        with_payloads = flag_of(query, "include_payloads", True)
        left = _ROOM

        def show(run: WorkflowRun) -> tuple[TaskSummary, ...]:
            nonlocal left
            left -= _size_of(run) if with_payloads else 0
            if left < 0:
                raise InvalidRequest(
                    f"the inputs and outputs of this page have more than {_ROOM} bytes: ask for fewer runs at a time, "
                    "or without these (include_payloads=False)"
                )
            seen = self._seen(call.caller, run, with_payloads=with_payloads)
            return v1.tasks(seen) if only_tasks else (v1.row(seen),)

        shown, total = await self._engine.asked.newest(
            call.namespace, self._v1_filter(call), skip=page.skip, limit=page.limit, show=show
        )
        rows = tuple(row for rows in shown for row in rows)
        return answer(TaskSummaryList(rows=rows, pagination=page.shown(total)))

    async def v1_ids(self, call: Call) -> web.Response:
        return _json(await self._engine.asked.ids(call.namespace, self._v1_filter(call)))

    async def v1_counts(self, call: Call) -> web.Response:
        """Count runs by status: a run of several tasks counts once."""
        wanted = self._v1_filter(call)
        if wanted.needs_object:
            phases, _ = await self._engine.asked.newest(
                call.namespace, wanted, skip=0, limit=len(self._engine.store), show=lambda run: run.status.phase
            )
        else:
            phases = [record.phase for record in await self._engine.asked.matching(call.namespace, wanted)]
        counted = Counter(phases)
        return _json([StatusCount(status=name, count=counted[of]).model_dump() for name, of in v1.STATUSES.items()])

    async def v1_cancel(self, call: Call) -> web.Response:
        return answer(ActedOn(ids=tuple(await self._act(call, Act.CANCEL, await self._meant(call)))))

    async def v1_replay(self, call: Call) -> web.Response:
        return answer(ActedOn(ids=tuple(await self._act(call, Act.REPLAY, await self._meant(call)))))

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
        return answer(v1.details(await self._seen_whole(call, run_id)))

    # --- Which runs are meant

    def _v1_filter(self, call: Call) -> RunFilter:
        query = call.query
        wanted = RunFilter(
            workflows=self._workflow_names(call, query.getall("workflow_ids", [])),
            phases=phases_of(query.getall("statuses", []), v1.STATUSES),
            since=_whole_seconds(time_of(query.get("since"), "since")),
            until=time_of(query.get("until"), "until"),
            metadata=metadata_of(query.getall("additional_metadata", [])),
            event=_event(query.get("triggering_event_external_id")),
        )
        parent = query.get("parent_task_external_id")
        return self._below(call, wanted, parent) if parent else wanted

    def _v1_filter_of(self, call: Call, asked: TaskFilter) -> RunFilter:
        return RunFilter(
            workflows=self._workflow_names(call, asked.workflow_ids or ()),
            phases=phases_of(asked.statuses or (), v1.STATUSES),
            since=_whole_seconds(asked.since),
            until=asked.until,
            metadata=metadata_of(asked.additional_metadata or ()),
        )

    async def _meant(self, call: Call) -> tuple[str, ...]:
        """Return the ids of runs, or of their tasks, that are to be cancelled or replayed."""
        asked = await call.body(ActRequest)
        if asked.external_ids is not None:
            return asked.external_ids
        if asked.filter is None:
            raise InvalidRequest("neither externalIds nor a filter says which runs are meant")
        found = await self._engine.asked.ids(call.namespace, self._v1_filter_of(call, asked.filter))
        if len(found) > MAX_BULK_ITEMS:
            raise InvalidRequest(
                f"the filter finds {len(found)} runs, and one call acts on at most {MAX_BULK_ITEMS}: narrow it, or "
                "use the calls ..._by_filters_with_pagination"
            )
        return tuple(found)

    def _workflow_name(self, call: Call, workflow_id: str | None) -> str | None:
        """Return the object name of a workflow that is named by its id, its object name or its exact name."""
        if not workflow_id:
            return None
        for ref, workflow in self._engine.workflows.in_namespace(call.namespace):
            if workflow_id in (workflow.metadata.uid, ref.name, workflow.exact_name):
                return ref.name
        raise UnknownObject(f'there is no workflow "{workflow_id}" in namespace "{call.namespace}"')

    def _workflow_names(self, call: Call, workflow_ids: Iterable[str]) -> frozenset[str] | None:
        names = [self._workflow_name(call, each) for each in workflow_ids]
        return frozenset(name for name in names if name is not None) if names else None

    def _below(self, call: Call, wanted: RunFilter, parent_id: str) -> RunFilter:
        """Narrow a filter to the children of a run, or of one of its steps."""
        uid, step = self._place(call, parent_id)
        return replace(wanted, parent_uid=uid, parent_step=step)

    def _place(self, call: Call, asked: str) -> tuple[str, str | None]:
        """Return the run, and the step of it, that an id of a run, a task or an attempt means; None: the run itself.

        Raises:
            UnknownObject: It means nothing here.
        """
        store = self._engine.store
        if (record := store.find(call.namespace, asked)) is not None:
            return record.uid, None
        attempt = self._engine.runs.attempts.get(asked)
        if attempt is not None and attempt.ref.namespace == call.namespace:
            of_attempt = store.get(attempt.ref)
            if of_attempt is not None:
                return of_attempt.uid, attempt.step.name
        for number, uid in enumerate(_runs_of(asked)):
            record = store.by_uid(uid)
            if record is not None and record.ref.namespace == call.namespace:
                graph = record.graph or self._engine.workflows.current_graph(record.workflow_ref)
                names = _names(graph, record.whole)
                if number < len(names):
                    return record.uid, names[number]
        raise UnknownObject(
            f'there is no run or task "{asked}" in namespace "{call.namespace}" (the id of an attempt means something '
            "only until its end)"
        )

    # --- What is known of them

    async def _find(self, call: Call, run_id: str) -> tuple[WorkflowRun, Graph | None]:
        found = await self._engine.find_run(call.caller, run_id)
        if found is None:
            raise UnknownObject(f'there is no run "{run_id}" in namespace "{call.namespace}"')
        return found

    async def _seen_whole(self, call: Call, run_id: str) -> SeenRun:
        """Return a run with the texts that references in it stand for."""
        run, graph = await self._find(call, run_id)
        return self._seen(call.caller, run, graph=graph, texts=await self._texts_of(call, run))

    def _seen(
        self,
        caller: Caller,
        run: WorkflowRun,
        *,
        graph: Graph | None = None,
        texts: Mapping[str, str] = NO_TEXTS,
        with_payloads: bool = True,
    ) -> SeenRun:
        workflow = self._engine.workflows.of(run)
        return SeenRun(
            run=run,
            graph=graph or self._engine.workflows.graph_of(run),
            workflow_id=workflow.metadata.uid if workflow else run.spec.workflow,
            workflow_name=workflow.exact_name if workflow else run.spec.workflow,
            parent_task_id=self._parent_task_of(caller.namespace, run),
            texts=texts,
            with_payloads=with_payloads,
        )

    def _parent_task_of(self, namespace: str, run: WorkflowRun) -> str | None:
        parent = run.spec.parent
        if parent is None:
            return None
        record = self._engine.store.by_uid(parent.uid)
        if record is None or record.ref.namespace != namespace:
            return parent.uid
        graph = record.graph or self._engine.workflows.current_graph(record.workflow_ref)
        return task_id_of(parent.uid, _names(graph, record.whole), parent.step)

    async def _texts_of(self, call: Call, run: WorkflowRun) -> Mapping[str, str]:
        references = references_of(run)
        if not references:
            return NO_TEXTS
        try:
            sizes = [reference.size for text in references if (reference := reference_in(text)) is not None]
            if sum(sizes) > _ROOM:
                raise InvalidRequest(
                    f"what run {run.ref} was given and returned has {sum(sizes)} bytes, more than the {_ROOM} that are "
                    "answered: use hatchet-operator's SDK with its extra [payloads], which reads the store itself "
                    "(docs/payloads.md)"
                )
            return await self._engine.payloads.texts(call.namespace, references)
        except (PayloadError, BadReference) as error:
            raise InvalidRequest(f"run {run.ref}: {error}") from error

    # --- Acts

    async def _act(self, call: Call, act: Act, asked: Iterable[str]) -> list[str]:
        """Cancel or replay runs; return the ids of those that it has an effect on.

        Raises:
            UnknownObject: None of them is known.
            InvalidRequest: None of them can be replayed. A run that is over is not cancelled, and that is no error.
        """
        places = {each: self._place_or_error(call, each) for each in asked}
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

    def _place_or_error(self, call: Call, asked: str) -> str | UnknownObject:
        try:
            return self._place(call, asked)[0]
        except UnknownObject as error:
            return error


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


def _whole_seconds(since: datetime | None) -> datetime | None:
    """Round down: the API server notes times of creation in whole seconds."""
    return None if since is None else since.astimezone(UTC).replace(microsecond=0)


def _event(event_id: str | None) -> str | None:
    return event_label(event_id) if event_id else None


def _runs_of(task_id: str) -> list[str]:
    try:
        return runs_of_task(task_id) if len(task_id) == _UUID else []
    except ValueError:
        return []


def _names(graph: Graph | None, run: WorkflowRun | None) -> list[str]:
    if run is not None:
        return step_names(graph, run)
    if graph is None:
        return []
    return [step.name for step in (*graph.steps, *((graph.on_failure,) if graph.on_failure else ()))]


def _size_of(run: WorkflowRun) -> int:
    """Return about how large what a run was given and returned is, in bytes."""
    given = run.spec.input_json
    size = len(given) if given is not None else len(orjson.dumps(run.spec.input or {}))
    return size + sum(len(state.output or "") for state in run.status.steps.values())


def _json(value: list[Any] | str) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
