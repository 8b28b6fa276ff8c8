"""What a decision about a run may look at, and what it may ask for.

A run's persisted status says how far it is. What is not in there yet - assigned attempts, reports of workers that are
not persisted - comes in addition. A plan either has a status to write, or says which attempts should be assigned;
never both: whatever follows from a status happens once that status is in etcd.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.sticking import Taken
from hatchet_operator.resources.names import attempt_id
from hatchet_operator.resources.reasons import LossKind, Reason
from hatchet_operator.resources.run import ChildCounts, RunStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition, Workflow


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"  # the step cancelled itself
    LOST = "lost"  # its worker died
    UNKNOWN = "unknown"  # it may be with a worker that can't be asked


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How an attempt ended, according to its worker or its worker's death; not in the run's status yet."""

    attempt_id: str
    outcome: Outcome
    at: datetime
    output: str | None = None
    error: str | None = None
    loss: LossKind = LossKind.CRASH  # if it was lost
    may_retry: bool = True
    retry_after: timedelta | None = None
    reason: Reason = Reason.STEP_FAILED  # if it failed

    @property
    def is_assumed(self) -> bool:
        """Whether this was inferred: its worker is silent, or can't be asked."""
        return self.outcome in (Outcome.LOST, Outcome.UNKNOWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveAttempt:
    """An attempt that a worker has."""

    id: str
    worker: str
    started_at: datetime
    deadline: datetime
    cancel_sent_at: datetime | None = None
    ending: str | None = None  # the pod that it runs in is being ended, and why


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """An attempt in the queue.

    Attributes:
        queued_at: Since when.
        unserved_since: Since when no connected worker could take it; None: one could.
        trouble: Why workers do not come, as far as that is known.
        starting: A message about workers that are starting, while nothing is known to be wrong with them.
        may_tell: Whether its run may say so: each report is a write, so in a long queue only the first ones do.
        busy: Why workers that could take it have no slot, once that has lasted a while.
        limited: Which rate limit blocks it; None: none does.
        impossible_since: Since when it has needed more than that limit can ever have; None: it waits for its turn.
    """

    queued_at: datetime
    unserved_since: datetime | None
    trouble: str | None = None
    starting: str | None = None
    may_tell: bool = True
    busy: str | None = None
    limited: str | None = None
    impossible_since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupState:
    """The state of a run in its concurrency groups.

    Attributes:
        keys: The groups.
        waits: What it waits for; None: it may go on.
        cancelled_for: Why it must be cancelled; None: it need not be.
        problem: Why it belongs to no group, though its workflow has some.
        may_tell: Whether it may say what it waits for: in a long line only the first ones do.
    """

    keys: tuple[str, ...] = ()
    waits: str | None = None
    cancelled_for: str | None = None
    problem: str | None = None
    may_tell: bool = True


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

    Nothing new is assigned while its workflow is ``suspended``, or ``above_is_gone``: the run will be collected soon.
    ``awaits`` says which worker may have its steps from before the start, if that is worth reporting by now.
    ``known_workflows`` are the object names of its namespace, for a run whose own is missing; ``without_graph`` is
    its own, if it exists and can't be executed. ``group`` is set for workflows with limits of concurrent runs,
    ``taken`` for sticky ones.
    ``children_are_ready``: what a replay does to its children, before its own steps, is done.
    """

    run: WorkflowRun
    graph: Graph | None
    policy: Policy
    parent: ParentState | None = None
    suspended: bool = False
    above_is_gone: bool = False
    live: Mapping[str, LiveAttempt] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    waits: Mapping[str, Wait] = field(default_factory=dict)
    children: ChildCounts | None = None
    children_are_ready: bool = False
    children_written_at: datetime | None = None
    waiting_told_at: datetime | None = None
    awaits: str | None = None
    known_workflows: tuple[str, ...] = ()
    without_graph: Workflow | None = None
    taken: Sequence[Taken] = ()
    group: GroupState | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedAttempt:
    """An attempt that should be queued or assigned."""

    id: str
    step: StepDefinition
    attempt: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What has to happen.

    Attributes:
        status: The status to write; None: there is nothing to write, and ``wanted`` applies.
        wanted: The attempts that should be queued or assigned; all others are cancelled.
        tell_to_stop: Steps whose live attempt timed out with retries left: CANCEL now, next attempt after the grace.
        recheck_at: When to decide again if nothing happens.
    """

    status: RunStatus | None = None
    wanted: tuple[WantedAttempt, ...] = ()
    tell_to_stop: tuple[str, ...] = ()
    recheck_at: datetime | None = None


def current_attempt_id(run: WorkflowRun, step: str) -> str:
    """Return the id that fences a step's current attempt, from the persisted status alone."""
    state = run.status.steps.get(step)
    return attempt_id(
        run.identity,
        rerun=run.status.reruns,
        step=step,
        attempt=state.attempt if state else 0,
        dispatch=state.dispatch if state else 0,
    )
