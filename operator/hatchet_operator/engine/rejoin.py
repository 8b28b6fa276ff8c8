"""After a start: who may still have steps from before, and the runs that wait until that is known.

Which runs these are, and how long each worker is waited for, is decided in `decisions.rejoining`.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from pydantic import TypeAdapter

from hatchet_operator.cluster.api import Json
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.pooling import address_of
from hatchet_operator.decisions.rejoining import (
    KnownWorker,
    Missing,
    Patience,
    Reach,
    plan_rejoin,
    say_who_is_awaited,
    why_ended,
)
from hatchet_operator.engine.records import RunRecord
from hatchet_operator.engine.runs import Runs
from hatchet_operator.engine.workers import Worker
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase

log = logging.getLogger(__name__)

HandedOver = Mapping[str, Mapping[str, tuple[str, ...]]]
"""What the last leader gave to whom: worker id -> run uid -> steps."""

_HANDED_OVER: TypeAdapter[HandedOver] = TypeAdapter(HandedOver)
_LONGEST_TEXT = 200_000  # annotations of an object have 256 KiB together

_Loss = tuple[Outcome, str | None]
"""How an attempt ended whose worker will not say so, and why; without a reason nothing is told."""

_GATHER_SECONDS = 0.25


def write_handed_over(given: HandedOver | None) -> str | None:
    """Put it into a text that fits into an annotation; None: it does not, or there is nothing to say."""
    text = json.dumps(given, separators=(",", ":")) if given is not None else None
    return text if text is not None and len(text) <= _LONGEST_TEXT else None


def read_handed_over(text: str | None) -> HandedOver | None:
    """Read what `write_handed_over` made; None: there is nothing, or somebody else wrote it."""
    if text is None:
        return None
    try:
        return _HANDED_OVER.validate_json(text)
    except ValueError as error:
        log.warning("what the last leader handed over is not understood", extra={"error": str(error)})
        return None


class Rejoin:
    """Waits for the workers that were registered before the start.

    Args:
        runs: What may be held back.
        patience: How long each worker has.
        tell_after: Waiting that lasts longer is told.
        workers: All that are known.
        find_pod: A Pod by its UID.
        runs_on: Whether the container of a worker runs on, as far as its Pod says.
        reach_of: How the worker in a Pod finds this operator.
        end_pod: Ends a Pod of a pool, and says why.
        on_change: Called with a pool when others are waited for there, or it is told.
    """

    def __init__(
        self,
        *,
        runs: Runs,
        patience: Patience,
        tell_after: timedelta,
        workers: Callable[[], Iterable[Worker]],
        find_pod: Callable[[str], Json | None],
        runs_on: Callable[[Worker, Json | None], bool],
        reach_of: Callable[[Json], Reach],
        end_pod: Callable[[ObjectRef, Json, str], None],
        on_change: Callable[[ObjectRef], None],
    ) -> None:
        self._runs = runs
        self._patience = patience
        self._tell_after = tell_after
        self._workers = workers
        self._find_pod = find_pod
        self._runs_on = runs_on
        self._reach_of = reach_of
        self._end_pod = end_pod
        self._on_change = on_change
        self._handed_over: HandedOver | None = None
        self._begun_at: float | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._looks_at = 0.0  # the loop's clock
        self._given_up: set[str] = set()  # worker ids
        self._ending: dict[str, tuple[str, float]] = {}  # worker id -> why its Pod was ended, and when
        self._lost: dict[tuple[str, str], _Loss] = {}  # by namespace and name of a worker that will not end its steps
        self._lost_steps: dict[str, dict[str, _Loss]] = {}  # by run uid and step: what was not written down
        self._missing = Missing(())
        self._awaited: dict[ObjectRef, KnownWorker] = {}
        self._told = False

    @property
    def is_waiting(self) -> bool:
        """Whether it is open yet what workers from before the start hold."""
        return self._look_again is not None

    def waits_for(self, worker: Worker) -> bool:
        """Whether a worker's silence is no sign of its death yet."""
        return self.is_waiting and not worker.reported and worker.id not in self._given_up

    def begin(self, handed_over: HandedOver | None) -> None:
        """Runs and Pods are known, and workers can be heard: wait for them from now on.

        Args:
            handed_over: What the last leader gave to whom; None: it could not say.
        """
        self._handed_over = handed_over
        self._begun_at = asyncio.get_running_loop().time()
        self._look()

    def changed(self, worker: Worker, why_dead: str | None = None, *, disrupted: bool = False) -> None:
        """A worker said what it holds, or died before it did.

        All runs are looked at then, so that is done at once for the last of a pool only, and else a moment later.
        """
        if why_dead is not None:
            # That we ended it is nobody's fault, nor is it that somebody else did.
            outcome = Outcome.UNKNOWN if disrupted or worker.id in self._ending else Outcome.LOST
            self._give_up(worker.id, (worker.namespace, worker.shown_name), (outcome, why_dead))
        if self._look_again is None:
            return
        others = any(other.pool == worker.pool for other in self._absent() if other.run_uid is None)
        if worker.run_uid is None and others:
            self._look_in(_GATHER_SECONDS)
        else:
            self._look()

    def why_ended(self, worker: Worker) -> str | None:
        """Say why we ended a worker's Pod; None: we did not."""
        why, _ = self._ending.get(worker.id, (None, 0.0))
        return why

    def told_of(self, record: RunRecord) -> str | None:
        """Say who is waited for with a run, if that takes long enough to be worth a write.

        Of what is not written down, children are many and parents are looked at.
        """
        if not self._told:
            return None
        run = self._runs.waiting_run(record)
        worker = self._missing.holds(run)
        if isinstance(worker, bool) or (record.parent_uid is not None and worker.name not in run.written_with):
            return None
        return say_who_is_awaited(worker, self._patience)

    def told_of_pool(self, pool: ObjectRef) -> str | None:
        """Say who is waited for in a pool, if that takes long enough to be worth a write."""
        worker = self._awaited.get(pool) if self._told else None
        return say_who_is_awaited(worker, self._patience) if worker is not None else None

    def stop(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    # --- Looks

    def _absent(self) -> list[KnownWorker]:
        return [
            self._view(worker) for worker in self._workers() if not worker.reported and worker.id not in self._given_up
        ]

    def _view(self, worker: Worker) -> KnownWorker:
        pod = self._find_pod(worker.pod_uid) if worker.pod_uid else None
        _, ended_at = self._ending.get(worker.id, (None, None))
        handed = self._handed_over.get(worker.id, {}) if self._handed_over is not None else None
        return KnownWorker(
            id=worker.id,
            name=worker.shown_name,
            pool=worker.pool,
            actions=frozenset(worker.registration.actions),
            pod=worker.pod.name if worker.pod else None,
            run_uid=worker.run_uid,
            reach=self._reach_of(pod) if pod is not None else Reach.SERVED,
            runs_on=self._runs_on(worker, pod),
            may_be_ended=pod is not None and pod["metadata"].get("labels", {}).get(labels.MANAGED_BY) == labels.MANAGER,
            ended_for=timedelta(seconds=asyncio.get_running_loop().time() - ended_at) if ended_at is not None else None,
            handed_over=frozenset(handed) if handed is not None else None,
        )

    def _look(self) -> None:
        assert self._begun_at is not None, "it has begun"
        self.stop()
        loop = asyncio.get_running_loop()
        waited = timedelta(seconds=loop.time() - self._begun_at)
        plan = plan_rejoin(self._absent(), self._patience, waited=waited)
        for known in plan.give_up:
            log.warning("worker did not come back", extra={"worker": known.name, "pool": str(known.pool)})
            why, _ = self._ending.get(known.id) or (why_ended(known, self._patience, address=None), 0.0)
            self._give_up(known.id, (known.pool.namespace, known.name), (Outcome.UNKNOWN, why))
        for known in plan.end:
            self._end(known)
        newly_told = not self._told and waited >= self._tell_after
        self._told = self._told or newly_told
        self._release(plan.waiting, waited)
        self._tell_pools(plan.waiting, changed=newly_told)
        if newly_told:
            self._runs.reconcile_held()
        if not plan.waiting and not self._runs.holding:
            return
        deadlines = [plan.look_again_after] if plan.look_again_after is not None else []
        deadlines += [each - waited for each in (self._tell_after, self._patience.usual) if each > waited]
        if deadlines:
            self._look_in(min(deadlines).total_seconds())

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + max(seconds, 0.01)
        if self._look_again is not None:
            if self._looks_at <= at:
                return
            self._look_again.cancel()
        self._look_again, self._looks_at = loop.call_at(at, self._look), at

    def _release(self, waiting: tuple[KnownWorker, ...], waited: timedelta) -> None:
        workers = [worker for worker in self._workers() if worker.id not in self._given_up]
        mute = {(worker.namespace, worker.shown_name) for worker in workers if worker.is_mute}
        self._missing = missing = Missing(waiting, mute if waited < self._patience.usual else ())
        if self._runs.holding:
            known = {(worker.namespace, worker.shown_name) for worker in workers}
            self._runs.release_hold(
                losses_of=lambda record: self._losses_of(record, known, mute),
                but=lambda record: missing.holds(self._runs.waiting_run(record)) is not False,
            )

    def _losses_of(
        self, record: RunRecord, known: set[tuple[str, str]], mute: set[tuple[str, str]]
    ) -> dict[str, _Loss]:
        """Say of each step that nobody will end why that is so."""
        losses: dict[str, _Loss] = dict(self._lost_steps.get(record.uid, {}))
        for step, state in record.run.status.steps.items():
            if state.phase is not Phase.RUNNING or state.worker is None:
                continue
            key = (record.ref.namespace, state.worker)
            if key in self._lost:
                losses[step] = self._lost[key]
            elif key in mute:
                losses[step] = Outcome.UNKNOWN, None  # it may well have it
            elif key not in known:
                losses[step] = Outcome.UNKNOWN, f'worker "{state.worker}" was gone when this operator started'
        return losses

    def _give_up(self, worker_id: str, key: tuple[str, str], loss: _Loss) -> None:
        self._given_up.add(worker_id)
        self._lost[key] = loss
        for uid, steps in (self._handed_over or {}).get(worker_id, {}).items():
            self._lost_steps.setdefault(uid, {}).update(dict.fromkeys(steps, loss))

    def _end(self, known: KnownWorker) -> None:
        worker = next((worker for worker in self._workers() if worker.id == known.id), None)
        pod = self._find_pod(worker.pod_uid) if worker is not None and worker.pod_uid else None
        if pod is None:
            return
        why = why_ended(known, self._patience, address=address_of(pod))
        self._ending[known.id] = why, asyncio.get_running_loop().time()
        log.warning("worker ended, as it did not come back", extra={"worker": known.name, "why": why})
        self._end_pod(known.pool, pod, why)

    def _tell_pools(self, waiting: tuple[KnownWorker, ...], *, changed: bool) -> None:
        before, self._awaited = self._awaited, {}
        for known in waiting:
            self._awaited.setdefault(known.pool, known)
        if self._told:
            for pool in before.keys() | self._awaited.keys():
                if changed or before.get(pool) != self._awaited.get(pool):
                    self._on_change(pool)
