"""How many pods a pool needs, and which of them may go.

    desired = what is queued and running, in pods, between minReplicas and maxReplicas

A pod goes in two steps: it is drained (its worker gets nothing new), and deleted when it has nothing left or its time
is over. Pods of an older template are replaced by surging: new ones are made beside them, up to a quarter more than
desired, and an old one is drained only when enough others are connected. So a template that does not start takes
nothing away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workerpool import WorkerPool

_ENDED = ("Failed", "Succeeded")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodView:
    """What matters of a pool's pod.

    Attributes:
        name: Its name.
        phase: Its phase, in the kubelet's words.
        deleting: It is about to go.
        current: It was made from the pool's template as it is now.
        connected: Its worker has an open stream.
        attempts: How many attempts its worker has.
        occupied: How many of these occupy a slot.
        idle_for: How long it has had none; None: it has some, or is not connected.
        draining_for: How long it has got nothing new; None: it is not draining.
        trouble: Why it does not run, in the kubelet's words.
    """

    name: str
    phase: str = "Pending"
    deleting: bool = False
    current: bool = True
    connected: bool = False
    attempts: int = 0
    occupied: int = 0
    idle_for: timedelta | None = None
    draining_for: timedelta | None = None
    trouble: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What waits for the pool: attempts in its queues, and how many a pod takes at a time."""

    queued: int
    slots_per_pod: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPlan:
    """What has to happen to a pool's pods, and what its status should say."""

    create: int
    drain: tuple[str, ...]
    delete: tuple[str, ...]
    desired: int
    replicas: int
    ready: int
    reason: Reason
    message: str
    recheck_after: timedelta | None = None

    @property
    def available(self) -> bool:
        return self.reason is Reason.AVAILABLE


def plan_pool(pool: WorkerPool, pods: Sequence[PodView], demand: Demand) -> PoolPlan:
    """Say what a pool's pods need next."""
    spec = pool.spec
    present = [pod for pod in pods if not pod.deleting]
    ended = [pod for pod in present if pod.phase in _ENDED]
    running = [pod for pod in present if pod.phase not in _ENDED]
    staying = [pod for pod in running if pod.draining_for is None]
    current = [pod for pod in staying if pod.current]
    outdated = [pod for pod in staying if not pod.current]
    desired = desired_replicas(pool, occupied=sum(pod.occupied for pod in running), demand=demand)

    surge = max(1, ceil(desired / 4)) if outdated else 0
    room = desired + surge - len(staying)
    create = max(min(desired - len(current), room), 0)
    drain = _replaceable(current, outdated, desired) if outdated else _surplus(pool, current, desired)
    draining = [pod for pod in running if pod.draining_for is not None] + drain
    done = [pod for pod in draining if pod.attempts == 0 or (pod.draining_for or timedelta()) >= spec.drain_timeout]
    ready = sum(pod.connected for pod in staying)
    reason, message = _availability(staying, ready, desired)
    return PoolPlan(
        create=create,
        drain=tuple(pod.name for pod in drain),
        delete=tuple(pod.name for pod in (*ended, *done)),
        desired=desired,
        replicas=len(staying),
        ready=ready,
        reason=reason,
        message=message,
        recheck_after=_next_deadline(pool, current if len(current) > desired else [], draining),
    )


def desired_replicas(pool: WorkerPool, *, occupied: int, demand: Demand) -> int:
    """Return how many pods the work needs, within the pool's bounds."""
    needed = ceil((occupied + demand.queued) / max(demand.slots_per_pod, 1))
    return min(max(needed, pool.spec.min_replicas), max(pool.spec.largest, pool.spec.min_replicas))


def _replaceable(current: list[PodView], outdated: list[PodView], desired: int) -> list[PodView]:
    """Outdated pods that are not needed: those that do not work anyway, and as many as others can stand in for."""
    idle = [pod for pod in outdated if not pod.connected]
    connected = sorted((pod for pod in outdated if pod.connected), key=_least_loss)
    spare = sum(pod.connected for pod in current) + len(connected) - desired
    # Before the first new pod is connected, an outdated one that is still starting may be the only one to come.
    stand_ins = any(pod.connected for pod in current) or desired == 0
    return (idle if stand_ins else []) + connected[: max(spare, 0)]


def _surplus(pool: WorkerPool, current: list[PodView], desired: int) -> list[PodView]:
    """Pods beyond what is desired: idle ones after a while, others at once if they are beyond the maximum."""
    candidates = sorted(current, key=_least_loss)[: max(len(current) - desired, 0)]
    beyond = len(current) - max(pool.spec.largest, pool.spec.min_replicas)
    return [
        pod
        for place, pod in enumerate(candidates)
        if place < beyond or not pod.connected or (pod.idle_for or timedelta()) >= pool.spec.idle_before_scale_in
        if pod.attempts == 0 or place < beyond
    ]


def _least_loss(pod: PodView) -> tuple[bool, int, timedelta, str]:
    """Sort order for removing pods: not connected, then the least busy, then the longest idle."""
    return pod.connected, pod.attempts, -(pod.idle_for or timedelta()), pod.name


def _availability(staying: list[PodView], ready: int, desired: int) -> tuple[Reason, str]:
    count = f"{ready} of {desired} workers are connected"
    if ready >= desired:
        return Reason.AVAILABLE, count
    trouble = next((f"pod {pod.name}: {pod.trouble}" for pod in staying if pod.trouble), None)
    return (Reason.PODS_FAILING, trouble) if trouble else (Reason.PODS_MISSING, count)


def _next_deadline(pool: WorkerPool, idle: list[PodView], draining: list[PodView]) -> timedelta | None:
    """When time alone changes the plan: a pod has been idle, or draining, for long enough."""
    left = [pool.spec.idle_before_scale_in - pod.idle_for for pod in idle if pod.idle_for is not None]
    left += [pool.spec.drain_timeout - (pod.draining_for or timedelta()) for pod in draining if pod.attempts]
    return max(min(left), timedelta(milliseconds=50)) if left else None
