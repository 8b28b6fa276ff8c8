"""Which workers are awaited after a start, and for how long.

    absent ─ says what it has ───────────────────────────────────► back: it continues with that
       ├───── its Pod or container is gone ──────────────────────► dead: what it had is reported lost
       └───── its time is over ─┬─ a Pod of ours ─► ended ─ gone ─► dead
                                └─ otherwise ─────────────────────► given up: what it had is reported lost

Which runs wait for it is decided in `held_runs`, and what a worker that is back may keep, in `claims`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from hatchet_operator.durations import format_duration
from hatchet_operator.resources.names import ObjectRef


class Reach(StrEnum):
    """How a worker finds this operator."""

    SERVED = "served"  # the address that its Pod was given leads here, or it is unknown where it leads
    TOLD = "told"  # that address does not, but it reads the new one in a file
    LOST = "lost"  # neither: nothing indicates that it can come


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a known worker has to say what it has.

    Attributes:
        usual: The usual time.
        running: If its container still runs: nodes may route it to the previous leader's address for a while.
        lost: If its address no longer leads here.
        ending: For a Pod that was told to end, until it is gone.
    """

    usual: timedelta
    running: timedelta
    lost: timedelta = timedelta(seconds=10)
    ending: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownWorker:
    """A worker that was registered before the start and has not said yet what it has.

    Attributes:
        id: Its id.
        name: As in the statuses of runs.
        pool: Its pool.
        actions: What it offers.
        pod: Its Pod's name; None: it runs in none.
        run_uid: The run that its Pod was created for, which takes nothing else.
        reach: How it finds this operator.
        runs_on: Its container runs, on a node that is reachable.
        may_be_ended: Its Pod is one that we created.
        ended_for: How long ago its Pod was told to end; None: it was not.
        handed_over: The runs that the last leader said it had assigned to it; None: no leader said anything.
    """

    id: str
    name: str
    pool: ObjectRef
    actions: frozenset[str]
    pod: str | None = None
    run_uid: str | None = None
    reach: Reach = Reach.SERVED
    runs_on: bool = False
    may_be_ended: bool = False
    ended_for: timedelta | None = None
    handed_over: frozenset[str] | None = None

    @property
    def shown(self) -> str:
        return f'worker "{self.name}"' if self.pod in (None, self.name) else f'worker "{self.name}" of pod "{self.pod}"'


@dataclass(frozen=True, kw_only=True, slots=True)
class RejoinPlan:
    """What has to happen to absent workers.

    Attributes:
        waiting: Still awaited.
        end: Those of them whose Pods must be ended: they can't say what they have, and it must not be done twice.
        give_up: No longer awaited.
        look_again_after: When this changes by time alone.
    """

    waiting: tuple[KnownWorker, ...]
    end: tuple[KnownWorker, ...]
    give_up: tuple[KnownWorker, ...]
    look_again_after: timedelta | None


# --- How long


class Fate(StrEnum):
    """What becomes of a worker that is absent."""

    WAIT = "wait"  # it is awaited
    END = "end"  # its Pod is ended, and that is awaited: what it has must not be done twice
    GIVE_UP = "give up"  # it is no longer awaited


@dataclass(frozen=True, kw_only=True, slots=True)
class Absence:
    """A worker that is absent, at a moment.

    Attributes:
        worker: The worker.
        patience: How long it has.
        waited: How long ago workers were let in.
    """

    worker: KnownWorker
    patience: Patience
    waited: timedelta

    @property
    def is_over(self) -> bool:
        return self.waited >= patience_with(self.worker, self.patience)


Prospect = tuple[Fate, timedelta]
"""What becomes of it, and for how long that applies."""

AbsenceRule = Callable[[Absence], Prospect | None]


def await_the_end_of_its_pod(absence: Absence) -> Prospect | None:
    ended_for = absence.worker.ended_for
    if ended_for is None or ended_for >= absence.patience.ending:
        return None
    return Fate.WAIT, absence.patience.ending - ended_for


def give_up_whose_pod_does_not_end(absence: Absence) -> Prospect | None:
    return (Fate.GIVE_UP, timedelta()) if absence.worker.ended_for is not None else None


def wait_while_it_has_time(absence: Absence) -> Prospect | None:
    if absence.is_over:
        return None
    return Fate.WAIT, patience_with(absence.worker, absence.patience) - absence.waited


def end_what_may_run_on(absence: Absence) -> Prospect | None:
    """End a Pod of ours in which a step could still be running while another worker has it."""
    worker = absence.worker
    may_run_on = worker.runs_on or worker.reach is Reach.LOST
    return (Fate.END, absence.patience.ending) if worker.may_be_ended and may_run_on else None


ABSENCE_RULES: tuple[AbsenceRule, ...] = (
    await_the_end_of_its_pod,
    give_up_whose_pod_does_not_end,
    wait_while_it_has_time,
    end_what_may_run_on,
)


def patience_with(worker: KnownWorker, patience: Patience) -> timedelta:
    """Return how long a worker has, counted from the start."""
    if worker.reach is Reach.LOST:
        return min(patience.lost, patience.usual)
    return max(patience.running, patience.usual) if worker.runs_on else patience.usual


def prospect_of(absence: Absence, rules: tuple[AbsenceRule, ...] = ABSENCE_RULES) -> Prospect:
    """Return what becomes of an absent worker: the first rule with an opinion applies; without one it is given up."""
    return next((prospect for rule in rules if (prospect := rule(absence)) is not None), (Fate.GIVE_UP, timedelta()))


def plan_rejoin(absent: Sequence[KnownWorker], patience: Patience, *, waited: timedelta) -> RejoinPlan:
    """Decide which workers are still awaited, whose Pods are ended, and which are given up.

    Args:
        absent: The workers that have not said yet what they have.
        patience: How long each has.
        waited: How long ago workers were let in.
    """
    seen = [(worker, *prospect_of(Absence(worker=worker, patience=patience, waited=waited))) for worker in absent]
    return RejoinPlan(
        waiting=tuple(worker for worker, fate, _ in seen if fate is not Fate.GIVE_UP),
        end=tuple(worker for worker, fate, _ in seen if fate is Fate.END),
        give_up=tuple(worker for worker, fate, _ in seen if fate is Fate.GIVE_UP),
        look_again_after=min((left for _, fate, left in seen if fate is not Fate.GIVE_UP), default=None),
    )


# --- Messages


def say_who_is_awaited(worker: KnownWorker, patience: Patience) -> str:
    """Say which worker is awaited, in words that stay the same as long as it is."""
    longest = format_duration(patience_with(worker, patience))
    return f"waits up to {longest} for {worker.shown}, which may still have steps and did not say so yet"


def why_ended(worker: KnownWorker, patience: Patience, *, address: str | None) -> str:
    """Say why a worker's Pod was ended."""
    text = f"it did not come back within {format_duration(patience_with(worker, patience))}"
    if worker.reach is Reach.LOST:
        text += f": the address that it was given, {address or 'none'}, no longer leads to the operator"
    return text
