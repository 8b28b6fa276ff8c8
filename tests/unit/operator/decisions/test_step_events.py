"""What whoever listens to a run is told of its steps."""

from __future__ import annotations

import pytest

from hatchet_operator.decisions.step_events import EventKind, end_of_run, step_events
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus, StepStatus
from tests.unit.operator.decisions.builders import failed, make_run, make_step_status, succeeded

RETRIED = make_step_status(attempt=1, reason=Reason.STEP_FAILED, error="it broke")


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        pytest.param(None, make_step_status(), [], id="it waits: nothing"),
        pytest.param(None, make_step_status(Phase.RUNNING), [], id="it runs: told when it was given out"),
        pytest.param(
            make_step_status(Phase.RUNNING), succeeded('{"n":1}'), [(EventKind.COMPLETED, '{"n":1}')], id="its output"
        ),
        pytest.param(make_step_status(), failed(), [(EventKind.FAILED, "it broke")], id="its error"),
        pytest.param(
            make_step_status(),
            failed(Reason.TIMED_OUT, "TIMED_OUT: timeout 5s of step work"),
            [(EventKind.TIMED_OUT, "TIMED_OUT")],
            id="it timed out",
        ),
        pytest.param(make_step_status(), RETRIED, [(EventKind.FAILED, "it broke")], id="an attempt that is retried"),
        pytest.param(RETRIED, RETRIED, [], id="nothing new"),
        pytest.param(RETRIED, make_step_status(attempt=1, dispatch=1), [], id="given out anew: no attempt ended"),
        pytest.param(succeeded(), succeeded(), [], id="told before"),
        pytest.param(
            make_step_status(),
            make_step_status(Phase.CANCELLED, error="why"),
            [(EventKind.CANCELLED, "why")],
            id="cancelled",
        ),
    ],
)
def test_steps(before: StepStatus | None, after: StepStatus, want: list[tuple[EventKind, str]]) -> None:
    run = make_run(status=RunStatus(steps={"work": after}))
    told = step_events(run, {"work": before} if before else {})
    assert [(event.kind, event.payload) for event in told] == want


@pytest.mark.parametrize(
    ("phase", "want"),
    [
        (Phase.SUCCEEDED, EventKind.COMPLETED),
        (Phase.FAILED, EventKind.FAILED),
        (Phase.CANCELLED, EventKind.CANCELLED),
        pytest.param(Phase.RUNNING, EventKind.CANCELLED, id="deleted"),
    ],
)
def test_ends(phase: Phase, want: EventKind) -> None:
    assert end_of_run(phase) is want
