"""Which pods had which attempts of the runs, as far as the runs' statuses say. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hatchet_operator import terminal
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.run_logs.lines import Wanted

_NAMED = 3
_NEVER_BEGUN = (Reason.SCHEDULING_TIMED_OUT, Reason.PREVIOUS_STEP_FAILED)  # the worker is the previous attempt's


@dataclass(kw_only=True, slots=True)
class Place:
    """A pod, or a worker that may not be a pod, and the attempts that it had.

    Attributes:
        pod: Its name.
        is_the_runs: Whether it was created for one of the runs.
        attempts: (run, step, attempt from 1).
    """

    pod: str
    is_the_runs: bool = False
    attempts: list[tuple[str, str, int]] = field(default_factory=list)

    def in_words(self, *, with_run: bool) -> str:
        """Return the attempts as a person would name them."""
        named = [
            f'attempt {attempt} of step "{terminal.one_line(step)}"' + (f" of {run}" if with_run else "")
            for run, step, attempt in self.attempts[:_NAMED]
        ]
        more = len(self.attempts) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


def places_of(runs: Iterable[WorkflowRun], wanted: Wanted) -> dict[str, Place]:
    """Return the workers of the wanted attempts, in the order in which the runs came to them."""
    found: dict[str, Place] = {}
    for run in runs:
        for step, state in run.status.steps.items():
            had = [(earlier.attempt, earlier.worker) for earlier in state.earlier]
            if state.worker is not None and state.phase is not Phase.PENDING and state.reason not in _NEVER_BEGUN:
                had.append((state.attempt, state.worker))
            for attempt, worker in had:
                if wanted.takes(step, attempt + 1):
                    place = found.setdefault(worker, Place(pod=worker))
                    place.attempts.append((run.metadata.name, step, attempt + 1))
    return found


def wanted_in_vain(runs: Iterable[WorkflowRun], wanted: Wanted) -> str | None:
    """Say that no run has begun the wanted step or attempt, and what there is; None: one has."""
    begun = {
        step: max([state.attempt, *(earlier.attempt for earlier in state.earlier)]) + 1
        for run in runs
        for step, state in run.status.steps.items()
        if state.phase is not Phase.PENDING or state.earlier
    }
    if wanted.is_all or any(wanted.takes(step, attempt + 1) for step in begun for attempt in range(begun[step])):
        return None
    step = "no step" if wanted.step is None else f'no step "{terminal.one_line(wanted.step)}"'
    attempt = "" if wanted.attempt is None else f" with an attempt {wanted.attempt}"
    there = ", ".join(f"{terminal.one_line(step)} (attempt {last})" for step, last in begun.items())
    return f"has begun {step}{attempt}; begun so far: {there or 'none'}"
