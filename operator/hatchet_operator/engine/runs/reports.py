"""Reports of how attempts ended: kept until the run's status includes them, and only then answered."""

import asyncio
from collections.abc import Callable

from hatchet_operator.decisions.claims import gives_way
from hatchet_operator.decisions.observed import Report, current_attempt_id
from hatchet_operator.engine.dispatch.attempts import Attempts
from hatchet_operator.engine.runs.definitions import Definitions
from hatchet_operator.engine.runs.hold import Hold
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import NotReady


class Reports:
    """Accepts reports, and answers them.

    Args:
        store: What is known of runs.
        attempts: What leaves its worker when its end is reported.
        definitions: What runs execute.
        hold: Which runs are on hold after a start.
        requeue: Has a run reconciled.
    """

    def __init__(
        self,
        store: RunStore,
        attempts: Attempts,
        definitions: Definitions,
        hold: Hold,
        *,
        requeue: Callable[[RunRecord], None],
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._definitions = definitions
        self._hold = hold
        self._requeue = requeue

    def take(self, identity: str, report: Report, *, run_uid: str | None = None) -> asyncio.Future[None] | None:
        """Accept a report of how an attempt ended.

        Returns:
            A future that is done when the run's status includes it; None: this attempt is not, or no longer, wanted.

        Raises:
            NotReady: Its worker has not said yet that it has this attempt, from before a restart.
        """
        attempt = self._attempts.get(identity)
        record = self._store.get(attempt.ref) if attempt else self._store.by_uid(run_uid) if run_uid else None
        step = attempt.step.name if attempt else self._definitions.step_of(record, identity) if record else None
        if record is None or step is None:
            if self._hold.is_on and (record is None or record.may_be_assigned):
                raise NotReady("this operator has just started, and does not know all attempts yet; repeat the call")
            return None
        acknowledged = asyncio.get_running_loop().create_future()
        record.acks.setdefault(identity, []).append(acknowledged)
        before = record.reports.get(step)
        is_being_written = before is not None and record.is_being_written(before.attempt_id)
        if gives_way(before, is_being_written=is_being_written):
            record.reports[step] = report  # a worker's word takes precedence over what we inferred from its silence
        if attempt is not None:
            self._attempts.left(attempt)
        self._requeue(record)
        return acknowledged

    def settle(self, record: RunRecord) -> None:
        """Answer the calls whose report the persisted status includes or makes obsolete."""
        for step, report in list(record.reports.items()):
            state = record.run.status.steps.get(step)
            step_is_final = state is not None and state.phase.is_final
            if not (record.is_final or step_is_final or current_attempt_id(record.run, step) != report.attempt_id):
                continue
            del record.reports[step]
            attempt = record.attempts.get(step)
            if attempt is not None and attempt.id == report.attempt_id:
                self._attempts.forget(attempt)
                self._attempts.left(attempt)  # which may have claimed it after the report came
            self._acknowledge(record, report.attempt_id)

    def drop(self, record: RunRecord) -> None:
        """Answer all calls: the run is gone, and nothing more about it is persisted."""
        record.reports.clear()
        for identity in list(record.acks):
            self._acknowledge(record, identity)

    def _acknowledge(self, record: RunRecord, identity: str) -> None:
        for future in record.acks.pop(identity, ()):
            if not future.done():
                future.set_result(None)
