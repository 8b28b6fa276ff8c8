"""Runs that are to start later, over the REST API: each is a run that waits for its time, so its id is the run's."""

from dataclasses import replace
from datetime import datetime

from aiohttp import web

from hatchet_operator.decisions.acts import Act
from hatchet_operator.decisions.inputs import input_object
from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.spawning.cause import Cause, Origin
from hatchet_operator.errors import InvalidRequest, UnknownObject
from hatchet_operator.receiver.rest import v0
from hatchet_operator.receiver.rest.calls import Call, answer, metadata_of, page_of, phases_of
from hatchet_operator.receiver.rest.models import Metadata, ScheduledRun, ScheduledRunList, ScheduleRequest
from hatchet_operator.receiver.rest.runs import run_wanted
from hatchet_operator.resources.names import ObjectRef, tenant_id
from hatchet_operator.resources.run import WorkflowRun

_SCHEDULED = "SCHEDULED"


class Schedules:
    """Calls about runs that are to start later.

    Args:
        engine: Knows them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def create(self, call: Call) -> web.Response:
        asked = await call.body(ScheduleRequest)
        wanted = run_wanted(
            call.caller, call.path["workflow"], asked.input, asked.additional_metadata, priority=asked.priority
        )
        scheduled = replace(wanted, start_at=asked.trigger_at, origin=Origin(cause=Cause.SCHEDULE), position=0)
        return answer(self._shown(await self._run(call, await self._engine.trigger(scheduled))))

    async def list(self, call: Call) -> web.Response:
        """List those that have not begun; what has, is a run as any other."""
        query, page = call.query, page_of(call.query)
        statuses = [each for each in query.getall("statuses", []) if each.upper() != _SCHEDULED]
        phases = phases_of(statuses, v0.STATUSES)
        wanted = RunFilter(phases=phases, metadata=metadata_of(query.getall("additionalMetadata", [])))
        workflow = query.get("workflowId")
        found = []
        for record in self._engine.store.unfinished():
            run = record.whole
            if run is None or record.ref.namespace != call.namespace or not _is_scheduled(run):
                continue
            told = self._shown(run)
            if wanted.takes(run) and workflow in (None, told.workflow_id, run.spec.workflow):
                found.append(told)
        found.sort(key=lambda each: (each.trigger_at, each.workflow_run_name))
        rows = tuple(found[page.skip : page.skip + page.limit])
        return answer(ScheduledRunList(rows=rows, pagination=page.shown(len(found))))

    async def get(self, call: Call) -> web.Response:
        return answer(self._shown(await self._run(call, call.path["run"])))

    async def delete(self, call: Call) -> web.Response:
        """Cancel it: a token may cancel runs, and not delete objects."""
        run = await self._run(call, call.path["run"])
        if run.status.started_at is not None or run.status.phase.is_final:
            raise InvalidRequest(f"run {run.metadata.name} has begun already; cancel it as a run")
        await self._engine.asked.act(call.namespace, Act.CANCEL, run.metadata.name)
        return web.Response(status=204)

    async def _run(self, call: Call, run_id: str) -> WorkflowRun:
        found = await self._engine.find_run(call.caller, run_id)
        if found is None or found[0].spec.start_at is None:
            raise UnknownObject(f'there is no scheduled run "{run_id}" in namespace "{call.namespace}"')
        return found[0]

    def _shown(self, run: WorkflowRun) -> ScheduledRun:
        workflow = self._engine.workflows.get(ObjectRef(run.metadata.namespace, run.spec.workflow))
        created, at = run.metadata.creation_timestamp, run.spec.start_at
        assert created is not None, "the API server sets it"
        assert at is not None, "only these are shown"
        return ScheduledRun(
            metadata=Metadata(id=run.metadata.uid, created_at=created, updated_at=created),
            tenant_id=tenant_id(run.metadata.namespace),
            workflow_version_id=(workflow.status.revision if workflow else None) or "",
            workflow_id=workflow.metadata.uid if workflow else run.spec.workflow,
            workflow_name=workflow.exact_name if workflow else run.spec.workflow,
            trigger_at=at,
            input=input_object(run.spec),
            additional_metadata=run.spec.additional_metadata or {},
            workflow_run_id=run.metadata.uid,
            workflow_run_name=run.metadata.name,
            workflow_run_status=v0.status_name(run.status.phase),
            priority=run.spec.priority,
        )


def _is_scheduled(run: WorkflowRun) -> bool:
    at: datetime | None = run.spec.start_at
    return at is not None and run.status.started_at is None and not run.spec.cancelled
