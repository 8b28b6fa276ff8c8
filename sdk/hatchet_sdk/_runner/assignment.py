"""One attempt of a step, as the operator assigned it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One attempt of a step, as the operator assigned it."""

    workflow_run_id: str
    task_run_external_id: str
    step: str
    action_id: str
    job_id: str
    retry_count: int
    payload: str
    additional_metadata: str
    child_index: int
    child_key: str
    parent_workflow_run_id: str
    run_uid: str = ""
