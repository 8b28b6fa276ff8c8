"""A request for a run, as a value, and what is checked of it before anybody looks at a cluster."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.spawning.cause import Origin
from hatchet_operator.errors import (
    DedupeViolation,
    InvalidRequest,
)
from hatchet_operator.resources.names import (
    ObjectRef,
    workflow_object_name,
)
from hatchet_operator.resources.reasons import OnParentClose, Record


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentAttempt:
    """The spawning attempt of a step, and which of its children is meant."""

    attempt_id: str
    run: str
    key: str | None
    index: int
    fail_on_conflict: bool = False
    retry_failed: bool = False
    on_parent_close: OnParentClose = OnParentClose.ABANDON
    record: Record | None = None  # what its object is to hold; None: its workflow decides
    is_kept_by_client: bool = False  # who spawns it again, if it was lost without an object


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """A request for a run: of a workflow, with an input, as a child or as a root."""

    caller: Caller
    workflow: str  # exact name
    input_json: str
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    parent: ParentAttempt | None = None
    request_id: str | None = None
    origin: Origin | None = None
    filter_payload: str | None = None
    start_at: datetime | None = None
    position: int | None = None  # among the scheduled times of one request
    worker_id: str | None = None  # where it should go, if its workflow is sticky

    @property
    def namespace(self) -> str:
        return self.caller.namespace


def workflow_ref_of(trigger: Trigger) -> ObjectRef:
    """Return the object of the workflow that is asked for; it may not exist."""
    try:
        return ObjectRef(trigger.namespace, workflow_object_name(trigger.workflow))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def at_position(trigger: Trigger, identity: str) -> str:
    """Distinguish the runs that one request schedules, by their order: a retried step gives later times."""
    return identity if trigger.position is None else f"{identity}@{trigger.position}"


def dedupe_value_of(trigger: Trigger, parent: RunRecord | None) -> str | None:
    """Return the run's own deduplication value; None: it has none, or its parent's."""
    above = (parent.run.spec.additional_metadata or {}) if parent is not None else None
    return dedupe_value(trigger.metadata, above=above)


def dedupe_violation(trigger: Trigger, value: str, name: str) -> DedupeViolation:
    return DedupeViolation(value[:80], f'run {name} of workflow "{trigger.workflow}" has it until it is deleted')


def check_dedupe(metadata: dict[str, Any], *, what: str) -> None:
    """Refuse an invalid deduplication value.

    Raises:
        InvalidRequest: The message begins with ``what``.
    """
    try:
        dedupe_value(metadata)
    except ValueError as error:
        raise InvalidRequest(f"{what}: {error}") from error
