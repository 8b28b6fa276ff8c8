"""How many pods a pool needs, and which of them may be removed.

    desired = what is queued and running, in pods, between minReplicas and maxReplicas

A pod is removed in two steps: it is drained (its worker gets nothing new), and deleted when it has nothing left or its
time is over. Pods of an older template are replaced by surging: new ones are created beside them, up to a quarter more
than desired, and an old one is drained only when enough others are connected. So a template that does not start does no
harm; its pods are removed when another template needs their room.

A pod that ended by itself is replaced after a pause, which doubles with each that did not live long: the kubelet's own
back-off is about containers, and does not apply to a pod that does not restart them. How many there were before is
recorded on the next pod, and the last of them is kept for its log until enough workers are connected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from hatchet_operator.backoff import POOL_POD_ENDED
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workerpool import WorkerPool

_LONG_LIFE = timedelta(minutes=10)  # after which the kubelet resets its back-off, too


@dataclass(frozen=True, kw_only=True, slots=True)
class PodView:
    """The relevant properties of a pool's pod.

    Attributes:
        name: Its name.
        deleting: It is being deleted.
        current: It was created from the pool's current template.
        connected: Its worker has an open stream.
        attempts: How many attempts its worker has.
        occupied: How many of these occupy a slot.
        idle_for: How long its worker has had none; None: it has some, or there is no worker.
        draining_for: How long it has been draining; None: it is not.
        trouble: Why it does not run, in the kubelet's words.
        number: How many pods before it ended soon after they were created.
        ended_for: How long ago it was seen to have ended by itself; None: it did not.
        lived: How long its worker ran, if it ended.
        busy_for: How long the oldest of its worker's attempts has gone on; None: there is none.
        on_node: It was given a node.
        protected: Its node is not to be taken away, see `protection`.
        written_for: How long ago that was last written, or tried; None: this operator did not.
    """

    name: str
    deleting: bool = False
    current: bool = True
    connected: bool = False
    attempts: int = 0
    occupied: int = 0
    idle_for: timedelta | None = None
    draining_for: timedelta | None = None
    trouble: str | None = None
    number: int = 0
    ended_for: timedelta | None = None
    lived: timedelta = timedelta()
    busy_for: timedelta | None = None
    on_node: bool = True
    protected: bool = False
    written_for: timedelta | None = None

    @property
    def has_worker(self) -> bool:
        """Whether its worker is registered: one that is not connected reconnects soon, or is declared dead."""
        return self.connected or self.attempts > 0 or self.idle_for is not None


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
    rollout: Reason
    rollout_message: str
    number: int = 0  # of the pods to create, see PodView
    for_work: bool = False  # which they are created for, and not to be there when some comes
    recheck_after: timedelta | None = None

    @property
    def available(self) -> bool:
        return self.reason is Reason.AVAILABLE


def plan_pool(pool: WorkerPool, pods: Sequence[PodView], demand: Demand) -> PoolPlan:
    """Decide what a pool's pods need next."""
    spec = pool.spec
    present = [pod for pod in pods if not pod.deleting]
    ended = [pod for pod in present if pod.ended_for is not None]
    running = [pod for pod in present if pod.ended_for is None]
    staying = [pod for pod in running if pod.draining_for is None]
    current = [pod for pod in staying if pod.current]
    outdated = [pod for pod in staying if not pod.current]
    desired = desired_replicas(pool, occupied=sum(pod.occupied for pod in running), demand=demand)

    surge = max(1, ceil(desired / 4)) if outdated else 0
    room = desired + surge - len(staying)
    ready = sum(pod.connected for pod in staying)
    last = _last_of_short_life(ended)
    pause = _pause_left(last) if last else timedelta()
    kept = last if pause or ready < desired else None
    create = 0 if pause else max(min(desired - len(current), room), 0)
    drain = _replaceable(current, outdated, desired) if outdated else _surplus(pool, current, desired)
    draining = [pod for pod in running if pod.draining_for is not None] + drain
    done = [pod for pod in draining if pod.attempts == 0 or (pod.draining_for or timedelta()) >= spec.drain_timeout]
    trouble = _trouble_in(current, last)
    reason, message = _availability(trouble or _trouble_in(outdated, None), ready, desired)
    rollout, rollout_message = _rollout(running, trouble, desired)
    return PoolPlan(
        create=create,
        drain=tuple(pod.name for pod in drain),
        delete=tuple(pod.name for pod in (*ended, *done) if pod is not kept),
        desired=desired,
        replicas=len(staying),
        ready=ready,
        reason=reason,
        message=message,
        rollout=rollout,
        rollout_message=rollout_message,
        number=last.number + 1 if last else 0,
        for_work=desired > spec.smallest,
        recheck_after=_next_deadline(pool, current if len(current) > desired else [], draining, pause),
    )


def desired_replicas(pool: WorkerPool, *, occupied: int, demand: Demand) -> int:
    """Return how many pods the work needs, within the pool's bounds."""
    needed = ceil((occupied + demand.queued) / max(demand.slots_per_pod, 1))
    return min(max(needed, pool.spec.smallest), pool.spec.largest)


def pause_after(number: int) -> timedelta:
    """Return how long after a pod's early end the next is created: 1 s, 2 s, 4 s … 5 min."""
    return timedelta(seconds=POOL_POD_ENDED.after(number + 1))


def _pause_left(last: PodView) -> timedelta:
    return max(pause_after(last.number) - (last.ended_for or timedelta()), timedelta())


def _last_of_short_life(ended: list[PodView]) -> PodView | None:
    early = [pod for pod in ended if pod.current and pod.lived < _LONG_LIFE]
    return max(early, key=lambda pod: (pod.number, -(pod.ended_for or timedelta()), pod.name), default=None)


def _replaceable(current: list[PodView], outdated: list[PodView], desired: int) -> list[PodView]:
    """Return outdated pods that are not needed: those that do not work anyway, and as many as others can replace.

    A pod without a worker may be the only one to come. So before the first new pod is connected, only those are removed
    that take the room of a newer one: pods of a template that did not start and that the newer one fixes.
    """
    absent = sorted((pod for pod in outdated if not pod.has_worker), key=_least_hope)
    connected = sorted((pod for pod in outdated if pod.connected), key=_least_loss)
    new = sum(pod.connected for pod in current)
    needed = 0 if new else desired
    return absent[: max(len(outdated) - needed, 0)] + connected[: max(new + len(connected) - desired, 0)]


def _surplus(pool: WorkerPool, current: list[PodView], desired: int) -> list[PodView]:
    """Return pods beyond what is desired: idle ones after a while, others at once if they are beyond the maximum."""
    candidates = sorted(current, key=_least_loss)[: max(len(current) - desired, 0)]
    beyond = len(current) - pool.spec.largest
    return [
        pod
        for place, pod in enumerate(candidates)
        if place < beyond or not pod.has_worker or (pod.idle_for or timedelta()) >= pool.spec.idle_before_scale_in
        if pod.attempts == 0 or place < beyond
    ]


def _least_loss(pod: PodView) -> tuple[bool, int, timedelta, str]:
    """Return a sort key for removing pods: not connected, then the least busy, then the longest idle."""
    return pod.connected, pod.attempts, -(pod.idle_for or timedelta()), pod.name


def _least_hope(pod: PodView) -> tuple[bool, str]:
    """Return a sort key for removing pods that have no worker."""
    return pod.trouble is None, pod.name


def _trouble_in(pods: list[PodView], last: PodView | None) -> str | None:
    """Say why a pod is not connected: one of these, or otherwise the last one that ended."""
    trouble = next((f"pod {pod.name}: {pod.trouble}" for pod in pods if pod.trouble and not pod.connected), None)
    if trouble is None and last is not None:
        return f"pod {last.name}: {last.trouble or 'it ended'}"
    return trouble


def _availability(trouble: str | None, ready: int, desired: int) -> tuple[Reason, str]:
    count = f"{ready} of {desired} workers are connected"
    if ready >= desired:
        return Reason.AVAILABLE, count
    return (Reason.PODS_FAILING, trouble) if trouble else (Reason.PODS_MISSING, count)


def _rollout(running: list[PodView], trouble: str | None, desired: int) -> tuple[Reason, str]:
    """Say whether the template has proved to work, with no pod of an older one left, and otherwise why not.

    While pods of an older one work, nothing else shows that new ones fail.
    """
    older = sum(not pod.current for pod in running)
    updated = sum(pod.current and pod.connected for pod in running)
    if not older and (updated or not desired):
        return Reason.ROLLED_OUT, ""
    if trouble:
        return Reason.PODS_FAILING, trouble
    message = f"{updated} of {desired} workers have the current template"
    return Reason.ROLLING_OUT, message + (f"; pods of older ones: {older}" if older else "")


def _next_deadline(
    pool: WorkerPool, idle: list[PodView], draining: list[PodView], pause: timedelta
) -> timedelta | None:
    """Return when time alone changes the plan: a pod has been idle, draining or gone for long enough."""
    left = [pool.spec.idle_before_scale_in - pod.idle_for for pod in idle if pod.idle_for is not None]
    left += [pool.spec.drain_timeout - (pod.draining_for or timedelta()) for pod in draining if pod.attempts]
    left += [pause] if pause else []
    return max(min(left), timedelta(milliseconds=50)) if left else None
