"""Whether the container that a worker lives in has ended, by what its Pod's status says, and who ended the Pod.

A status comes late and speaks of one container after another, so what it says has to be about the worker's own:

    start 0: [began …… ended]          start 1: [began …… ended]          start 2: [began ……
                                                   ▲ the worker was alive, by its node's clock

The kubelet's times and the worker's are of the same clock, that of the node, so one moment at which the worker was
alive tells its container from those before and after it, whatever came first: the Pod's events, the registration or
the end. Of a worker that tells no such moment (published clients do with their first heartbeat), the container is the
first one that is seen running after it registered.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hatchet_operator.decisions.pooling import worker_status

Json = dict[str, Any]

_OUT_OF_MEMORY = "OOMKilled"
_KUBELET_ROUNDS = timedelta(seconds=1)  # times in a Pod's status are whole seconds, rounded down


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """What is known of the container that a worker lives in.

    Attributes:
        alive_at: When the worker was alive, by its node's clock; None: it did not say.
        after: Containers that began before this, by our clock, are an earlier worker's; for those that did not say.
        start: How often the container had been started again when the worker's was running; None: not seen yet.
    """

    alive_at: datetime | None = None
    after: datetime | None = None
    start: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """One container that ended."""

    began: datetime | None
    ended: datetime | None
    exit_code: Any
    reason: Any

    def __str__(self) -> str:
        return f"(exit code {self.exit_code}, {self.reason})"

    def is_before(self, moment: datetime) -> bool:
        return self.ended is not None and moment - self.ended >= _KUBELET_ROUNDS

    def was_running_at(self, moment: datetime) -> bool:
        return not self.is_before(moment) and (self.began is None or self.began <= moment)


def look_at_container(life: Life, pod: Json) -> tuple[Life, str | None]:
    """Take in a Pod's status: what is known of the worker's container now, and how it ended, or None."""
    status = worker_status(pod)
    if status is None:
        return life, None
    start, state = status.get("restartCount", 0), status.get("state") or {}
    last = _ended(status.get("lastState") or {})
    if (running := state.get("running")) is not None:
        return _while_running(life, start, _time(running.get("startedAt")), last)
    ended = _ended(state) or last  # that of a container which is about to start again stands in the last state
    return _while_none_runs(life, start, ended) if ended is not None else (life, None)


def _while_running(life: Life, start: int, began: datetime | None, last: _Ended | None) -> tuple[Life, str | None]:
    if life.start is not None and start <= life.start:
        return life, None
    alive_at = life.alive_at
    if life.start is None:
        if alive_at is None:
            is_earlier = life.after is not None and began is not None and began < life.after.replace(microsecond=0)
            return (life if is_earlier else replace(life, start=start)), None
        if began is None or began <= alive_at:
            return replace(life, start=start), None
    elif alive_at is not None and began is not None and began <= alive_at and last and last.is_before(alive_at):
        return replace(life, start=start), None  # what was seen running was an earlier one: the status came late
    is_of_it = last is not None and (alive_at is None or last.was_running_at(alive_at))
    return life, f"its container was restarted{f' {last}' if is_of_it else ' more than once' if last else ''}"


def _while_none_runs(life: Life, start: int, ended: _Ended) -> tuple[Life, str | None]:
    if life.alive_at is not None:
        if ended.is_before(life.alive_at):
            return replace(life, start=None), None  # an earlier one: the worker's is to come
        if life.start is None and not ended.was_running_at(life.alive_at):
            return life, "its container was restarted more than once"
    elif life.start is None or start < life.start:
        return life, None
    return life, f"its container ended {ended}"


def why_silent(seconds: float, pod: Json | None) -> str:
    """Say that nothing was heard of a worker; why, nobody knows as long as its Pod is said to run."""
    text = f"it was silent for {seconds:.0f} seconds"
    if pod is None or pod.get("status", {}).get("phase") != "Running" or not pod.get("spec", {}).get("nodeName"):
        return text
    node = pod["spec"]["nodeName"]
    return (
        f'{text}, while its Pod is said to run on node "{node}", which may be gone or cut off, or its process stopped'
    )


def is_disruption(pod: Json, *, deleted: bool = False) -> bool:
    """Whether a Pod was taken away: deleted by whomever, drained, preempted, tainted or evicted.

    The kubelet's evictions for a limit of the Pod itself are none: it names no disruption for them. Nor is a container
    that was killed for the memory it took, whatever came with it.
    """
    status = worker_status(pod) or {}
    if ((status.get("state") or {}).get("terminated") or {}).get("reason") == _OUT_OF_MEMORY:
        return False
    conditions: list[Json] = pod.get("status", {}).get("conditions") or []
    named = any((each.get("type"), each.get("status")) == ("DisruptionTarget", "True") for each in conditions)
    return deleted or named or "deletionTimestamp" in pod["metadata"]


def _ended(state: Json) -> _Ended | None:
    terminated = state.get("terminated")
    if not terminated:
        return None
    return _Ended(
        began=_time(terminated.get("startedAt")),
        ended=_time(terminated.get("finishedAt")),
        exit_code=terminated.get("exitCode", "unknown"),
        reason=terminated.get("reason") or "no reason",
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
