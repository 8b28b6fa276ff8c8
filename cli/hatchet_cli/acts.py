"""What changes runs and workflows: each act is one request to the API server, with the user's own rights."""

import difflib
from datetime import datetime
from typing import Any

from hatchet_cli.place import USAGE, CliError, Cluster
from hatchet_cli.reading import read_workflows
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.decisions.crons import with_suspension
from hatchet_operator.engine.spawning.cause import Cause
from hatchet_operator.errors import Conflict
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.workflow import Workflow


def make_run(
    workflow: str,
    input_text: str,
    *,
    name: str | None = None,
    metadata: dict[str, str] | None = None,
    priority: int | None = None,
    start_at: datetime | None = None,
    suspended: bool = False,
) -> Json:
    """Return a WorkflowRun.

    Args:
        workflow: Name of the Workflow object.
        input_text: A JSON object.
        name: The run's; None: the API server generates one.
        metadata: Passed to the steps, and down to children.
        priority: 1 to 3.
        start_at: Nothing starts before this time.
        suspended: Whether nothing starts before it is resumed.
    """
    spec: dict[str, Any] = {
        "workflow": workflow,
        "inputJson": input_text,
        "additionalMetadata": metadata or None,
        "priority": priority,
        "startAt": start_at.isoformat() if start_at else None,
        "suspended": suspended or None,
    }
    origin = {"labels": {labels.TRIGGERED_BY: Cause.SCHEDULE.value}} if start_at else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": ({"name": name} if name else {"generateName": f"{workflow}-"}) | origin,
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


async def find_workflow(cluster: Cluster, name: str) -> Workflow:
    """Return the workflow that goes by a name: the one of its code, or of its object.

    Raises:
        CliError: There is none; it names those that exist.
    """
    workflows = await read_workflows(cluster)
    for workflow in workflows.values():
        if name in (workflow.exact_name, workflow.metadata.name):
            return workflow
    known = sorted(workflow.exact_name for workflow in workflows.values())
    if not known:
        raise CliError(
            f'there is no workflow in namespace "{cluster.namespace}": no worker has registered one', exit_code=USAGE
        )
    close = difflib.get_close_matches(name, known, n=1)
    guess = f'; did you mean "{close[0]}"?' if close else ""
    raise CliError(
        f'there is no workflow "{name}" in namespace "{cluster.namespace}" (there are: {", ".join(known)}){guess}',
        exit_code=USAGE,
    )


async def create(cluster: Cluster, run: Json) -> Json:
    return await cluster.api.create(RUNS, cluster.namespace, run, strict=True)


async def suspend_workflow(cluster: Cluster, name: str, *, wanted: bool) -> str:
    """Suspend all runs of a workflow, or resume them; return the name of its object."""
    workflow = await find_workflow(cluster, name)
    await cluster.api.patch(WORKFLOWS, cluster.namespace, workflow.metadata.name, {"spec": {"suspended": wanted}})
    return workflow.metadata.name


async def suspend_cron(cluster: Cluster, name: str, *, schedule: str, zone: str, wanted: bool) -> None:
    """Suspend one cron of a workflow, or resume it, whether a person or the code gave it.

    Args:
        cluster: Where it is.
        name: Of the workflow's object.
        schedule: Which cron, as `status.crons` has it.
        zone: Its time zone.
        wanted: Whether it is to be suspended.

    Raises:
        CliError: There is no such cron, or no longer.
    """
    while True:
        item = await cluster.api.get(WORKFLOWS, cluster.namespace, name)
        definition = Workflow.model_validate(item).status.definition
        before = item.get("spec", {}).get("crons", [])
        crons = with_suspension(before, definition, schedule=schedule, zone=zone, wanted=wanted)
        if crons is None:
            raise CliError(f'workflow "{name}" has no cron "{schedule}" in zone {zone}')
        version = {"resourceVersion": item["metadata"]["resourceVersion"]}
        try:
            await cluster.api.patch(WORKFLOWS, cluster.namespace, name, {"metadata": version, "spec": {"crons": crons}})
        except Conflict:  # its status is written with every tick
            continue
        return


async def move_start(cluster: Cluster, name: str, start_at: datetime) -> None:
    """Have a run that has not started start at another time."""
    await cluster.api.patch(RUNS, cluster.namespace, name, {"spec": {"startAt": start_at.isoformat()}})


async def delete_run(cluster: Cluster, name: str, *, version: str) -> None:
    """Delete a run with those below it, unless it has changed since a version of it."""
    await cluster.api.delete(RUNS, cluster.namespace, name, resource_version=version)
