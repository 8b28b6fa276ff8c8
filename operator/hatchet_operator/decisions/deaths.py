"""Whether the container that a worker runs in has ended, by what its Pod's status says, and who ended the Pod.

A status is late and describes one container after another, so what it says must be matched to the worker's own:

    start 0: [began …… ended]          start 1: [began …… ended]          start 2: [began ……
                                                   ▲ the worker was alive, by its node's clock

The kubelet's times and the worker's come from the same clock, the node's, so a single moment at which the worker was
alive distinguishes its container from those before and after it, whatever came first: the Pod's events, the
registration or the end. If a worker gives no such moment (published clients do with their first heartbeat), its
container is the first one that is seen running after it registered.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hatchet_operator.resources.pod import Pod, Terminated

_OUT_OF_MEMORY = "OOMKilled"
_KUBELET_ROUNDS = timedelta(seconds=1)  # times in a Pod's status are whole seconds, rounded down


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """What is known of the container that a worker runs in.

    Attributes:
        alive_at: When the worker was alive, by its node's clock; None: it did not say.
        after: Containers that began before this, by our clock, are an earlier worker's; for those that did not say.
        start: How often the container had been restarted when the worker's was running; None: not seen yet.
    """

    alive_at: datetime | None = None
    after: datetime | None = None
    start: int | None = None


def look_at_container(life: Life, pod: Pod) -> tuple[Life, str | None]:
    """Return what is known of the worker's container after this Pod status, and how it ended, or None."""
    worker = pod.worker
    if worker is None:
        return life, None
    if worker.is_running:
        return _while_running(life, worker.restart_count, worker.running_since, worker.last_terminated)
    # for a container that is about to restart, this is in its last state
    ended = worker.terminated or worker.last_terminated
    return _while_none_runs(life, worker.restart_count, ended) if ended is not None else (life, None)


def _while_running(life: Life, start: int, began: datetime | None, last: Terminated | None) -> tuple[Life, str | None]:
    if life.start is not None and start <= life.start:
        return life, None
    alive_at = life.alive_at
    if life.start is None:
        if alive_at is None:
            is_earlier = life.after is not None and began is not None and began < life.after.replace(microsecond=0)
            return (life if is_earlier else replace(life, start=start)), None
        if began is None or began <= alive_at:
            return replace(life, start=start), None
    elif alive_at is not None and began is not None and began <= alive_at and last and _is_before(last, alive_at):
        return replace(life, start=start), None  # the one seen running was an earlier one: the status was late
    if last is None:
        return life, "its container was restarted"
    is_of_it = alive_at is None or _was_running_at(last, alive_at)
    return life, f"its container was restarted {_how(last) if is_of_it else 'more than once'}"


def _while_none_runs(life: Life, start: int, ended: Terminated) -> tuple[Life, str | None]:
    if life.alive_at is not None:
        if _is_before(ended, life.alive_at):
            return replace(life, start=None), None  # an earlier one: the worker's is still to come
        if life.start is None and not _was_running_at(ended, life.alive_at):
            return life, "its container was restarted more than once"
    elif life.start is None or start < life.start:
        return life, None
    return life, f"its container ended {_how(ended)}"


def _how(ended: Terminated) -> str:
    exit_code = "unknown" if ended.exit_code is None else ended.exit_code
    return f"(exit code {exit_code}, {ended.reason or 'no reason'})"


def _is_before(ended: Terminated, moment: datetime) -> bool:
    return ended.finished_at is not None and moment - ended.finished_at >= _KUBELET_ROUNDS


def _was_running_at(ended: Terminated, moment: datetime) -> bool:
    return not _is_before(ended, moment) and (ended.started_at is None or ended.started_at <= moment)


def why_silent(seconds: float, pod: Pod | None) -> str:
    """Say that a worker was silent; the cause is unknown as long as its Pod is said to run."""
    text = f"it was silent for {seconds:.0f} seconds"
    if pod is None or pod.phase != "Running" or pod.node is None:
        return text
    return (
        f'{text}, while its Pod is said to run on node "{pod.node}", which may be gone or cut off, or its process '
        "stopped"
    )


def is_disruption(pod: Pod, *, deleted: bool = False) -> bool:
    """Whether a Pod was taken away: deleted by anybody, drained, preempted, tainted or evicted.

    The kubelet's evictions for a limit of the Pod itself do not count: it reports no disruption for them. Nor does a
    container that was killed for its memory use, whatever else happened.
    """
    worker = pod.worker
    if worker is not None and worker.terminated is not None and worker.terminated.reason == _OUT_OF_MEMORY:
        return False
    return deleted or pod.is_being_deleted or pod.condition("DisruptionTarget").status == "True"
