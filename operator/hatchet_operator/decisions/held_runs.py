"""Which runs from before a start wait until workers say what they have, and for which worker.

Only what an absent worker may have is held back: what was persisted as assigned to it, what the last leader said it
assigned to it, and, if no leader could say so, steps that it could have been assigned in that leader's last second.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hatchet_operator.decisions.claims import WorkerName, written_with
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.rejoining import KnownWorker
from hatchet_operator.resources.reasons import Execution, Phase, RunOn
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition

_CLOCKS_DIFFER = timedelta(minutes=1)
"""An attempt that is not due yet by our clock was assigned already, if it was due by that of the last leader."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingRun:
    """A run from before the start.

    Attributes:
        uid: Its UID.
        namespace: Where it is.
        pool: The pool whose workers get its steps; None: not known, so it may be any.
        has_own_pod: Only a pod that was created for it gets its steps.
        written_with: The workers that have steps according to the status, and have not said so yet.
        unwritten: Actions of the steps that may be assigned though that is not persisted; None: not known, so all may.
    """

    uid: str
    namespace: str
    pool: str | None
    has_own_pod: bool = False
    written_with: tuple[str, ...] = ()
    unwritten: frozenset[str] | None = frozenset()


def waiting_run(run: WorkflowRun, graph: Graph | None, *, claimed: Collection[str], now: datetime) -> WaitingRun:
    """Return which steps of a run from before the start may be assigned.

    Args:
        run: As it was persisted.
        graph: What it executes; None: not known.
        claimed: Steps that a worker has claimed.
        now: The time: a step whose next attempt is not due for a while is not assigned.
    """
    states = run.status.steps
    written = tuple(worker for name, worker in written_with(run).items() if name not in claimed)
    uid, namespace = run.metadata.uid, run.ref.namespace
    if graph is None:
        return WaitingRun(uid=uid, namespace=namespace, pool=None, written_with=written, unwritten=None)
    steps = [step for step in graph.steps if step.name not in claimed and _may_be_out(step, states, now)]
    last = graph.on_failure
    if last is not None and last.name not in claimed and (graph.run_on is RunOn.ALWAYS or _has_failed(states)):
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
    """Whether a step may be with a worker that the status does not mention."""
    state = states.get(step.name)
    if state is not None:
        if state.phase.is_final or (state.phase is Phase.RUNNING and state.worker is not None):
            return False
        if state.paused_at is not None or (state.retry_at is not None and state.retry_at > now + _CLOCKS_DIFFER):
            return False
    return all(name in states and states[name].phase is Phase.SUCCEEDED for name in step.parents)


def _has_failed(states: Mapping[str, StepStatus]) -> bool:
    return any(state.phase in (Phase.FAILED, Phase.CANCELLED) for state in states.values())


class Mute(StrEnum):
    """Stands for a worker that never says what it has."""

    MUTE = "mute"


Suspect = KnownWorker | Mute
"""A worker that may have steps of a run."""


class Missing:
    """Determines which runs may have steps with workers that have not said so; built once for many runs.

    Args:
        absent: Workers that will say what they have.
        mute: Names (with their namespaces) of workers that never do. They may have what the status says that they
            have. Outside of Pods names are not unique, so such a worker can't be assumed to have it.
    """

    def __init__(self, absent: Collection[KnownWorker] = (), mute: Iterable[WorkerName] = ()) -> None:
        self.by_name = {(worker.pool.namespace, worker.name): worker for worker in absent}
        self.by_run: dict[str, KnownWorker] = {}
        self.by_namespace: dict[str, list[KnownWorker]] = {}  # those about which no leader said what they have
        for worker in absent:
            if worker.run_uid is not None:
                self.by_run[worker.run_uid] = worker
            elif worker.handed_over is None:
                self.by_namespace.setdefault(worker.pool.namespace, []).append(worker)
            else:
                self.by_run |= dict.fromkeys(worker.handed_over, worker)
        self.mute = frozenset(mute)


SuspectRule = Callable[[Missing, WaitingRun], Suspect | None]


def who_is_for_it_or_was_given_it(missing: Missing, run: WaitingRun) -> Suspect | None:
    """Suspect the worker whose Pod is for the run, or to which the last leader said it had assigned it."""
    return missing.by_run.get(run.uid)


def who_is_written_down(missing: Missing, run: WaitingRun) -> Suspect | None:
    found = (missing.by_name.get((run.namespace, name)) for name in run.written_with)
    return next((worker for worker in found if worker is not None), None)


def who_is_written_down_and_mute(missing: Missing, run: WaitingRun) -> Suspect | None:
    return Mute.MUTE if any((run.namespace, name) in missing.mute for name in run.written_with) else None


def who_could_have_been_given_it(missing: Missing, run: WaitingRun) -> Suspect | None:
    """Suspect a worker that could have been assigned a step; it is persisted once it has run for a second."""
    if run.has_own_pod:
        return None
    workers = missing.by_namespace.get(run.namespace, ())
    return next((worker for worker in workers if _could_have_been_given(worker, run)), None)


SUSPECT_RULES: tuple[SuspectRule, ...] = (
    who_is_for_it_or_was_given_it,
    who_is_written_down,
    who_is_written_down_and_mute,
    who_could_have_been_given_it,
)


def suspect_of(run: WaitingRun, missing: Missing, rules: tuple[SuspectRule, ...] = SUSPECT_RULES) -> Suspect | None:
    """Return the worker that may have steps of a run: the one that the first rule names; None: no worker."""
    return next((suspect for rule in rules if (suspect := rule(missing, run)) is not None), None)


def _could_have_been_given(worker: KnownWorker, run: WaitingRun) -> bool:
    if run.pool not in (None, worker.pool.name):
        return False
    return run.unwritten is None or not run.unwritten.isdisjoint(worker.actions)
