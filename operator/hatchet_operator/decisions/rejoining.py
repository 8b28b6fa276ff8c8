"""Which workers are awaited after a start, and for how long.

    absent ─ claims what it has ─────────────────────────────────► back: it continues with that
       ├───── its Pod or container is gone ──────────────────────► dead: what it had is reported lost
       └───── its timeout expires ─┬─ a Pod of ours ─► deleted ──► dead
                                   └─ otherwise ──────────────────► given up: what it had is reported lost

Which runs are on hold for a worker is decided in `held_runs`, and which of its claims are accepted, in `claims`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from hatchet_operator.durations import format_duration
from hatchet_operator.resources.names import ObjectRef


class Reach(StrEnum):
    """How a worker finds this operator."""

    SERVED = "served"  # the address in its Pod leads to this operator, or nobody knows where it leads
    TOLD = "told"  # that address no longer does, but the worker reads the new one from a file
    LOST = "lost"  # neither: the worker can't reconnect


@dataclass(frozen=True, kw_only=True, slots=True)
class RejoinTimeouts:
    """How long a known worker is awaited after a start; all but the last counted from when workers are let in.

    Attributes:
        usual: For any worker.
        running: If its container still runs: nodes may route it to the previous leader's address for a while.
        lost: If its address no longer leads to this operator.
        ending: Until a Pod that was told to end is gone, counted from then.
    """

    usual: timedelta
    running: timedelta
    lost: timedelta = timedelta(seconds=10)
    ending: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownWorker:
    """A worker that was registered before the start and has not claimed its attempts yet.

    Attributes:
        id: Its id.
        name: As statuses of runs refer to it.
        pool: Its pool.
        actions: The actions that it offers.
        pod: Its Pod's name; None: it runs in none.
        run_uid: UID of the run that its Pod was created for, which takes nothing else; None: it serves any run.
        reach: How it finds this operator.
        runs_on: Its container is running, on a node that is reachable.
        may_be_ended: The operator created its Pod, and so may delete it.
        ended_for: How long ago its Pod was told to end; None: it was not.
        handed_over: UIDs of the runs that the last leader's handover assigns to it; None: there was no handover.
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
        waiting: Those that are still awaited.
        end: Those of them whose Pods are to be deleted, so that what they still run is not executed twice.
        give_up: Those that are no longer awaited.
        recheck_after: When time alone changes this plan; None: never.
    """

    waiting: tuple[KnownWorker, ...]
    end: tuple[KnownWorker, ...]
    give_up: tuple[KnownWorker, ...]
    recheck_after: timedelta | None


# --- How long


class Fate(StrEnum):
    """What happens to an absent worker next."""

    WAIT = "wait"  # it is awaited
    END = "end"  # its Pod is deleted, and the end of that is awaited
    GIVE_UP = "give up"  # it is no longer awaited


@dataclass(frozen=True, kw_only=True, slots=True)
class Absence:
    """An absent worker at one moment.

    Attributes:
        worker: The worker.
        timeouts: How long it is awaited.
        waited: How long ago workers were let in.
    """

    worker: KnownWorker
    timeouts: RejoinTimeouts
    waited: timedelta

    @property
    def is_over(self) -> bool:
        return self.waited >= timeout_of(self.worker, self.timeouts)


Prospect = tuple[Fate, timedelta]
"""What happens to the worker, and for how long that stays so."""

AbsenceRule = Callable[[Absence], Prospect | None]


def await_the_end_of_its_pod(absence: Absence) -> Prospect | None:
    ended_for = absence.worker.ended_for
    if ended_for is None or ended_for >= absence.timeouts.ending:
        return None
    return Fate.WAIT, absence.timeouts.ending - ended_for


def give_up_whose_pod_does_not_end(absence: Absence) -> Prospect | None:
    return (Fate.GIVE_UP, timedelta()) if absence.worker.ended_for is not None else None


def wait_while_it_has_time(absence: Absence) -> Prospect | None:
    if absence.is_over:
        return None
    return Fate.WAIT, timeout_of(absence.worker, absence.timeouts) - absence.waited


def end_what_may_run_on(absence: Absence) -> Prospect | None:
    """Delete a Pod of ours in which a step may still run, before that step is assigned to another worker."""
    worker = absence.worker
    may_run_on = worker.runs_on or worker.reach is Reach.LOST
    return (Fate.END, absence.timeouts.ending) if worker.may_be_ended and may_run_on else None


ABSENCE_RULES: tuple[AbsenceRule, ...] = (
    await_the_end_of_its_pod,
    give_up_whose_pod_does_not_end,
    wait_while_it_has_time,
    end_what_may_run_on,
)


def timeout_of(worker: KnownWorker, timeouts: RejoinTimeouts) -> timedelta:
    """Return how long a worker is awaited, counted from when workers are let in."""
    if worker.reach is Reach.LOST:
        return min(timeouts.lost, timeouts.usual)
    return max(timeouts.running, timeouts.usual) if worker.runs_on else timeouts.usual


def prospect_of(absence: Absence, rules: tuple[AbsenceRule, ...] = ABSENCE_RULES) -> Prospect:
    """Return what happens to an absent worker, by the first rule with an opinion; without one it is given up."""
    return next((prospect for rule in rules if (prospect := rule(absence)) is not None), (Fate.GIVE_UP, timedelta()))


def plan_rejoin(absent: Sequence[KnownWorker], timeouts: RejoinTimeouts, *, waited: timedelta) -> RejoinPlan:
    """Decide which workers are still awaited, whose Pods are deleted, and which are given up.

    Args:
        absent: The workers that have not claimed their attempts yet.
        timeouts: How long each is awaited.
        waited: How long ago workers were let in.
    """
    seen = [(worker, *prospect_of(Absence(worker=worker, timeouts=timeouts, waited=waited))) for worker in absent]
    return RejoinPlan(
        waiting=tuple(worker for worker, fate, _ in seen if fate is not Fate.GIVE_UP),
        end=tuple(worker for worker, fate, _ in seen if fate is Fate.END),
        give_up=tuple(worker for worker, fate, _ in seen if fate is Fate.GIVE_UP),
        recheck_after=min((left for _, fate, left in seen if fate is not Fate.GIVE_UP), default=None),
    )


# --- Messages


def say_who_is_awaited(worker: KnownWorker, timeouts: RejoinTimeouts) -> str:
    """Say which worker is awaited, in words that don't change meanwhile: each change would be a write."""
    longest = format_duration(timeout_of(worker, timeouts))
    return f"waits up to {longest} for {worker.shown}, which may still have steps and did not say so yet"


def why_ended(worker: KnownWorker, timeouts: RejoinTimeouts, *, address: str | None) -> str:
    """Say why a worker's Pod was deleted; ``address``: the one that its Pod was given."""
    text = f"it did not come back within {format_duration(timeout_of(worker, timeouts))}"
    if worker.reach is Reach.LOST:
        text += f": the address that it was given, {address or 'none'}, no longer leads to the operator"
    return text
