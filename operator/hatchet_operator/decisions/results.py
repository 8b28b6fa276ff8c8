"""What somebody who awaits a run is told when it is final."""

from dataclasses import dataclass

from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import StepStatus, WorkflowRun

TIMED_OUT_TEXT = "TIMED_OUT"
"""What the error of a timed-out step begins with, and all of it that Hatchet's clients expect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """A step's part of a run's result: an output (JSON text), an error, or neither (it returned nothing)."""

    step: str
    attempt_id: str
    output: str | None = None
    error: str | None = None


def run_results(run: WorkflowRun, *, on_failure: str | None = None) -> list[StepResult]:
    """Return one entry per step of a finished run.

    A run that failed before it had steps gives one entry with its message. The on-failure step counts only when it
    succeeded; what it says of itself must not hide why the run failed.
    """
    results = [
        StepResult(
            step=name,
            attempt_id=current_attempt_id(run, name),
            output=state.output if state.phase is Phase.SUCCEEDED else None,
            error=None if state.phase is Phase.SUCCEEDED else error_told(state) or state.phase.value,
        )
        for name, state in run.status.steps.items()
        if name != on_failure or state.phase is Phase.SUCCEEDED
    ]
    if run.status.phase is not Phase.SUCCEEDED and not any(result.error for result in results):
        text = run.status.message or f"run {run.metadata.name} ended as {run.status.phase}"
        results.append(StepResult(step="", attempt_id="", error=text))
    return results


def error_told(state: StepStatus) -> str | None:
    """Return a step's error as clients are told it; people are told more, such as after what it timed out."""
    return TIMED_OUT_TEXT if state.error and state.reason == Reason.TIMED_OUT else state.error
