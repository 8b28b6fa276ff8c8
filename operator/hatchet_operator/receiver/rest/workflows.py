"""Workflows over the REST API: their names, their ids, and the definitions that are in effect."""

from datetime import UTC, datetime

from aiohttp import web

from hatchet_operator.durations import format_duration
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import UnknownObject
from hatchet_operator.receiver.rest import v0
from hatchet_operator.receiver.rest.calls import Call, answer, page_of
from hatchet_operator.receiver.rest.models import Job, Metadata, VersionMeta, Workflow, WorkflowList, WorkflowVersion
from hatchet_operator.resources import workflow as resource
from hatchet_operator.resources.names import job_id, step_uuid, tenant_id
from hatchet_operator.resources.workflow import StepDefinition


class Workflows:
    """Calls about workflows.

    Args:
        engine: Knows them.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, call: Call) -> web.Response:
        page, name = page_of(call.query), call.query.get("name")
        found = sorted(
            (each for _, each in self._engine.workflows.in_effect(call.namespace) if name in (None, each.exact_name)),
            key=lambda each: each.exact_name,
        )
        rows = tuple(map(shown, found[page.skip : page.skip + page.limit]))
        return answer(WorkflowList(rows=rows, pagination=page.shown(len(found))))

    async def get(self, call: Call) -> web.Response:
        return answer(shown(self._find(call)))

    async def version(self, call: Call) -> web.Response:
        """Show the definition in effect; no other version can be shown."""
        found = self._find(call)
        definition, told = found.status.definition, shown(found)
        (meta,) = told.versions
        asked = call.query.get("version")
        if definition is None or (asked is not None and asked not in (meta.metadata.id, meta.version)):
            raise UnknownObject(f'workflow "{found.exact_name}" has no version {asked} in effect')
        return answer(
            WorkflowVersion(
                **dict(meta),
                schedule_timeout=format_duration(definition.schedule_timeout),
                default_priority=definition.default_priority,
                workflow=told,
                jobs=told.jobs,
            )
        )

    def _find(self, call: Call) -> resource.Workflow:
        asked = call.path["workflow"]
        for ref, found in self._engine.workflows.in_effect(call.namespace):
            if asked in (found.metadata.uid, ref.name):
                return found
        raise UnknownObject(f'there is no workflow "{asked}" in namespace "{call.namespace}"')


def shown(workflow: resource.Workflow) -> Workflow:
    """Show a registered workflow."""
    definition, revision = workflow.status.definition, workflow.status.revision or ""
    tenant, uid = tenant_id(workflow.metadata.namespace), workflow.metadata.uid
    created = workflow.metadata.creation_timestamp or datetime.fromtimestamp(0, UTC)

    def metadata(id: str) -> Metadata:  # noqa: A002  # the field
        return Metadata(id=id, created_at=created, updated_at=created)

    def job(steps: tuple[StepDefinition, ...], *, on_failure: bool) -> Job:
        job = job_id(revision, on_failure=on_failure)
        return Job(
            metadata=metadata(step_uuid(uid, job)),
            tenant_id=tenant,
            version_id=revision,
            name=workflow.exact_name + ("-on-failure" if on_failure else ""),
            steps=tuple(
                v0.shown_step(step, metadata=metadata(step_uuid(revision, step.name)), tenant=tenant, job=job)
                for step in steps
            ),
        )

    jobs = [job(definition.steps, on_failure=False)] if definition is not None else []
    if definition is not None and definition.on_failure is not None:
        jobs.append(job((definition.on_failure,), on_failure=True))
    version = VersionMeta(
        metadata=metadata(step_uuid(uid, revision)),
        version=(definition.version if definition else "") or revision,
        order=0,
        workflow_id=uid,
    )
    return Workflow(
        metadata=metadata(uid),
        name=workflow.exact_name,
        description=definition.description if definition else "",
        is_paused=workflow.spec.suspended,
        tenant_id=tenant,
        versions=(version,),
        jobs=tuple(jobs),
    )
