"""What a Pod's status says, in the kubelet's words. Pure: from what happened to the JSON of the status."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from hatchet_operator.resources.base import Json
from hatchet_operator_dev.localnode.environment import LOOPBACK
from hatchet_operator_dev.localnode.process import Ended

_FIRST_BACK_OFF_SECONDS = 1.0
_LONGEST_BACK_OFF_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0  # a container that ran for this long gets the shortest back-off again
_MAX_MESSAGE = 4096  # the kubelet's limit for termination messages


def should_restart(policy: str, exit_code: int) -> bool:
    """Say whether a container that ended is started again, after its pod's restartPolicy."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def next_back_off(current: float | None, *, ran_seconds: float) -> float:
    """Return how long to wait before the next start: 1 s, 2 s, 4 s … 30 s."""
    if current is None or ran_seconds >= _HEALTHY_SECONDS:
        return _FIRST_BACK_OFF_SECONDS
    return min(current * 2, _LONGEST_BACK_OFF_SECONDS)


@dataclass(frozen=True, kw_only=True)
class ContainerRecord:
    """What is known of a pod's one container.

    Attributes:
        name, image: As the pod has them.
        pod_started_at: When the node took the pod.
        restarts: How often the container was started again.
        container_id: Of the current or last start.
        state, last_state: As in the Pod's status.
    """

    name: str
    image: str
    pod_started_at: str
    restarts: int = 0
    container_id: str = ""
    state: Json = field(default_factory=lambda: waiting("ContainerCreating"))
    last_state: Json = field(default_factory=dict)

    def with_start(self, container_id: str) -> Self:
        return replace(
            self,
            container_id=container_id,
            restarts=self.restarts + 1 if self.container_id else 0,
            state={"running": {"startedAt": format_time()}},
        )

    def with_end(self, ended: Ended) -> Self:
        """Return the record of a container that ended; a failure's message is the end of its log."""
        terminated: Json = {
            "exitCode": ended.exit_code,
            "reason": "Completed" if ended.exit_code == 0 else "Error",
            "startedAt": self.state["running"]["startedAt"],
            "finishedAt": format_time(),
            "containerID": self.container_id,
        }
        if ended.signal is not None:
            terminated["signal"] = ended.signal
        if ended.exit_code != 0:
            terminated["message"] = ended.tail[-_MAX_MESSAGE:]
        return replace(self, state={"terminated": terminated})

    def waiting_for_start(self, reason: str, message: str) -> Self:
        last = {"terminated": self.state["terminated"]} if "terminated" in self.state else self.last_state
        return replace(self, state=waiting(reason, message), last_state=last)

    def to_status(self, phase: str) -> Json:
        """Return the Pod's status."""
        running = "running" in self.state
        return {
            "phase": phase,
            "startTime": self.pod_started_at,
            "hostIP": LOOPBACK,
            "podIP": LOOPBACK,
            "podIPs": [{"ip": LOOPBACK}],
            "conditions": self._conditions(ready=running, completed=phase == "Succeeded"),
            "containerStatuses": [
                {
                    "name": self.name,
                    "image": self.image,
                    "imageID": "",
                    "containerID": self.container_id,
                    "ready": running,
                    "started": running,
                    "restartCount": self.restarts,
                    "state": self.state,  # a merge patch replaces lists whole, so nothing older shines through
                    "lastState": self.last_state,
                }
            ],
        }

    def _conditions(self, *, ready: bool, completed: bool) -> list[Json]:
        why: Mapping[str, Any] = {}
        if not ready:
            why = {"reason": "PodCompleted"} if completed else {"reason": "ContainersNotReady"}
        changed = next(iter(self.state.values())).get("startedAt") or self.pod_started_at
        return [
            {
                "type": kind,
                "status": "True" if holds else "False",
                "lastTransitionTime": changed,
                **({} if holds else why),
            }
            for kind, holds in (
                ("PodScheduled", True),
                ("Initialized", True),
                ("ContainersReady", ready),
                ("Ready", ready),
            )
        ]


def resume_record(pod: Json) -> ContainerRecord:
    """Return what an earlier node process wrote about the pod's container, or the record of a new one.

    A container that an earlier process had started is gone with it: the record says that it was killed.
    """
    container = pod["spec"]["containers"][0]
    status = pod.get("status") or {}
    record = ContainerRecord(
        name=container["name"],
        image=container.get("image", ""),
        pod_started_at=status.get("startTime") or format_time(),
    )
    for seen in status.get("containerStatuses") or []:
        if seen["name"] != record.name or not seen.get("containerID"):
            continue
        record = replace(record, restarts=seen["restartCount"], container_id=seen["containerID"])
        if running := (seen.get("state") or {}).get("running"):
            killed = Ended(exit_code=137, signal=9, tail="the node that ran this container is gone")
            return replace(record, state={"running": running}).with_end(killed)
        if terminated := (seen.get("lastState") or {}).get("terminated"):
            return replace(record, state={"terminated": terminated})
    return record


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def format_time() -> str:
    """Return the time as Pods have it: whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
