"""Pods that are created for one run: what they look like, and when one is created, deleted or killed.

    an attempt waits, no pod exists or is coming
        └─► pod ─► its worker takes the run's attempts ─► the run is final ─► deleted
             ├─ ended by itself ─► kept for its log, the next one after a pause
             └─ an attempt still runs that was told to stop, or the worker is dead ─► killed, the next one at once

A pod in which an attempt was told to stop gets nothing new: it is unknown whether the step reacts. restartPolicy is
Never, so each pod is one life of a worker; the pause between two lives is ours, and grows with their number.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from hatchet_operator.backoff import RUN_POD_ENDED
from hatchet_operator.decisions.pooling import OperatorAccess, make_pod
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json, owner_reference
from hatchet_operator.resources.pod import Pod
from hatchet_operator.resources.pod_overrides import PodOverrides
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool

_LOOK_AGAIN = timedelta(seconds=5)  # at a pod that can't start: its template may have been fixed
_LONGEST_NAME = 253


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPodView:
    """The relevant properties of a run's pod.

    Attributes:
        name: Its name.
        number: How many pods the run had before it.
        deleting: It is being deleted.
        current: It was created from what its pool's template and its workflow say now.
        connected: Its worker has an open stream.
        draining: Its worker gets nothing new.
        attempts: How many attempts its worker has.
        lost: Its worker is dead, though the pod may still run.
        stopping_for: How long ago an attempt that does not end was told to stop; None: there is none.
        ended_for: How long ago it ended by itself; None: it did not.
        trouble: Why it does not run.
    """

    name: str
    number: int = 0
    deleting: bool = False
    current: bool = True
    connected: bool = False
    draining: bool = False
    attempts: int = 0
    lost: bool = False
    stopping_for: timedelta | None = None
    ended_for: timedelta | None = None
    trouble: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPodsPlan:
    """What has to happen: whether to create a pod, and which to delete or kill (delete at once)."""

    create: bool = False
    delete: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    recheck_after: timedelta | None = None


def plan_run_pods(pods: Sequence[RunPodView], *, final: bool, queued: bool, cancel_grace: timedelta) -> RunPodsPlan:
    """Decide what the pods of a run need next.

    Args:
        pods: All that exist.
        final: The run is over, or gone.
        queued: Attempts of it wait for a worker.
        cancel_grace: How long an attempt that was told to stop may take to end by itself.
    """
    kill = [pod for pod in pods if _must_be_killed(pod, cancel_grace)]
    left = [pod for pod in pods if pod not in kill and not pod.deleting]
    stopping = [cancel_grace - pod.stopping_for for pod in pods if pod not in kill and pod.stopping_for is not None]
    if final:
        delete = [pod for pod in left if pod.stopping_for is None]
        return _plan(delete=delete, kill=kill, recheck=stopping)
    ended = sorted((pod for pod in left if pod.ended_for is not None), key=lambda pod: pod.number)
    unneeded = [pod for pod in left if pod not in ended and _is_unneeded(pod)]
    usable = [pod for pod in left if pod not in ended and pod not in unneeded and not pod.draining]
    recheck = stopping + [_LOOK_AGAIN for pod in usable if pod.trouble is not None and not pod.connected]
    create = queued and not usable
    if create and ended:
        pause = pause_after(ended[-1].number) - (ended[-1].ended_for or timedelta())
        if pause > timedelta():
            create = False
            recheck.append(pause)
    return _plan(create=create, delete=[*ended[:-1], *unneeded], kill=kill, recheck=recheck)


def _must_be_killed(pod: RunPodView, cancel_grace: timedelta) -> bool:
    return pod.lost or (pod.stopping_for is not None and pod.stopping_for >= cancel_grace)


def _is_unneeded(pod: RunPodView) -> bool:
    """Whether it takes nothing more and has nothing left; or can't start, and a new one would be different."""
    if pod.draining:
        return pod.attempts == 0 and pod.stopping_for is None
    return pod.trouble is not None and not pod.connected and not pod.current


def pause_after(number: int) -> timedelta:
    """Return how long after a pod's end the next is created: 1 s, 2 s, 4 s … 1 min."""
    return timedelta(seconds=RUN_POD_ENDED.after(number + 1))


def _plan(
    *,
    create: bool = False,
    delete: Sequence[RunPodView] = (),
    kill: Sequence[RunPodView] = (),
    recheck: Sequence[timedelta] = (),
) -> RunPodsPlan:
    return RunPodsPlan(
        create=create,
        delete=tuple(pod.name for pod in delete),
        kill=tuple(pod.name for pod in kill),
        recheck_after=max(min(recheck), timedelta(milliseconds=10)) if recheck else None,
    )


# --- What they look like


def run_pod_name(run: str, number: int) -> str:
    """Name a run's pod after the run, so that ``kubectl logs <run>`` finds it; a later one gets a suffix."""
    suffix = f"-{number}" if number else ""
    return run[: _LONGEST_NAME - len(suffix)].rstrip("-.") + suffix


def make_run_pod(
    pool: WorkerPool,
    access: OperatorAccess,
    run: WorkflowRun,
    *,
    number: int,
    overrides: PodOverrides | None,
    protected: bool = False,
) -> Json:
    """Build the pod of a run: a pod of the pool, with the workflow's overrides, owned by the run.

    It has work for as long as it is there, so it is protected from the start, or never.
    """
    pod = make_pod(pool, access, protected=protected)
    spec = pod["spec"]
    spec["restartPolicy"] = "Never"
    _override(spec, overrides or PodOverrides())
    metadata = pod["metadata"]
    del metadata["generateName"]
    metadata["name"] = run_pod_name(run.metadata.name, number)
    metadata["annotations"][labels.POOL_TEMPLATE] = metadata["labels"][labels.TEMPLATE]
    metadata["labels"] |= {labels.RUN_UID: run.metadata.uid, labels.TEMPLATE: _hash(spec)}
    metadata["annotations"][labels.POD_NUMBER] = str(number)
    metadata["ownerReferences"] = [owner_reference(run)]
    return pod


def _override(spec: Json, overrides: PodOverrides) -> None:
    wire = overrides.to_wire()
    if "resources" in wire:
        spec["containers"][0]["resources"] = {kind: amounts for kind, amounts in wire["resources"].items() if amounts}
    if overrides.node_selector:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **overrides.node_selector}
    if overrides.tolerations:
        spec["tolerations"] = [*(spec.get("tolerations") or []), *wire["tolerations"]]


def _hash(spec: Json) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def has_ended(pod: Pod) -> bool:
    """Whether a pod's worker has ended; a sidecar may keep the pod itself running."""
    return pod.is_over or (pod.worker is not None and pod.worker.terminated is not None)


def run_uid_of(pod: Pod) -> str | None:
    """Return the UID of the run that a Pod was created for, if the Pod is labelled with it and owned by it."""
    uid = pod.labels.get(labels.RUN_UID)
    return uid if any((owner.kind, owner.uid) == (WorkflowRun.__name__, uid) for owner in pod.owners) else None
