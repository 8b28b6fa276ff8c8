"""Which attempts workers claim to have when they connect, reconciled with what is known."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from hatchet_operator.decisions.claims import NO_CLAIM, AssignedTo, Claim, ClaimVerdict, judge
from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import CancelCommand, Worker
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.results import Results
from hatchet_operator.engine.runs.store import RunStore

BEGAN_BEFORE = 100  # an attempt's `starts`: it ran before this operator did, as its status says


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedAttempt:
    """An attempt that a worker says it has."""

    run: str
    attempt_id: str
    step: str
    started_at: datetime | None  # by its own clock; None: it did not say


class Claims:
    """Handles the claims of workers.

    Args:
        store: What is known of runs.
        runs: The runs whose attempts are claimed.
        results: Resumes runs that wait for children.
        clock: Tells the time.
    """

    def __init__(self, *, store: RunStore, runs: Runs, results: Results, clock: Clock) -> None:
        self._store = store
        self._runs = runs
        self._results = results
        self._clock = clock

    def persisted_claims_of(self, worker: Worker) -> list[ClaimedAttempt]:
        """Return what a worker was assigned before this operator's time, if it does not say.

        Only the process that registered knows its id, so that process is the one that got them.
        """
        return [
            ClaimedAttempt(
                run=record.ref.name,
                attempt_id=current_attempt_id(record.run, step),
                step=step,
                started_at=state.started_at,
            )
            for record in self._store.unfinished()
            if record.may_be_assigned and record.ref.namespace == worker.namespace
            for step, state in record.run.status.steps.items()
            if state.phase == "Running" and state.worker == worker.shown_name and step not in record.attempts
        ]

    def adopt(self, worker: Worker, claimed: list[ClaimedAttempt]) -> None:
        """Let a worker continue with the attempts that it may have, and stop the rest."""
        for item in claimed:
            record = self._store.find(worker.namespace, item.run)
            step = self._runs.definitions.step_of(record, item.attempt_id) if record else None
            if record is None or step is None:
                verdict = judge(NO_CLAIM)
            else:
                verdict = judge(self._claim(worker, record, step, self._runs.attempts.get(item.attempt_id)))
                if verdict is ClaimVerdict.ADOPT:
                    self._adopt(worker, record, step, item)
            if verdict is ClaimVerdict.STOP:
                worker.send(CancelCommand(attempt_id=item.attempt_id, run=item.run, step=item.step, retry_count=0))
                self._runs.attempts.told_to_stop(worker, item.attempt_id, self._clock.now())

    def _claim(self, worker: Worker, record: RunRecord, step: str, attempt: Attempt | None) -> Claim:
        report, state = record.reports.get(step), record.run.status.steps.get(step)
        return Claim(
            is_current=True,
            assigned_to=_assigned_to(attempt, worker),
            is_for_other_run=worker.run_uid not in (None, record.uid),
            is_being_reassigned=report is not None and report.is_assumed and record.is_being_written(report.attempt_id),
            is_persisted=state is not None and state.worker == worker.shown_name,
            is_of_its_pool=self._runs.definitions.may_have(worker.pool, record),
        )

    def _adopt(self, worker: Worker, record: RunRecord, step: str, item: ClaimedAttempt) -> None:
        attempt = self._runs.attempts.get(item.attempt_id)
        if attempt is not None:
            self._runs.attempts.queue.withdraw(attempt)
        else:
            attempt = self._runs.wanted.make(record, step, item.attempt_id, self._clock.now())
        attempt.sent = True
        if not worker.makes_claims:
            attempt.starts = BEGAN_BEFORE
        report = record.reports.get(step)
        if report is not None and report.is_assumed:
            del record.reports[step]  # it was not reassigned: the worker was merely late
        self._runs.attempts.assign(attempt, worker, started_at=_started_at(record, step, item, self._clock.now()))
        self._results.resume_waiting(record)
        self._runs.requeue(record)


def _started_at(record: RunRecord, step: str, item: ClaimedAttempt, now: datetime) -> datetime:
    """Return what the status says; otherwise what the worker says, within reason: its clock is not ours."""
    state = record.run.status.steps.get(step)
    if state is not None and state.phase == "Running" and state.started_at is not None:
        return state.started_at
    return min(max(item.started_at, now - timedelta(days=1)), now) if item.started_at is not None else now


def _assigned_to(attempt: Attempt | None, claimant: Worker) -> AssignedTo:
    if attempt is None or attempt.worker is None:
        return AssignedTo.NOBODY
    return AssignedTo.CLAIMANT if attempt.worker is claimant else AssignedTo.ANOTHER
