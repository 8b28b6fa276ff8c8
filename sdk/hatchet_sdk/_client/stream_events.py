"""What happens in a run, as its stream reports it."""

from dataclasses import dataclass
from enum import StrEnum


class StepRunEventType(StrEnum):
    """What happened; names and values are Hatchet's."""

    STEP_RUN_EVENT_TYPE_STARTED = "STEP_RUN_EVENT_TYPE_STARTED"
    STEP_RUN_EVENT_TYPE_COMPLETED = "STEP_RUN_EVENT_TYPE_COMPLETED"
    STEP_RUN_EVENT_TYPE_FAILED = "STEP_RUN_EVENT_TYPE_FAILED"
    STEP_RUN_EVENT_TYPE_CANCELLED = "STEP_RUN_EVENT_TYPE_CANCELLED"
    STEP_RUN_EVENT_TYPE_TIMED_OUT = "STEP_RUN_EVENT_TYPE_TIMED_OUT"
    STEP_RUN_EVENT_TYPE_STREAM = "STEP_RUN_EVENT_TYPE_STREAM"


class WorkflowRunEventType(StrEnum):
    """How a run ended; names and values are Hatchet's."""

    WORKFLOW_RUN_EVENT_TYPE_COMPLETED = "WORKFLOW_RUN_EVENT_TYPE_COMPLETED"
    WORKFLOW_RUN_EVENT_TYPE_FAILED = "WORKFLOW_RUN_EVENT_TYPE_FAILED"
    WORKFLOW_RUN_EVENT_TYPE_CANCELLED = "WORKFLOW_RUN_EVENT_TYPE_CANCELLED"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRunEvent:
    """Something that happened in a run.

    Attributes:
        type: What happened.
        payload: For a chunk of a stream, its text; for a step that completed, its output as JSON text; for one that
            failed, its error.
        step: The step's name; "": the run itself.
        retry_count: That of the step's attempt; 0 in the first one.
        workflow_run_id: The run.
    """

    type: StepRunEventType | WorkflowRunEventType
    payload: str
    step: str
    retry_count: int
    workflow_run_id: str
