"""What workers report about attempts: that they began, how they ended, that they need more time or no slot.

Only the worker that an attempt was assigned to may report on it; a report on one that is over changes nothing.
"""

from datetime import datetime, timedelta

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.decisions.outputs import output_problem, room_for_output
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.payloads.texts import Payloads
from hatchet_operator.engine.pods.run_pods import RunPods
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.workers.registry import Registry
from hatchet_operator.errors import NotPermitted, NotReady, StaleAttempt
from hatchet_operator.resources.limits import MAX_OBJECT_BYTES


class AttemptCalls:
    """Handles what workers report.

    Args:
        store: What is known of runs.
        runs: The runs that the attempts belong to.
        registry: Learns how workers report.
        run_pods: Told first when an attempt ended in a pod that serves only its run.
        payloads: Decides how much of an output stays in its run.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        runs: Runs,
        registry: Registry,
        run_pods: RunPods,
        payloads: Payloads,
        clock: Clock,
    ) -> None:
        self._store = store
        self._runs = runs
        self._registry = registry
        self._run_pods = run_pods
        self._payloads = payloads
        self._clock = clock

    def attempt(self, caller: Caller, attempt_id: str) -> Attempt | None:
        """Return an attempt that is queued or assigned; None: the caller's namespace has none with that id.

        Raises:
            NotPermitted: It was given to somebody else.
            NotReady: It was given to nobody yet, as far as this operator knows.
        """
        attempt = self._runs.attempts.get(attempt_id)
        if attempt is None or attempt.ref.namespace != caller.namespace:
            return None
        if not attempt.is_of(caller):
            if attempt.worker is None and caller.pool_ref == attempt.pool_ref:
                # Two may lead for a moment: the other may have assigned it, and we will when this worker has a slot.
                raise NotReady(f'step "{attempt.step.name}" of run "{attempt.ref.name}" is queued; repeat the call')
            raise NotPermitted(f'{caller} was not given step "{attempt.step.name}" of run "{attempt.ref.name}"')
        return attempt

    def may_log(self, caller: Caller, attempt_id: str) -> Attempt:
        """Return the attempt that a log line or stream chunk belongs to: one that the caller has, or had a moment ago.

        Raises:
            NotPermitted: It belongs to another caller.
            NotReady: It was given to nobody yet, as far as this operator knows.
            StaleAttempt: It is unknown to whom it belongs.
        """
        if (attempt := self.attempt(caller, attempt_id)) is not None:
            return attempt
        known = self._runs.attempts.get(attempt_id) or self._runs.attempts.over(attempt_id)
        if known is None:
            if self._runs.has_runs_on_hold:
                raise NotReady("this operator has just started, and does not know yet which worker has which attempts")
            raise StaleAttempt(f'there is no attempt "{attempt_id}", or it ended long ago; its report was dropped')
        if known.ref.namespace != caller.namespace or not known.is_of(caller):
            raise NotPermitted(f'attempt "{attempt_id}" was not given to {caller}; its report was dropped')
        return known

    def started(self, caller: Caller, attempt_id: str) -> None:
        """Note that an attempt began; even a worker that does not say which attempts it has says this."""
        if (attempt := self.attempt(caller, attempt_id)) is not None:
            attempt.starts += 1

    async def report(
        self,
        caller: Caller,
        attempt_id: str,
        outcome: Outcome,
        *,
        run_uid: str | None = None,
        payload: str = "",
        may_retry: bool = True,
        retry_after: timedelta | None = None,
    ) -> None:
        """Handle an attempt's end, and return once it is persisted (or no longer matters)."""
        self._run_pods.attempt_ended(caller, attempt_id)
        if not self.may_report(caller, attempt_id, run_uid):
            return  # as for any attempt that does not exist
        self._registry.ended(self._runs.attempts.get(attempt_id))
        now = self._clock.now()
        report = Report(
            attempt_id=attempt_id,
            outcome=outcome,
            at=now,
            output=payload or None if outcome is Outcome.COMPLETED else None,
            error=payload if outcome is Outcome.FAILED else None,
            may_retry=may_retry,
            retry_after=retry_after,
        )
        if outcome is Outcome.COMPLETED and (problem := self._output_problem(attempt_id, payload)) is not None:
            report = Report(attempt_id=attempt_id, outcome=Outcome.FAILED, at=now, error=problem)
        acknowledged = self._runs.report(attempt_id, report, run_uid=run_uid)
        if acknowledged is not None:
            await acknowledged

    def may_report(self, caller: Caller, attempt_id: str, run_uid: str | None) -> bool:
        """Whether a report of this attempt would matter.

        Raises:
            NotPermitted: The attempt was assigned to another worker.
            NotReady: It is not known yet which worker it was assigned to.
        """
        if attempt_id in self._runs.attempts:
            return self.attempt(caller, attempt_id) is not None
        record = self._store.by_uid(run_uid) if run_uid else None
        if record is None or record.ref.namespace != caller.namespace:
            return record is None
        return self._runs.definitions.step_of(record, attempt_id) is None or self._runs.hold.may_have_unclaimed(
            caller, record
        )

    def room_for_output(self, attempt_id: str) -> int:
        """Return the largest size, in bytes, that an attempt's output may have to be kept in its run."""
        attempt = self._runs.attempts.get(attempt_id)
        record = self._store.get(attempt.ref) if attempt else None
        room = room_for_output(record.run, record.reports.values()) if record else MAX_OBJECT_BYTES
        return min(room, self._payloads.inline_bytes)

    def fail(self, attempt: Attempt, error: str) -> None:
        """Fail an attempt that can't be given to its worker; a retry would fail the same way."""
        report = Report(
            attempt_id=attempt.id, outcome=Outcome.FAILED, at=self._clock.now(), error=error, may_retry=False
        )
        self._runs.report(attempt.id, report)

    def refresh_timeout(self, caller: Caller, attempt_id: str, by: timedelta) -> datetime | None:
        """Let an attempt run longer, and return its new deadline; None: it is not the current attempt."""
        attempt = self.attempt(caller, attempt_id)
        if attempt is None or attempt.deadline is None:
            return None
        attempt.deadline += by
        return attempt.deadline

    def release_slot(self, caller: Caller, attempt_id: str) -> None:
        """Free the slot of an attempt that goes on without one, at its own request; nothing if it is over."""
        attempt = self.attempt(caller, attempt_id)
        if attempt is not None:
            attempt.change_slot(lambda: setattr(attempt, "released", True))
            self._runs.attempts.slot_changed(attempt)

    def _output_problem(self, attempt_id: str, payload: str) -> str | None:
        attempt = self._runs.attempts.get(attempt_id)
        record = self._store.get(attempt.ref) if attempt else None
        return output_problem(
            payload,
            step=f'step "{attempt.step.name}"' if attempt else "the step",
            run=record.run if record else None,
            pending=record.reports.values() if record else (),
        )
