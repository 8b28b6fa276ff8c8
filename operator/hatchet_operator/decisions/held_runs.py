"""Which runs are on hold after a start, each for which worker: those of which an absent worker may have a step.

An absent worker was registered before the start and has not listed its attempts yet. It may have what a run's status
says it has, what the last leader's handover says it was assigned, and, without a handover, any step that could have
been assigned to it in that leader's last second, before a status said so.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hatchet_operator.decisions.claims import WorkerName, persisted_assignments
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.rejoining import KnownWorker
from hatchet_operator.resources.reasons import Execution, Phase, RunOn
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition

_CLOCKS_DIFFER = timedelta(minutes=1)
"""How far apart two leaders' clocks may be: a retry that is not due by ours may have been by the last leader's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingRun:
    """A run from before the start, reduced to what decides whether it is on hold.

    Attributes:
        uid: Its UID.
        namespace: Where it is.
        pool: The pool whose workers get its steps; None: not known, so it may be any.
        has_own_pod: Only a pod that was created for it gets its steps.
        persisted_workers: The workers that have steps according to the status, and have not said so yet.
        unpersisted: Actions of steps that may be assigned although no status says so; None: not known, so all may be.
    """

    uid: str
    namespace: str
    pool: str | None
    has_own_pod: bool = False
    persisted_workers: tuple[str, ...] = ()
    unpersisted: frozenset[str] | None = frozenset()


def waiting_run(run: WorkflowRun, graph: Graph | None, *, claimed: Collection[str], now: datetime) -> WaitingRun:
    """Return which steps of a run from before the start a worker may have.

    Args:
        run: As it was persisted.
        graph: What it executes; None: not known.
        claimed: Steps that a worker has claimed.
        now: The time; a step whose retry is not due for a while can't have been assigned.
    """
    states = run.status.steps
    written = tuple(worker for name, worker in persisted_assignments(run).items() if name not in claimed)
    uid, namespace = run.metadata.uid, run.ref.namespace
    if graph is None:
        return WaitingRun(uid=uid, namespace=namespace, pool=None, persisted_workers=written, unpersisted=None)
    steps = [step for step in graph.steps if step.name not in claimed and _may_be_assigned(step, states, now)]
    last = graph.on_failure
    if last is not None and last.name not in claimed and (graph.run_on is RunOn.ALWAYS or _has_failed(states)):
        steps += [last] if _may_be_assigned(last, states, now) else []
    return WaitingRun(
        uid=uid,
        namespace=namespace,
        pool=graph.pool,
        has_own_pod=graph.execution is Execution.POD,
        persisted_workers=written,
        unpersisted=frozenset(step.action for step in steps),
    )


def _may_be_assigned(step: StepDefinition, states: Mapping[str, StepStatus], now: datetime) -> bool:
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
    """Stands for a worker whose SDK never lists its attempts."""

    MUTE = "mute"


PossibleWorker = KnownWorker | Mute
"""A worker that may have a step of a run on hold."""


class Missing:
    """The workers that may have steps nobody has claimed, indexed for looking up many runs.

    Args:
        absent: Workers that will claim what they have once they reconnect.
        mute: Namespaces and names of workers that are back but never claim anything. They may have what a status says
            they have; but names are unique only among Pods, so another process of that name may be meant.
    """

    def __init__(self, absent: Collection[KnownWorker] = (), mute: Iterable[WorkerName] = ()) -> None:
        self.by_name = {(worker.pool.namespace, worker.name): worker for worker in absent}
        self.by_run: dict[str, KnownWorker] = {}
        self.by_namespace: dict[str, list[KnownWorker]] = {}  # those without a handover
        for worker in absent:
            if worker.run_uid is not None:
                self.by_run[worker.run_uid] = worker
            elif worker.handed_over is None:
                self.by_namespace.setdefault(worker.pool.namespace, []).append(worker)
            else:
                self.by_run |= dict.fromkeys(worker.handed_over, worker)
        self.mute = frozenset(mute)


PossibleWorkerRule = Callable[[Missing, WaitingRun], PossibleWorker | None]


def worker_of_its_pod_or_of_the_handover(missing: Missing, run: WaitingRun) -> PossibleWorker | None:
    """Return the worker whose Pod was created for the run, or to which the last leader's handover assigns it."""
    return missing.by_run.get(run.uid)


def worker_in_its_status(missing: Missing, run: WaitingRun) -> PossibleWorker | None:
    found = (missing.by_name.get((run.namespace, name)) for name in run.persisted_workers)
    return next((worker for worker in found if worker is not None), None)


def mute_worker_in_its_status(missing: Missing, run: WaitingRun) -> PossibleWorker | None:
    return Mute.MUTE if any((run.namespace, name) in missing.mute for name in run.persisted_workers) else None


def worker_that_could_have_been_assigned(missing: Missing, run: WaitingRun) -> PossibleWorker | None:
    """Return a worker that may have got a step in the last second: only after that a status says so."""
    if run.has_own_pod:
        return None
    workers = missing.by_namespace.get(run.namespace, ())
    return next((worker for worker in workers if _could_have_been_assigned(worker, run)), None)


POSSIBLE_WORKER_RULES: tuple[PossibleWorkerRule, ...] = (
    worker_of_its_pod_or_of_the_handover,
    worker_in_its_status,
    mute_worker_in_its_status,
    worker_that_could_have_been_assigned,
)


def possible_worker_of(
    run: WaitingRun, missing: Missing, rules: tuple[PossibleWorkerRule, ...] = POSSIBLE_WORKER_RULES
) -> PossibleWorker | None:
    """Return the worker for which a run is on hold, by the first rule that names one; None: it is not on hold."""
    return next((suspect for rule in rules if (suspect := rule(missing, run)) is not None), None)


def _could_have_been_assigned(worker: KnownWorker, run: WaitingRun) -> bool:
    if run.pool not in (None, worker.pool.name):
        return False
    return run.unpersisted is None or not run.unpersisted.isdisjoint(worker.actions)
