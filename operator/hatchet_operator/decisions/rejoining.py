"""Who is waited for after a start, for how long, and which runs wait with it.

    absent ─ says what it holds ─────────────────────────────────► back: it goes on with that
       ├───── its Pod or container is gone ──────────────────────► dead: what it had is told as lost
       └───── its time is over ─┬─ a Pod of ours ─► ended ─ gone ─► dead
                                └─ else ───────────────────────── ► given up: what it had is told as lost

Only what an absent worker may have is held back: what was written down as with it, what the last leader said that it
gave to it, and, where no leader could say so, steps that it could have been given in that leader's last second.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.durations import format_duration
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Execution, Phase
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition


class Reach(StrEnum):
    """How a worker finds this operator."""

    SERVED = "served"  # the address that its Pod was given leads here, or nobody knows where it leads
    TOLD = "told"  # that address does not, but it reads the new one in a file
    LOST = "lost"  # neither: nothing says that it can come


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a worker that is known has to say what it holds.

    Attributes:
        usual: Whoever it is.
        running: One whose container runs on: nodes may lead it to where an earlier leader was for a while.
        lost: One whose address leads here no more.
        ending: For a Pod that was told to end, until it is gone.
    """

    usual: timedelta
    running: timedelta
    lost: timedelta = timedelta(seconds=10)
    ending: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownWorker:
    """A worker that was registered before the start and did not say yet what it holds.

    Attributes:
        id: Its own.
        name: As runs have it written down.
        pool: Its pool.
        actions: What it offers.
        pod: Its Pod's name; None: it lives in none.
        run_uid: Of the run that its Pod was made for, which takes nothing else.
        reach: How it finds this operator.
        runs_on: Its container runs, on a node that is heard of.
        may_be_ended: Its Pod is one that we made.
        ended_for: How long ago its Pod was told to end; None: it was not.
        handed_over: The runs that the last leader said it had given to it; None: no leader said anything.
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
class WaitingRun:
    """A run from before the start.

    Attributes:
        uid: Its own.
        namespace: Where it is.
        pool: Whose workers get its steps; None: not known, so it may be any.
        has_own_pod: A pod that was made for it gets its steps, and no other.
        written_with: The workers that have steps, as was written down, and did not say so yet.
        unwritten: Actions of the steps that may be out though it is not written down; None: not known, so all may.
    """

    uid: str
    namespace: str
    pool: str | None
    has_own_pod: bool = False
    written_with: tuple[str, ...] = ()
    unwritten: frozenset[str] | None = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class RejoinPlan:
    """What has to happen to workers that are absent.

    Attributes:
        waiting: Still waited for.
        end: Of these, whose Pods are to be ended: what they have can't be told by them, and must not be done twice.
        give_up: Waited for no more.
        look_again_after: When time alone changes this.
    """

    waiting: tuple[KnownWorker, ...]
    end: tuple[KnownWorker, ...]
    give_up: tuple[KnownWorker, ...]
    look_again_after: timedelta | None


def waiting_run(run: WorkflowRun, graph: Graph | None, *, claimed: Collection[str], now: datetime) -> WaitingRun:
    """Tell what may be out of a run from before the start.

    Args:
        run: As it was written down.
        graph: What it executes; None: not known.
        claimed: Steps that a worker said to have.
        now: The time: what waits for its next attempt is not out.
    """
    states = run.status.steps
    written = tuple(
        state.worker
        for name, state in states.items()
        if state.worker is not None and state.phase is Phase.RUNNING and name not in claimed
    )
    uid, namespace = run.metadata.uid, run.ref.namespace
    if graph is None:
        return WaitingRun(uid=uid, namespace=namespace, pool=None, written_with=written, unwritten=None)
    steps = [step for step in graph.steps if step.name not in claimed and _may_be_out(step, states, now)]
    last = graph.on_failure
    if last is not None and last.name not in claimed and _has_failed(states):
        steps += [last] if _may_be_out(last, states, now) else []
    return WaitingRun(
        uid=uid,
        namespace=namespace,
        pool=graph.pool,
        has_own_pod=graph.execution is Execution.POD,
        written_with=written,
        unwritten=frozenset(step.action for step in steps),
    )


def _may_be_out(step: StepDefinition, states: Mapping[str, StepStatus], now: datetime) -> bool:
    """Whether a step may be with a worker that is not written down."""
    state = states.get(step.name)
    if state is not None:
        if state.phase.is_final or (state.phase is Phase.RUNNING and state.worker is not None):
            return False
        if state.retry_at is not None and state.retry_at > now:
            return False
    return all(name in states and states[name].phase is Phase.SUCCEEDED for name in step.parents)


def _has_failed(states: Mapping[str, StepStatus]) -> bool:
    return any(state.phase in (Phase.FAILED, Phase.CANCELLED) for state in states.values())


def patience_with(worker: KnownWorker, patience: Patience) -> timedelta:
    """Return how long a worker has, from the start on."""
    if worker.reach is Reach.LOST:
        return min(patience.lost, patience.usual)
    return max(patience.running, patience.usual) if worker.runs_on else patience.usual


def plan_rejoin(absent: Sequence[KnownWorker], patience: Patience, *, waited: timedelta) -> RejoinPlan:
    """Say who is waited for on, whose Pod is to end, and who is given up.

    Args:
        absent: Who did not say yet what it holds.
        patience: How long each has.
        waited: Since workers were let in.
    """
    waiting, end, give_up, deadlines = [], [], [], []
    for worker in absent:
        left = patience_with(worker, patience) - waited
        if worker.ended_for is not None:
            left = patience.ending - worker.ended_for
        elif left <= timedelta() and worker.may_be_ended and (worker.runs_on or worker.reach is Reach.LOST):
            end.append(worker)
            left = patience.ending
        if left <= timedelta():
            give_up.append(worker)
        else:
            waiting.append(worker)
            deadlines.append(left)
    return RejoinPlan(
        waiting=tuple(waiting),
        end=tuple(end),
        give_up=tuple(give_up),
        look_again_after=min(deadlines, default=None),
    )


class Missing:
    """Tells which runs may have steps with workers that did not say so; made once for many runs.

    Args:
        absent: They will say what they hold.
        mute: Names (with their namespaces) of workers that never do. They may have what is written down to be with
            them. Outside of Pods names are not unique, so such a worker can't be taken to have it.
    """

    def __init__(self, absent: Iterable[KnownWorker], mute: Iterable[tuple[str, str]] = ()) -> None:
        self._by_name = {(worker.pool.namespace, worker.name): worker for worker in absent}
        self._by_run: dict[str, KnownWorker] = {}
        self._by_pool: dict[str, list[KnownWorker]] = {}
        for worker in absent:
            if worker.run_uid is not None:
                self._by_run[worker.run_uid] = worker
            elif worker.handed_over is None:
                self._by_pool.setdefault(worker.pool.namespace, []).append(worker)
            else:
                self._by_run |= dict.fromkeys(worker.handed_over, worker)
        self._mute = frozenset(mute)

    def holds(self, run: WaitingRun) -> KnownWorker | bool:
        """Return who may have steps of a run; True: somebody who never says so; False: nobody."""
        if (worker := self._by_run.get(run.uid)) is not None:
            return worker
        for name in run.written_with:
            if (worker := self._by_name.get((run.namespace, name))) is not None:
                return worker
            if (run.namespace, name) in self._mute:
                return True
        if not run.has_own_pod:
            for worker in self._by_pool.get(run.namespace, ()):
                if _could_have_been_given(worker, run):
                    return worker
        return False


def _could_have_been_given(worker: KnownWorker, run: WaitingRun) -> bool:
    """Whether a worker may have a step of a run that was not written down: it is, once it ran for a second."""
    if run.pool not in (None, worker.pool.name):
        return False
    return run.unwritten is None or not run.unwritten.isdisjoint(worker.actions)


def say_who_is_awaited(worker: KnownWorker, patience: Patience) -> str:
    """Say who is waited for, in words that stay the same while it is."""
    longest = format_duration(patience_with(worker, patience))
    return f"waits up to {longest} for {worker.shown}, which may still have steps and did not say so yet"


def why_ended(worker: KnownWorker, patience: Patience, *, address: str | None) -> str:
    """Say why a worker's Pod was ended."""
    text = f"it did not come back within {format_duration(patience_with(worker, patience))}"
    if worker.reach is Reach.LOST:
        text += f": the address that it was given, {address or 'none'}, leads to the operator no more"
    return text
