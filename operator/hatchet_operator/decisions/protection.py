"""Whether a node may be taken from under a pool's pod: not while the pod does what would have to be done again.

    made for work ─────────────► protected ─ no work for two minutes, or it can't start ─► open
                                     ▲                                                       │
                                     └────────── one attempt goes on for `after` ────────────┘

Two annotations of the Pod say it, which the cluster autoscaler and Karpenter read. So there is no write for each run:
short attempts never protect a pod, a pod that works again within two minutes stays protected, one that is made for work
is made with them, and a surplus one is usually deleted before they would be taken off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from hatchet_operator.decisions.scaling import PodView

PROTECTED: Mapping[str, str] = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}

IDLE = timedelta(minutes=2)
"""Twice the default of ``idleBeforeScaleIn``; the cluster autoscaler itself waits ten minutes with an unneeded node."""

_BETWEEN_WRITES = timedelta(minutes=1)  # of one pod; a write may be refused each time


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtectionPlan:
    """Pods to protect, pods to open, and when time alone changes this."""

    protect: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    recheck_after: timedelta | None = None


def is_protected(annotations: Mapping[str, str]) -> bool:
    """Whether annotations protect a pod; those of a template protect all of its pods, always."""
    return PROTECTED.items() <= annotations.items()


def open_annotations(template: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return what a pod has while it is not protected: what its pool's template says; None: nothing."""
    return {name: template.get(name) for name in PROTECTED}


def plan_protection(
    pods: Sequence[PodView], *, after: timedelta, template: Mapping[str, str] | None = None
) -> ProtectionPlan:
    """Decide which pods are to be protected from now on, and which no longer.

    Args:
        pods: Those of a pool.
        after: How long one attempt must have gone on; zero: no pod is protected.
        template: The annotations of the pool's template.
    """
    if not after or is_protected(template or {}):
        return ProtectionPlan()
    present = [pod for pod in pods if not pod.deleting and pod.ended_for is None]
    due = {pod.name: _due_in(pod, after) for pod in present}
    now = [pod for pod in present if due[pod.name] == timedelta()]
    later = [left for left in due.values() if left]
    return ProtectionPlan(
        protect=tuple(pod.name for pod in now if not pod.protected),
        open=tuple(pod.name for pod in now if pod.protected),
        recheck_after=min(later, default=None),
    )


def _due_in(pod: PodView, after: timedelta) -> timedelta | None:
    """Return when a pod is to change, if nothing else does; None: not as things are."""
    if pod.protected:
        if pod.trouble is not None and pod.on_node and not pod.has_worker:
            left = timedelta()
        elif pod.idle_for is not None:
            left = IDLE - pod.idle_for
        else:
            return None
    elif pod.busy_for is not None:
        left = after - pod.busy_for
    else:
        return None
    if pod.written_for is not None:
        left = max(left, _BETWEEN_WRITES - pod.written_for)
    return max(left, timedelta())
