"""What people do to runs, as patches of their specs: cancel, retry, replay, suspend, resume.

This is shared by what acts for them: the command line, with their kubeconfig, and the operator, on behalf of the SDK. A
patch is valid for the object that was read; on a conflict the object is read, and decided about, again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hatchet_operator.resources.reasons import Phase, Reason, ReplayFrom
from hatchet_operator.resources.run import WorkflowRun

Patch = dict[str, Any]


class Act(StrEnum):
    """What can be done to a run."""

    CANCEL = "cancel"  # the run, and all below it
    RETRY = "retry"  # what failed, in the whole tree; for a paused run: its failed step
    REPLAY = "replay"  # all of it, with new children
    SUSPEND = "suspend"
    RESUME = "resume"  # a suspended run, or a paused one


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The outcome of an act.

    Attributes:
        says: A message about the run.
        patch: For the run's spec; None: there is nothing to do.
        is_refused: It can't be done; otherwise, without a patch, it is already so.
    """

    says: str
    patch: Patch | None = None
    is_refused: bool = False


def plan_act(act: Act, run: WorkflowRun) -> Verdict:
    """Say what has to be patched for an act, or why nothing can be."""
    match act:
        case Act.CANCEL:
            return _cancel(run)
        case Act.RETRY:
            return _retry(run)
        case Act.REPLAY:
            return _replay(run)
        case Act.SUSPEND:
            return _suspend(run)
        case Act.RESUME:
            return _resume(run)


def _cancel(run: WorkflowRun) -> Verdict:
    if _is_over(run):
        return _refused(f"is over ({run.status.phase}), so there is nothing to cancel")
    if run.spec.cancelled:
        return Verdict(says="is already cancelled")
    return _patched(run, "is cancelled, with all below it", cancelled=True)


def _retry(run: WorkflowRun) -> Verdict:
    if is_paused(run):
        return _patched(run, "tries its failed step again", resumes=(run.spec.resumes or 0) + 1)
    if (refused := _no_rerun(run)) is not None:
        return refused
    if run.status.phase is Phase.SUCCEEDED:
        return _refused("succeeded, so nothing of it failed; replay it to run all of it again")
    return _patched(run, "runs again what failed, in all below it first", replay=_next(run, ReplayFrom.FAILED))


def _replay(run: WorkflowRun) -> Verdict:
    if is_paused(run):
        return _refused("is paused; resume it, or cancel it and create another")
    if (refused := _no_rerun(run)) is not None:
        return refused
    return _patched(run, "runs again from the start, with new children", replay=_next(run, ReplayFrom.START))


def _suspend(run: WorkflowRun) -> Verdict:
    if run.spec.suspended:
        return Verdict(says="is already suspended")
    if _is_over(run):
        return _refused(f"is over ({run.status.phase}), so there is nothing to suspend")
    return _patched(run, "is suspended: running steps finish, no others start", suspended=True)


def _resume(run: WorkflowRun) -> Verdict:
    changes: Patch = {"suspended": False} if run.spec.suspended else {}
    if is_paused(run):
        changes["resumes"] = (run.spec.resumes or 0) + 1
    if not changes:
        return Verdict(says="is neither suspended nor paused")
    return _patched(run, "goes on", **changes)


def _no_rerun(run: WorkflowRun) -> Verdict | None:
    """Say why a run can't be run again now; None: it can."""
    if run.spec.cancelled:
        return _refused("was cancelled, and stays so; create another run")
    if run.status.phase.is_final and run.spec.reruns_wanted > run.status.reruns:
        return Verdict(says="is already about to run again")
    if not _is_over(run):
        return _refused(f"goes on ({run.status.phase}); wait for its end, or cancel it and create another")
    return None


def is_paused(run: WorkflowRun) -> bool:
    """Whether a run waits for a person because a step failed permanently."""
    return run.status.reason == Reason.PAUSED and (run.spec.resumes or 0) <= (run.status.resumes or 0)


def is_asked(run: WorkflowRun, patch: Patch) -> bool:
    """Whether a run's spec already says what a patch would set."""
    spec = run.spec.to_wire()
    return all(
        all((spec.get(name) or {}).get(key) == each for key, each in value.items())
        if isinstance(value, dict)
        else spec.get(name) == value
        for name, value in patch["spec"].items()
    )


def retried_in(root: WorkflowRun, tree: Iterable[WorkflowRun]) -> list[WorkflowRun]:
    """Return the runs of a tree that a retry of it begins with: the topmost that failed, and those that are paused.

    Nothing is requested below a failed run: its replay does that. A failed run below one that succeeded, or still runs,
    is retried only from here. What a person cancelled stays as it is.
    """
    below: dict[str, list[WorkflowRun]] = {}
    for run in tree:
        if run.spec.parent is not None:
            below.setdefault(run.spec.parent.uid, []).append(run)
    found, todo = [], [root]
    while todo:
        run = todo.pop()
        has_failed = _is_over(run) and run.status.phase is not Phase.SUCCEEDED
        if is_paused(run) or (has_failed and not run.spec.cancelled):
            found.append(run)
        if not has_failed:
            todo += below.get(run.metadata.uid, [])
    return sorted(found, key=lambda run: run.metadata.name)


def _is_over(run: WorkflowRun) -> bool:
    return run.status.phase.is_final and run.spec.reruns_wanted <= run.status.reruns


def _next(run: WorkflowRun, origin: ReplayFrom) -> Patch:
    return {"number": max(run.spec.reruns_wanted, run.status.reruns) + 1, "from": origin.value, "requestedBy": None}


def _patched(run: WorkflowRun, says: str, **spec: Any) -> Verdict:
    metadata = {"uid": run.metadata.uid, "resourceVersion": run.metadata.resource_version}
    return Verdict(says=says, patch={"metadata": metadata, "spec": spec})


def _refused(says: str) -> Verdict:
    return Verdict(says=says, is_refused=True)
