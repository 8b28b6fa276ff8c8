"""Crons over the REST API: shown as they are in effect. Code and Workflows have them, so none is changed here."""

from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
from aiohttp import web

from hatchet_operator.decisions.crons import cron_input, effective_crons
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import InvalidRequest, UnknownObject
from hatchet_operator.receiver.rest.calls import Call, answer, metadata_of, page_of
from hatchet_operator.receiver.rest.models import Cron, CronList, Metadata
from hatchet_operator.resources.names import step_uuid, tenant_id
from hatchet_operator.resources.triggers import CronTrigger
from hatchet_operator.resources.workflow import Workflow


class Crons:
    """Calls about crons.

    Args:
        engine: Knows the workflows.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, call: Call) -> web.Response:
        query, page = call.query, page_of(call.query)
        workflow, name = query.get("workflowId"), query.get("workflowName")
        if query.get("cronName"):
            raise InvalidRequest("crons have no names here; workflowId or workflowName says whose are meant")
        metadata = metadata_of(query.getall("additionalMetadata", []))
        found = [
            each
            for each in self._in_effect(call)
            if name in (None, each.workflow_name)
            and (workflow is None or workflow == each.workflow_id)
            and all(str(each.additional_metadata.get(key)) == value for key, value in metadata.items())
        ]
        rows = tuple(found[page.skip : page.skip + page.limit])
        return answer(CronList(rows=rows, pagination=page.shown(len(found))))

    async def get(self, call: Call) -> web.Response:
        asked = call.path["cron"]
        for each in self._in_effect(call):
            if each.metadata.id == asked:
                return answer(each)
        raise UnknownObject(f'there is no cron "{asked}" in namespace "{call.namespace}"')

    def _in_effect(self, call: Call) -> Iterator[Cron]:
        workflows = sorted((each for _, each in self._engine.workflows.in_effect(call.namespace)), key=_exact_name)
        for workflow in workflows:
            for cron in effective_crons(workflow.spec, workflow.status.definition):
                yield _shown(workflow, cron)


def _exact_name(workflow: Workflow) -> str:
    return workflow.exact_name


def _shown(workflow: Workflow, cron: CronTrigger) -> Cron:
    definition, created = workflow.status.definition, workflow.metadata.creation_timestamp
    uid, since = workflow.metadata.uid, created or datetime.fromtimestamp(0, UTC)
    zone = (
        "" if cron.time_zone == "UTC" else f"CRON_TZ={cron.time_zone} "
    )  # as the parser of Hatchet's schedules reads it
    priority = cron.priority or (definition.default_priority if definition else None)
    return Cron(
        metadata=Metadata(id=step_uuid(uid, f"{cron.time_zone} {cron.schedule}"), created_at=since, updated_at=since),
        tenant_id=tenant_id(workflow.metadata.namespace),
        workflow_version_id=workflow.status.revision or "",
        workflow_id=uid,
        workflow_name=workflow.exact_name,
        cron=zone + cron.schedule,
        input=orjson.loads(cron_input(cron, definition)),
        additional_metadata=cron.additional_metadata or {},
        enabled=not cron.suspended,
        priority=priority,
    )
