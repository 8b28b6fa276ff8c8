"""Which runs and tasks a call means, and what is known of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.payloads.texts import references_of
from hatchet_operator.errors import InvalidRequest, UnknownObject
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.receiver.rest import v1
from hatchet_operator.receiver.rest.calls import Call, metadata_of, phases_of, time_of
from hatchet_operator.receiver.rest.models import ActRequest, TaskFilter
from hatchet_operator.receiver.rest.sight import NO_TEXTS, SeenRun, step_names, task_id_of
from hatchet_operator.resources.limits import MAX_BULK_ITEMS
from hatchet_operator.resources.names import event_label, runs_of_task
from hatchet_operator.resources.run import WorkflowRun
from hatchet_sdk.payloads.reference import BadReference, reference_in
from hatchet_sdk.payloads.store import PayloadError

_UUID = 36


class KnownRuns:
    """Finds runs and their tasks by whatever clients name them by.

    Args:
        engine: Knows them.
        bounds: Of what is answered.
    """

    def __init__(self, engine: Engine, bounds: Bounds) -> None:
        self._engine = engine
        self._answer_bytes = bounds.answer_bytes

    def v1_filter(self, call: Call) -> RunFilter:
        """Read which runs a list of v1 asks for."""
        query = call.query
        wanted = RunFilter(
            workflows=self._workflow_names(call, query.getall("workflow_ids", [])),
            phases=phases_of(query.getall("statuses", []), v1.STATUSES),
            since=whole_seconds(time_of(query.get("since"), "since")),
            until=time_of(query.get("until"), "until"),
            metadata=metadata_of(query.getall("additional_metadata", [])),
            event=event_of(query.get("triggering_event_external_id")),
        )
        parent = query.get("parent_task_external_id")
        return self.below(call, wanted, parent) if parent else wanted

    def _v1_filter_of(self, call: Call, asked: TaskFilter) -> RunFilter:
        return RunFilter(
            workflows=self._workflow_names(call, asked.workflow_ids or ()),
            phases=phases_of(asked.statuses or (), v1.STATUSES),
            since=whole_seconds(asked.since),
            until=asked.until,
            metadata=metadata_of(asked.additional_metadata or ()),
        )

    async def meant(self, call: Call) -> tuple[str, ...]:
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

    def workflow_name(self, call: Call, workflow_id: str | None) -> str | None:
        """Return the object name of a workflow that is named by its id, its object name or its exact name."""
        if not workflow_id:
            return None
        for ref, workflow in self._engine.workflows.in_namespace(call.namespace):
            if workflow_id in (workflow.metadata.uid, ref.name, workflow.exact_name):
                return ref.name
        raise UnknownObject(f'there is no workflow "{workflow_id}" in namespace "{call.namespace}"')

    def _workflow_names(self, call: Call, workflow_ids: Iterable[str]) -> frozenset[str] | None:
        names = [self.workflow_name(call, each) for each in workflow_ids]
        return frozenset(name for name in names if name is not None) if names else None

    def below(self, call: Call, wanted: RunFilter, parent_id: str) -> RunFilter:
        """Narrow a filter to the children of a run, or of one of its steps."""
        uid, step = self.place(call, parent_id)
        return replace(wanted, parent_uid=uid, parent_step=step)

    def place(self, call: Call, asked: str) -> tuple[str, str | None]:
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

    async def find(self, call: Call, run_id: str) -> tuple[WorkflowRun, Graph | None]:
        """Return a run, and the graph that it executes.

        Raises:
            UnknownObject: It is not known here.
        """
        found = await self._engine.find_run(call.caller, run_id)
        if found is None:
            raise UnknownObject(f'there is no run "{run_id}" in namespace "{call.namespace}"')
        return found

    async def whole(self, call: Call, run_id: str) -> SeenRun:
        """Return a run with the texts that references in it stand for."""
        run, graph = await self.find(call, run_id)
        return self.seen(call.caller, run, graph=graph, texts=await self._texts_of(call, run))

    def seen(
        self,
        caller: Caller,
        run: WorkflowRun,
        *,
        graph: Graph | None = None,
        texts: Mapping[str, str] = NO_TEXTS,
        with_payloads: bool = True,
    ) -> SeenRun:
        """Return what is known of a run, with the texts given for its references."""
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
            if sum(sizes) > self._answer_bytes:
                raise InvalidRequest(
                    f"what run {run.ref} was given and returned has {sum(sizes)} bytes, more than the "
                    f"{self._answer_bytes} that are answered: use hatchet-operator's SDK with its extra [payloads], "
                    "which reads the store itself (docs/payloads.md)"
                )
            return await self._engine.payloads.texts(call.namespace, references)
        except (PayloadError, BadReference) as error:
            raise InvalidRequest(f"run {run.ref}: {error}") from error

    def place_or_error(self, call: Call, asked: str) -> str | UnknownObject:
        """Return the id of the run that an id means; or, instead of raising it, why there is none."""
        try:
            return self.place(call, asked)[0]
        except UnknownObject as error:
            return error


def whole_seconds(since: datetime | None) -> datetime | None:
    """Round down: the API server notes times of creation in whole seconds."""
    return None if since is None else since.astimezone(UTC).replace(microsecond=0)


def event_of(event_id: str | None) -> str | None:
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
