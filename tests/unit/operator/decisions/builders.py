"""Values for tests of decisions: each builder takes only what differs from a plain run of one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchet_operator.decisions.graph import Graph, effective_graph
from hatchet_operator.decisions.observed import (
    LiveAttempt,
    ObservedRun,
    Outcome,
    ParentState,
    Policy,
    Report,
    Wait,
    current_attempt_id,
)
from hatchet_operator.resources.base import Json, ObjectMeta
from hatchet_operator.resources.names import action_id
from hatchet_operator.resources.pod import Pod, read_pod
from hatchet_operator.resources.reasons import OnParentClose, Phase, Reason
from hatchet_operator.resources.run import ChildCounts, ParentRef, RunSpec, RunStatus, StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition, WorkflowSpec

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = Policy(running_after=SECOND, cancel_grace=SECOND, max_losses=3, max_disruptions=5, children_every=SECOND)
PARENT = ParentRef(name="parent", uid="parent-uid", step="spawn", key="a", index=0)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def seen_pod(obj: Json) -> Pod:
    """Read a Pod as the watch would show it, of which only what matters is given."""
    return read_pod(
        {"spec": {"containers": [{"name": "worker"}]}, **obj, "metadata": {"name": "a", **obj.get("metadata", {})}}
    )


def make_step(name: str = "work", **changes: Any) -> StepDefinition:
    fields: dict[str, Any] = {"action": action_id("etl", name), "timeout": timedelta(minutes=1)}
    return StepDefinition.model_validate({"name": name, **fields, **changes})


def make_definition(*steps: StepDefinition, **changes: Any) -> WorkflowDefinition:
    fields: dict[str, Any] = {"name": "etl", "schedule_timeout": timedelta(minutes=5)}
    return WorkflowDefinition.model_validate({**fields, "steps": steps or (make_step(),), **changes})


def make_graph(*steps: StepDefinition, spec: WorkflowSpec | None = None, **changes: Any) -> Graph:
    """Lay ``spec`` over a definition of these steps; further arguments are the definition's."""
    definition = make_definition(*steps, **changes)
    return effective_graph("etl", spec or WorkflowSpec(), definition, revision="etl-1", pool="main")


def make_run(
    *,
    status: RunStatus | None = None,
    age: timedelta = SECOND,
    **spec: Any,
) -> WorkflowRun:
    """Make a run of workflow "etl"; further arguments are fields of its spec."""
    metadata = ObjectMeta(
        name="etl-7",
        namespace="default",
        uid="run-uid",
        resource_version="1",
        generation=1,
        creation_timestamp=NOW - age,
    )
    return WorkflowRun(
        metadata=metadata, spec=RunSpec.model_validate({"workflow": "etl", **spec}), status=status or RunStatus()
    )


def make_live(
    *,
    identity: str = "",
    started_at: datetime = NOW,
    timeout: timedelta = timedelta(minutes=1),
    cancel_sent_at: datetime | None = None,
    ending: str | None = None,
) -> LiveAttempt:
    return LiveAttempt(
        id=identity,
        worker="pod-1",
        started_at=started_at,
        deadline=started_at + timeout,
        cancel_sent_at=cancel_sent_at,
        ending=ending,
    )


def make_report(outcome: Outcome = Outcome.COMPLETED, **changes: Any) -> Report:
    return Report(**{"attempt_id": "", "outcome": outcome, "at": NOW, **changes})


def make_observed_run(
    *,
    phase: Phase = Phase.PENDING,
    steps: Mapping[str, StepStatus] | None = None,
    graph: Graph | None = None,
    without_workflow: bool = False,
    status: Mapping[str, Any] | None = None,
    parent: ParentState | None = None,
    on_parent_close: OnParentClose = OnParentClose.ABANDON,
    suspended: bool = False,
    suspended_run: bool = False,
    above_is_gone: bool = False,
    live: Mapping[str, LiveAttempt] | None = None,
    reports: Mapping[str, Report] | None = None,
    waits: Mapping[str, Wait] | None = None,
    children: ChildCounts | None = None,
    children_written_at: datetime | None = None,
    waiting_told_at: datetime | None = None,
    age: timedelta = SECOND,
    **spec: Any,
) -> ObservedRun:
    """Make what a plan looks at; ``parent`` makes the run a child, further arguments are fields of its spec.

    ``suspended`` is its workflow, ``suspended_run`` it itself. Live attempts and reports without an id
    are about the step's current attempt.
    """
    if parent is not None:
        spec = {"parent": PARENT, "on_parent_close": on_parent_close, **spec}
    if suspended_run:
        spec = {"suspended": True, **spec}
    run_status = RunStatus.model_validate({"phase": phase, "steps": dict(steps or {}), **(status or {})})
    run = make_run(status=run_status, age=age, **spec)
    return ObservedRun(
        run=run,
        graph=None if without_workflow else graph or make_graph(),
        policy=POLICY,
        parent=parent,
        suspended=suspended,
        above_is_gone=above_is_gone,
        live={name: replace(item, id=item.id or current_attempt_id(run, name)) for name, item in (live or {}).items()},
        reports={
            name: replace(item, attempt_id=item.attempt_id or current_attempt_id(run, name))
            for name, item in (reports or {}).items()
        },
        waits=waits or {},
        children=children,
        children_written_at=children_written_at,
        waiting_told_at=waiting_told_at,
    )


def make_step_status(phase: Phase = Phase.PENDING, **changes: Any) -> StepStatus:
    return StepStatus.model_validate({"phase": phase, **changes})


def succeeded(output: str = "{}") -> StepStatus:
    return make_step_status(Phase.SUCCEEDED, output=output, started_at=ago(5), finished_at=ago(4))


def failed(reason: Reason = Reason.STEP_FAILED, error: str = "it broke") -> StepStatus:
    return make_step_status(Phase.FAILED, reason=reason, error=error, started_at=ago(5), finished_at=ago(4))


def id_of(seen: ObservedRun, step: str = "work") -> str:
    return current_attempt_id(seen.run, step)


def names(steps: Iterable[Any]) -> list[str]:
    return [wanted.step.name for wanted in steps]
