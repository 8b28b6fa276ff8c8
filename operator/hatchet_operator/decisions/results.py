"""What a client that awaits a run gets when it is final."""

from dataclasses import dataclass

from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.resources.reasons import ClientApi, Phase, Reason
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import GROUP_KEY_STEP

TIMED_OUT_TEXT = "TIMED_OUT"
"""The beginning of a timed-out step's error, and all that Hatchet's clients expect of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """A step's part of a run's result: an output (JSON text), an error, or neither (it returned nothing)."""

    step: str
    attempt_id: str
    output: str | None = None
    error: str | None = None


def run_results(run: WorkflowRun, *, on_failure: str | None = None, api: ClientApi | None = None) -> list[StepResult]:
    """Return one entry per step of a finished run.

    A run that failed before it had steps gives one entry with its message. The on-failure step is included only if it
    succeeded; its own error must not hide why the run failed. For clients of v1, a step that never ran because another
    failed adds no error of its own: each error becomes an exception there.
    The output of the step that named the run's group is never included.
    """
    results = [
        StepResult(
            step=name,
            attempt_id=current_attempt_id(run, name),
            output=state.output if state.phase is Phase.SUCCEEDED else None,
            error=_error_of(state, api),
        )
        for name, state in run.status.steps.items()
        if name != on_failure or state.phase is Phase.SUCCEEDED
        if name != GROUP_KEY_STEP or state.phase is not Phase.SUCCEEDED
    ]
    if run.status.phase is not Phase.SUCCEEDED and not any(result.error for result in results):
        text = run.status.message or f"run {run.metadata.name} ended as {run.status.phase}"
        results.append(StepResult(step="", attempt_id="", error=text))
    return results


def _error_of(state: StepStatus, api: ClientApi | None) -> str | None:
    if state.phase is Phase.SUCCEEDED or (api is ClientApi.V1 and state.reason == Reason.PREVIOUS_STEP_FAILED):
        return None
    return error_told(state) or state.phase.value


def error_told(state: StepStatus) -> str | None:
    """Return a step's error as clients get it; people are told more, such as after how long it timed out."""
    return TIMED_OUT_TEXT if state.error and state.reason == Reason.TIMED_OUT else state.error
