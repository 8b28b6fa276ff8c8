"""Which runs a client asks for: what the API server can select by, and what has to be checked here. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from hatchet_operator.resources import labels
from hatchet_operator.resources.names import root_label
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """The criteria for runs; absent ones do not apply.

    Attributes:
        workflow: Name of the Workflow object.
        phases: Any of them.
        since: Created then or later.
        until: Created before.
        metadata: All of these must be in their additional metadata.
        tree: Name of the root run.
        parent_uid: UID of the run that spawned them.
        parent_step: The step of that run which did.
        event: The label of the event that started them, see `names.event_label`.
        workflows: Object names of workflows, any of them.
    """

    workflow: str | None = None
    phases: tuple[Phase, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tree: str | None = None
    parent_uid: str | None = None
    parent_step: str | None = None
    event: str | None = None
    workflows: frozenset[str] | None = None

    @property
    def needs_object(self) -> bool:
        """Whether a run's object is needed to tell; otherwise what is remembered of any run is enough."""
        return bool(self.metadata) or self.tree is not None or self.parent_step is not None or self.event is not None

    @property
    def label_selector(self) -> str | None:
        return f"{labels.ROOT}={root_label(self.tree)}" if self.tree else None

    @property
    def field_selector(self) -> str | None:
        asked = [f"spec.workflow={self.workflow}"] if self.workflow else []
        if len(self.phases) == 1:  # a selector has no alternatives
            asked.append(f"status.phase={self.phases[0].value}")
        return ",".join(asked) or None

    def may_take(self, *, workflow: str, phase: Phase, created_at: float, parent_uid: str | None) -> bool:
        """Whether a run may meet the criteria, by what is remembered of it; sure, unless its object is needed.

        Args:
            workflow: Its workflow.
            phase: Where it stands.
            created_at: When it was created, in seconds since the epoch.
            parent_uid: UID of the run that spawned it.
        """
        return (
            (self.workflow is None or workflow == self.workflow)
            and (self.workflows is None or workflow in self.workflows)
            and (not self.phases or phase in self.phases)
            and (self.since is None or created_at >= self.since.timestamp())
            and (self.until is None or created_at < self.until.timestamp())
            and (self.parent_uid is None or parent_uid == self.parent_uid)
        )

    def takes(self, run: WorkflowRun) -> bool:
        """Whether a run meets the criteria."""
        created, given = run.metadata.creation_timestamp, run.spec.additional_metadata or {}
        parent = run.spec.parent
        return (
            (self.workflow is None or run.spec.workflow == self.workflow)
            and (not self.phases or run.status.phase in self.phases)
            and (self.since is None or (created is not None and created >= self.since))
            and (self.until is None or (created is not None and created < self.until))
            and (self.workflows is None or run.spec.workflow in self.workflows)
            and (self.parent_uid is None or (parent is not None and parent.uid == self.parent_uid))
            and (self.parent_step is None or (parent is not None and parent.step == self.parent_step))
            and (self.event is None or run.metadata.labels.get(labels.EVENT) == self.event)
            and all(key in given and metadata_text(given[key]) == value for key, value in self.metadata.items())
        )


def metadata_text(value: Any) -> str:
    """Return the text by which clients ask for a value of additional metadata: a text itself, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
