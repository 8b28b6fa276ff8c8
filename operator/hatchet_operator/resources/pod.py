"""Pods as the operator sees them: read once, where they come in, from what people, schedulers and kubelets wrote.

What is absent or null is empty here, so a Pod of which only name and UID are known, as of one whose end nobody told, is
like any other. The JSON is not kept: a pool may have thousands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Why a container does not run yet, or not at the moment, in the kubelet's words."""

    reason: str | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminated:
    """How a container ended, and when, by its node's clock."""

    exit_code: int | None = None
    reason: str | None = None
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerStatus:
    """What the kubelet says of one container.

    Attributes:
        name: Its name.
        restart_count: How often it was started again.
        waiting: It waits, and why.
        is_running: It runs.
        running_since: Since when, by its node's clock; None: it does not run, or nobody knows.
        terminated: It ended, and is not started again, or not yet.
        last_terminated: How it ended the time before.
    """

    name: str = ""
    restart_count: int = 0
    waiting: Waiting | None = None
    is_running: bool = False
    running_since: datetime | None = None
    terminated: Terminated | None = None
    last_terminated: Terminated | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PodCondition:
    """One aspect of a Pod's state."""

    status: str = ""
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PodOwner:
    """An object that a Pod goes with."""

    kind: str
    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pod:
    """What matters of a Pod.

    Attributes:
        deletion_timestamp: Until when what runs in it may go on; None: nobody deletes it.
        worker_name: Name of its first container, the worker.
        worker_env: Variables of the worker; None as a value: it stands elsewhere, as in a Secret.
        restart_policy: What the kubelet does when a container ends.
        phase: Pending, Running, Succeeded, Failed or Unknown; empty: nobody said.
        reason: Why the kubelet ended it as a whole.
        conditions: By their types.
        containers: In an order of the kubelet's own.
    """

    name: str
    namespace: str = ""
    uid: str = ""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[PodOwner, ...] = ()
    deletion_timestamp: datetime | None = None
    worker_name: str = ""
    worker_env: Mapping[str, str | None]
    restart_policy: str = "Always"
    node: str | None = None
    scheduling_gates: tuple[str, ...] = ()
    phase: str = ""
    reason: str | None = None
    message: str = ""
    conditions: Mapping[str, PodCondition]
    init_containers: tuple[ContainerStatus, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.name)

    @property
    def is_being_deleted(self) -> bool:
        return self.deletion_timestamp is not None

    @property
    def is_over(self) -> bool:
        """Whether all of its containers ended for good."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def worker(self) -> ContainerStatus | None:
        """Of its worker; None: the kubelet did not say anything of it yet."""
        return next((status for status in self.containers if status.name == self.worker_name), None)

    def condition(self, type_: str) -> PodCondition:
        """Return a condition; an empty one if it has none of this type."""
        return self.conditions.get(type_, _NO_CONDITION)

    def owner_uid(self, kind: str) -> str | None:
        """Return the UID of its first owner of a kind; None: it has none."""
        return next((owner.uid for owner in self.owners if owner.kind == kind), None)


_NO_CONDITION = PodCondition()


def read_pod(obj: Json) -> Pod:
    """Read a Pod as the API server has it."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    worker: Json = next(iter(spec.get("containers") or ()), {})
    return Pod(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        owners=tuple(PodOwner(kind=owner["kind"], uid=owner["uid"]) for owner in metadata.get("ownerReferences") or ()),
        deletion_timestamp=_time(metadata.get("deletionTimestamp")),
        worker_name=worker.get("name", ""),
        worker_env=literal_env(worker),
        restart_policy=spec.get("restartPolicy") or "Always",
        node=spec.get("nodeName") or None,
        scheduling_gates=tuple(str(gate.get("name")) for gate in spec.get("schedulingGates") or ()),
        phase=status.get("phase") or "",
        reason=status.get("reason") or None,
        message=status.get("message") or "",
        conditions={each.get("type", ""): _read_condition(each) for each in reversed(status.get("conditions") or ())},
        init_containers=tuple(_read_container(each) for each in status.get("initContainerStatuses") or ()),
        containers=tuple(_read_container(each) for each in status.get("containerStatuses") or ()),
    )


def literal_env(container: Json) -> dict[str, str | None]:
    """Return the variables of a container, each with its value, or None if that stands elsewhere.

    A pool's template may have anything there; what is no variable is left out.
    """
    env = container.get("env")
    entries = [each for each in env if isinstance(each, dict)] if isinstance(env, list) else []
    return {name: each.get("value") for each in reversed(entries) if isinstance(name := each.get("name"), str)}


def _read_condition(condition: Json) -> PodCondition:
    return _condition(condition.get("status") or "", condition.get("reason") or None, condition.get("message") or "")


@lru_cache(maxsize=1024)
def _condition(status: str, reason: str | None, message: str) -> PodCondition:
    # nearly all conditions of all Pods are True and say no more
    return PodCondition(status=status, reason=reason, message=message)


def _read_container(status: Json) -> ContainerStatus:
    state: Json = status.get("state") or {}
    running: Json | None = state.get("running")
    return ContainerStatus(
        name=status.get("name", ""),
        restart_count=status.get("restartCount") or 0,
        waiting=_read_waiting(state.get("waiting")),
        is_running=running is not None,
        running_since=_time(running.get("startedAt")) if running else None,
        terminated=_read_terminated(state.get("terminated")),
        last_terminated=_read_terminated((status.get("lastState") or {}).get("terminated")),
    )


def _read_waiting(waiting: Json | None) -> Waiting | None:
    if waiting is None:
        return None
    return Waiting(reason=waiting.get("reason") or None, message=waiting.get("message") or "")


def _read_terminated(terminated: Json | None) -> Terminated | None:
    if terminated is None:
        return None
    return Terminated(
        exit_code=terminated.get("exitCode"),
        reason=terminated.get("reason") or None,
        message=terminated.get("message") or "",
        started_at=_time(terminated.get("startedAt")),
        finished_at=_time(terminated.get("finishedAt")),
    )


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
