"""What a decision about a run may look at, and what it may ask for.

A run's persisted status says how far it is. What is not in there yet - attempts that are out, reports of workers that
were not written down - comes beside it. A plan either has a status to write, or says which attempts should be out;
never both: whatever follows from a status happens once that status is in etcd.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.resources.names import attempt_id
from hatchet_operator.resources.reasons import LossKind
from hatchet_operator.resources.run import ChildCounts, RunStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition, Workflow


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # the step asked for it
    LOST = "lost"  # its worker died
    UNKNOWN = "unknown"  # it may be out somewhere that nobody can be asked


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How an attempt ended, as its worker or its worker's death told; not in the run's status yet."""

    attempt_id: str
    outcome: Outcome
    at: datetime
    output: str | None = None
    error: str | None = None
    loss: LossKind = LossKind.CRASH  # of a lost one
    may_retry: bool = True
    retry_after: timedelta | None = None

    @property
    def is_assumed(self) -> bool:
        """Nobody said so: its worker is silent, or can't be asked."""
        return self.outcome in (Outcome.LOST, Outcome.UNKNOWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveAttempt:
    """An attempt that a worker has."""

    id: str
    worker: str
    started_at: datetime
    deadline: datetime
    cancel_sent_at: datetime | None = None
    ending: str | None = None  # somebody ends the pod that it runs in


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """An attempt in the queue.

    Attributes:
        queued_at: Since when.
        unserved_since: Since when no connected worker could take it; None: one could.
        trouble: What keeps workers from coming, as far as that is known.
        starting: What says of workers that are on their way, while nothing is known to be wrong with them.
        may_tell: Whether its run may say so: each telling is a write, so of a long queue only the first ones do.
        busy: What keeps it from a slot of workers that could take it, once that has lasted.
    """

    queued_at: datetime
    unserved_since: datetime | None
    trouble: str | None = None
    starting: str | None = None
    may_tell: bool = True
    busy: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentState:
    """What a child observes of its parent."""

    cancelled: bool
    closed: bool  # succeeded or failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The settings that decisions depend on."""

    running_after: timedelta
    cancel_grace: timedelta
    max_losses: int
    max_disruptions: int
    children_every: timedelta
    waiting_told_after: timedelta = timedelta(seconds=3)
    waiting_told_every: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedRun:
    """Everything that a plan may look at. ``live``, ``reports`` and ``waits`` are by step name.

    Nothing new is given out while its workflow is ``suspended``, or it is ``held_back``: it will be collected soon.
    ``awaits`` says which worker may have its steps since before the start, if that is worth telling by now.
    ``known_workflows`` are the object names of its namespace, for a run whose own is not there; ``without_graph`` is
    its own, if it is there and can't be executed.
    """

    run: WorkflowRun
    graph: Graph | None
    policy: Policy
    parent: ParentState | None = None
    suspended: bool = False
    held_back: bool = False
    live: Mapping[str, LiveAttempt] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    waits: Mapping[str, Wait] = field(default_factory=dict)
    children: ChildCounts | None = None
    children_written_at: datetime | None = None
    waiting_told_at: datetime | None = None
    awaits: str | None = None
    known_workflows: tuple[str, ...] = ()
    without_graph: Workflow | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedAttempt:
    """An attempt that should be in the queue or out."""

    id: str
    step: StepDefinition
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What has to happen.

    Attributes:
        status: To be written; None: nothing is to be written, and ``wanted`` holds.
        wanted: The attempts that should be in the queue or out; all others are to be cancelled.
        tell_to_stop: Steps whose live attempt timed out with retries left: CANCEL now, next attempt after the grace.
        recheck_at: When to decide again if nothing happens.
    """

    status: RunStatus | None = None
    wanted: tuple[WantedAttempt, ...] = ()
    tell_to_stop: tuple[str, ...] = ()
    recheck_at: datetime | None = None


def current_attempt_id(run: WorkflowRun, step: str) -> str:
    """The fence of a step's current attempt, from the persisted status alone."""
    state = run.status.steps.get(step)
    return attempt_id(
        run.metadata.uid,
        rerun=run.status.reruns,
        step=step,
        attempt=state.attempt if state else 0,
        dispatch=state.dispatch if state else 0,
    )
