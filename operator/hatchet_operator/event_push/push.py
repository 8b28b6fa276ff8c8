"""Pushes an event for a person: their kubeconfig creates the runs that the operator would create, by the same names."""

from dataclasses import dataclass

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.engine.spawning.cause import is_for_the_same, purpose_of
from hatchet_operator.engine.spawning.run_object import run_body
from hatchet_operator.engine.triggers.events import EventRun, PlannedRun, PushedEvent, plan_runs
from hatchet_operator.errors import AlreadyExists, SpawnConflict
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import Workflow


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """The result of pushing an event.

    Attributes:
        runs: What it started, now or when it was pushed earlier.
        problems: Filters that can't be evaluated for it.
        keys: Event keys that workflows of the namespace want.
    """

    runs: tuple[EventRun, ...]
    problems: tuple[str, ...]
    keys: tuple[str, ...]


async def push_event(api: Api, event: PushedEvent) -> Pushed:
    """Create the runs of an event.

    Raises:
        SpawnConflict: A run with another purpose has the name of one.
        ApiError: The API server refused a read, or a run; the runs before it exist, and the same id finds them.
    """
    items, _ = await api.list_all(WORKFLOWS, event.caller.namespace)
    workflows = [workflow for workflow in map(Workflow.model_validate, items) if workflow.status.definition is not None]
    runs: list[EventRun] = []
    problems: list[str] = []
    for workflow in workflows:
        ref = ObjectRef(event.caller.namespace, workflow.metadata.name)
        planned, unclear = plan_runs(event, ref, workflow)
        problems += unclear
        runs += [await _create(api, workflow, run) for run in planned]
    return Pushed(runs=tuple(runs), problems=tuple(problems), keys=_keys(workflows))


async def _create(api: Api, workflow: Workflow, run: PlannedRun) -> EventRun:
    pool = workflow.spec.pool or workflow.status.pool
    body = run_body(run.trigger, workflow=run.ref.name, name=run.name, pool=pool)
    try:
        await api.create(RUNS, run.ref.namespace, body)
    except AlreadyExists:
        there = await api.get(RUNS, run.ref.namespace, run.name)
        said = there["metadata"].get("labels") or {}
        if not is_for_the_same(said, body["metadata"]["labels"]):
            what = f"run {run.name} is there, but it is not that of this event ({purpose_of(said)} started it)"
            raise SpawnConflict(f"{what}: delete it, and push the event again with its id") from None
        return EventRun(workflow=run.trigger.workflow, name=run.name, created=False)
    return EventRun(workflow=run.trigger.workflow, name=run.name, created=True)


def _keys(workflows: list[Workflow]) -> tuple[str, ...]:
    keys: set[str] = set()
    for workflow in workflows:
        keys |= {trigger.key for trigger in workflow.spec.events}
        keys |= set((workflow.status.definition.events if workflow.status.definition else None) or ())
    return tuple(sorted(keys))
