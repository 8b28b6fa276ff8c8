"""What a pod of a pool looks like, and what the kubelet says about it."""

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from hatchet_operator.decisions.protection import PROTECTED
from hatchet_operator.decisions.rejoining import Reach
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json, owner_reference
from hatchet_operator.resources.names import ObjectRef, generate_name
from hatchet_operator.resources.nesting import depth_problem
from hatchet_operator.resources.pod import ContainerStatus, Pod, Terminated, literal_env
from hatchet_operator.resources.workerpool import WorkerPool

_LAST_LINES = 10
_NUMBER = re.compile("[0-9]{1,6}")  # anybody may write the annotation
_MOUNT = "/var/run/hatchet-operator"
_VOLUME = "hatchet-operator-identity"
_TOKEN_SECONDS = 3600
ADDRESS_VARIABLE = "HATCHET_CLIENT_HOST_PORT"
ADDRESS_KEY = "address"
"""In the pool's Secret: where the operator is, for pods that were created when it was elsewhere."""
CA_KEY = "ca.crt"
"""In the pool's Secret: the authorities that its pods trust, as PEM."""


PAYLOADS_KEY = "payloads-key"
"""In the pool's Secret: what its pods encrypt payloads with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PayloadAccess:
    """How a pool's pods reach the payload store, for which they have credentials of their own.

    Attributes:
        root: Its URL; each namespace has its own folder there.
        above: Inputs and outputs of more bytes are stored there.
        key: Identifies the keys that they are encrypted with; None: they are not.
        variables: Other environment variables that its library reads, such as a region.
    """

    root: str
    above: int
    key: str | None = None
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorAccess:
    """How a pool's pods reach the operator.

    Attributes:
        grpc_address: "host:port".
        token_audience: The audience of the service-account token that they get; None: they only have the pool's token.
        tls: Whether gRPC is encrypted.
        own_ca: Whether the pool's Secret has the authority to trust, as ``ca.crt``; otherwise images know it.
        token_key: Identifies the key that pools' tokens are signed with: a pod reads its token when it starts.
        payloads: The payload store, if there is one.
        rest_url: Where Hatchet's REST API is; None: it is not served.
    """

    grpc_address: str
    token_audience: str | None = None
    tls: bool = False
    own_ca: bool = False
    token_key: str = ""
    payloads: PayloadAccess | None = None
    rest_url: str | None = None

    @property
    def tls_strategy(self) -> str:
        return "tls" if self.tls else "none"

    @property
    def server_name(self) -> str:
        return self.grpc_address.rpartition(":")[0].strip("[]")


def template_hash(pool: WorkerPool, access: OperatorAccess) -> str:
    """Return a hash by which pods are replaced that have another template, or can no longer reach the operator."""
    said = asdict(access)
    del said["rest_url"]  # few programs ask there, and whoever opens that port does not want all pods replaced
    if access.payloads is None:
        del said["payloads"]  # as in older operators: an upgrade is no reason to replace all pods
    text = json.dumps([pool.spec.template.to_wire(), said], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pool_template_of(pod: Pod) -> str | None:
    """Return the hash of the pool's template that a Pod was created from; None: we did not create it."""
    return pod.annotations.get(labels.POOL_TEMPLATE) or pod.labels.get(labels.TEMPLATE)


def pool_of(pod: Pod) -> ObjectRef:
    """Return the pool that a Pod's labels name; its name is empty if they name none."""
    return ObjectRef(pod.namespace, pod.labels.get(labels.POOL, ""))


def is_ours(pod: Pod) -> bool:
    """Whether we created a Pod, and so may end it; others may do a pool's work as well."""
    return pod.labels.get(labels.MANAGED_BY) == labels.MANAGER


def may_supersede(template: str | None, *, in_effect: str | None, current: str | None) -> bool:
    """Return whether what a Pod registers replaces the definition in effect.

    While old and new pods of a pool run side by side, an old one that restarts must not restore its definition;
    before the first new one came, it is as good as any.

    Args:
        template: The template of the Pod; None: a worker that the pool did not create; the last one takes precedence.
        in_effect: The template of the Pod that registered the definition in effect.
        current: The pool's current template; None: there is no such pool.
    """
    return template is None or template == current or in_effect != current


def trouble_of(pod: Pod) -> str | None:
    """Say why a Pod does not run, in the kubelet's or scheduler's words; None: nothing is known to be wrong."""
    scheduled = pod.condition("PodScheduled")
    if scheduled.reason is not None and scheduled.status != "True":
        message = scheduled.message
        if pod.scheduling_gates:  # the scheduler only says that there are some, not which
            message = f"{message or 'scheduling gates'}: {', '.join(pod.scheduling_gates)}"
        return _with_details(scheduled.reason, message)
    if (failure := _failure_of(pod)) is not None:  # its containers only say how they ended
        return failure
    worker = pod.worker
    for container in (*pod.init_containers, *pod.containers):
        if (trouble := _trouble_of_container(container, may_end=container is not worker)) is not None:
            return trouble
    return None


def why_ended(pod: Pod) -> str | None:
    """Say why the kubelet, a drain, the scheduler or the node's end stopped a Pod as a whole; None: none did."""
    if (failure := _failure_of(pod)) is not None:
        return failure
    disruption = pod.condition("DisruptionTarget")
    if disruption.status == "True":
        return _with_details(disruption.reason or "DisruptionTarget", disruption.message)
    return None


def address_of(pod: Pod) -> str | None:
    """Return the address of the operator that a Pod's worker was given; None: none, or it can't be read here."""
    return pod.worker_env.get(ADDRESS_VARIABLE)


def reach_of(pod: Pod, access: OperatorAccess, *, served: Collection[str], pool: WorkerPool | None) -> Reach:
    """Return how a Pod's worker finds this operator.

    Args:
        pod: The Pod.
        access: How pods that are created now find the operator.
        served: Other addresses that lead to it.
        pool: Its pool; an address in the template itself is its author's responsibility.
    """
    address, strategy = address_of(pod), pod.worker_env.get("HATCHET_CLIENT_TLS_STRATEGY")
    if not address or (pool is not None and _is_given_by(pool, ADDRESS_VARIABLE)):  # empty: it reads it in its token
        return Reach.SERVED
    if strategy not in (None, access.tls_strategy):
        return Reach.LOST
    if address == access.grpc_address or address in served:
        return Reach.SERVED
    return Reach.TOLD if pod.worker_env.get(f"{ADDRESS_VARIABLE}_FILE") else Reach.LOST


def _is_given_by(pool: WorkerPool, variable: str) -> bool:
    """Whether the template itself sets a variable of its worker."""
    return bool(literal_env(pool.spec.template.spec["containers"][0]).get(variable))


def ending_of(pod: Pod) -> str | None:
    """Say that a Pod is being deleted, why if that is known, and until when what runs in it may continue."""
    if pod.deletion_timestamp is None:
        return None
    why, until = why_ended(pod), pod.deletion_timestamp.isoformat(timespec="seconds").replace("+00:00", "Z")
    text = f"pod {pod.name} is being deleted, and what runs in it has until {until} to end"
    return f"{text} ({why})" if why else text


def lacks_token(pod: Pod, *, pool: str) -> bool:
    """Whether the worker does not start because the pool's Secret, or something in it, is missing."""
    waiting = pod.worker.waiting if pod.worker is not None else None
    if waiting is None or waiting.reason != "CreateContainerConfigError":
        return False
    return token_secret_name(pool) in re.split(r"[\s\"/]+", waiting.message)


def lifetime_of(pod: Pod) -> timedelta:
    """Return how long the worker of a Pod that ended had run; it may never have begun."""
    ended = pod.worker.terminated if pod.worker is not None else None
    if ended is None or ended.started_at is None or ended.finished_at is None:
        return timedelta()
    return ended.finished_at - ended.started_at


def number_of(pod: Pod) -> int:
    """Return how many pods preceded this one: of its run, or consecutive ones of its pool that ended at once."""
    text = pod.annotations.get(labels.POD_NUMBER, "0")
    return int(text) if _NUMBER.fullmatch(text) else 0


def _trouble_of_container(container: ContainerStatus, *, may_end: bool) -> str | None:
    """Describe the same trouble in the same words: how a container ended, and not when it restarts.

    The kubelet alternately says of a container that keeps crashing that it ended, waits and runs.
    """
    ended = container.terminated or container.last_terminated
    if container.waiting is None or container.waiting.reason is None:
        return _how_it_ended(ended) if ended and (ended.exit_code or not may_end) else None
    reason, message = container.waiting.reason, container.waiting.message
    if reason == "CrashLoopBackOff":
        return _how_it_ended(ended) if ended else reason
    if reason in ("ContainerCreating", "PodInitializing"):
        return None
    if reason == "ImagePullBackOff" and ": ErrImagePull: " in message:
        # The kubelet alternates between the two, and the one about the pause has the other at its end.
        reason, message = "ErrImagePull", message.partition(": ErrImagePull: ")[2]
    return _with_details(reason, message)


def _how_it_ended(ended: Terminated) -> str:
    """Describe in one text how a container ended, and the last lines that it wrote."""
    exit_code = ended.exit_code or 0
    text = f"{ended.reason or ('Error' if exit_code else 'Completed')} (exit code {exit_code})"
    return "\n".join([text, *ended.message.strip().splitlines()[-_LAST_LINES:]])


def _with_details(reason: str, message: str) -> str:
    return f"{reason}: {message.rstrip()}" if message else reason


def _failure_of(pod: Pod) -> str | None:
    """Say why the kubelet ended a Pod as a whole, for example by an eviction."""
    return _with_details(pod.reason, pod.message) if pod.phase == "Failed" and pod.reason is not None else None


def without_generated_name(message: str, *, pool: str) -> str:
    """Return the API server's words about a pod that was not created, without the name that it would have had.

    The name differs at each try, and the same words must be reported only once.
    """
    prefix = generate_name(pool)
    return re.sub(rf'"{re.escape(prefix)}[a-z0-9]{{5}}"', f'"{prefix}*"', message)


def token_secret_name(pool: str) -> str:
    """Return the name of the Secret with the pool's token."""
    return f"{pool}-token"


def template_problem(pool: WorkerPool) -> str | None:
    """Say why no pod can be built from a pool's template, or None. The API server checks the rest of it."""
    spec = pool.spec.template.spec
    if (problem := depth_problem(spec, "spec.template")) is not None:
        return problem
    worker = spec["containers"][0]
    fields: list[tuple[str, Any, type]] = [
        ("containers[0].env", worker.get("env"), list),
        ("containers[0].volumeMounts", worker.get("volumeMounts"), list),
        ("volumes", spec.get("volumes"), list),
        ("tolerations", spec.get("tolerations"), list),
        ("nodeSelector", spec.get("nodeSelector"), dict),
    ]
    for path, value, kind in fields:
        if value is not None and not isinstance(value, kind):
            expected = "list" if kind is list else "mapping"
            return f"spec.template.spec.{path} is a JSON {type(value).__name__}; expected a {expected}"
    return None


def make_pod(pool: WorkerPool, access: OperatorAccess, *, number: int = 0, protected: bool = False) -> Json:
    """Build a pod of the pool, whose template has no problem: it is told where the operator is and which pod it is.

    Args:
        pool: Its pool.
        access: Where the operator is.
        number: How many consecutive pods ended at once before it.
        protected: Whether its node is not to be taken away, see `protection`.
    """
    template = pool.spec.template
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": generate_name(pool.metadata.name),
            "namespace": pool.metadata.namespace,
            "labels": {
                **template.metadata.labels,
                labels.POOL: pool.metadata.name,
                labels.MANAGED_BY: labels.MANAGER,
                labels.TEMPLATE: template_hash(pool, access),
            },
            "annotations": {
                **template.metadata.annotations,
                **(PROTECTED if protected else {}),
                **({labels.POD_NUMBER: str(number)} if number else {}),
            },
            "ownerReferences": [owner_reference(pool)],
        },
        "spec": _pod_spec(pool, access),
    }


def _pod_spec(pool: WorkerPool, access: OperatorAccess) -> Json:
    """Return the template's spec, whose first container is the worker: with our variables, and its token's volume."""
    template = pool.spec.template.spec
    spec = {**template, "containers": [dict(container) for container in template["containers"]]}
    worker = spec["containers"][0]
    sources = _identity_sources(pool, access)
    worker["env"] = _environment(worker.get("env") or [], pool, access)  # in YAML, an empty field is null
    if sources:
        spec["volumes"] = [*(spec.get("volumes") or []), {"name": _VOLUME, "projected": {"sources": sources}}]
        mount = {"name": _VOLUME, "mountPath": _MOUNT, "readOnly": True}
        worker["volumeMounts"] = [*(worker.get("volumeMounts") or []), mount]
    worker.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")  # so that its last lines say why it crashed
    spec["automountServiceAccountToken"] = False  # workers have no right to the Kubernetes API at all
    return spec


def _environment(env: list[Json], pool: WorkerPool, access: OperatorAccess) -> list[Json]:
    """Return the template's variables and, after them, those of ours that it doesn't set itself."""
    ours = _variables(pool, access)
    set_by_template = [entry.get("name") for entry in env if isinstance(entry, dict)]
    if _identity_sources(pool, access) and ADDRESS_VARIABLE not in set_by_template:
        ours[f"{ADDRESS_VARIABLE}_FILE"] = {"value": f"{_MOUNT}/{ADDRESS_KEY}"}
    return [*env, *({"name": name, **value} for name, value in ours.items() if name not in set_by_template)]


def _variables(pool: WorkerPool, access: OperatorAccess) -> dict[str, Json]:
    """Return what tells a worker where the operator is and which pod it is."""
    ours: dict[str, Json] = {
        "HATCHET_POD_NAME": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        "HATCHET_POD_UID": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        "HATCHET_POOL_TOKEN": {
            "valueFrom": {"secretKeyRef": {"name": token_secret_name(pool.metadata.name), "key": "token"}}
        },
        # The token is all that published clients say about themselves, see `identity`. The kubelet expands variables
        # listed above this one. UIDs and not names, since a name may have dots, and clients count those in the token.
        "HATCHET_CLIENT_TOKEN": {"value": "$(HATCHET_POOL_TOKEN)~$(HATCHET_POD_UID)"},
        ADDRESS_VARIABLE: {"value": access.grpc_address},
        "HATCHET_CLIENT_TLS_STRATEGY": {"value": access.tls_strategy},
    }
    if access.token_audience is not None:  # for our SDK, and before the pool's token, which others use
        ours["HATCHET_CLIENT_TOKEN_FILE"] = {"value": f"{_MOUNT}/token"}
    if access.tls:
        ours["HATCHET_CLIENT_TLS_SERVER_NAME"] = {"value": access.server_name}
    if access.tls and access.own_ca:
        ours["HATCHET_CLIENT_TLS_ROOT_CA_FILE"] = {"value": f"{_MOUNT}/ca.crt"}
    if access.payloads is not None:
        ours |= _payload_variables(pool, access.payloads)
    return ours


def _payload_variables(pool: WorkerPool, payloads: PayloadAccess) -> dict[str, Json]:
    ours: dict[str, Json] = {name: {"value": value} for name, value in payloads.variables}
    ours["HATCHET_CLIENT_PAYLOADS"] = {"value": f"{payloads.root}/{pool.metadata.namespace}"}
    ours["HATCHET_CLIENT_PAYLOADS_ABOVE"] = {"value": str(payloads.above)}
    if payloads.key is not None:
        secret = {"name": token_secret_name(pool.metadata.name), "key": PAYLOADS_KEY}
        ours["HATCHET_CLIENT_PAYLOADS_KEY"] = {"valueFrom": {"secretKeyRef": secret}}
    return ours


def _identity_sources(pool: WorkerPool, access: OperatorAccess) -> list[Json]:
    """Return the sources of files that the kubelet keeps up to date: the pod's own token, and whom to trust."""
    sources: list[Json] = []
    if access.token_audience is not None:
        token = {"audience": access.token_audience, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
        sources.append({"serviceAccountToken": token})
    if access.tls and access.own_ca:
        items = [{"key": CA_KEY, "path": "ca.crt"}]
        sources.append({"secret": {"name": token_secret_name(pool.metadata.name), "items": items}})
    if sources:
        items = [{"key": ADDRESS_KEY, "path": ADDRESS_KEY}]
        # optional: an older operator, after a rollback, does not put it there
        sources.append({"secret": {"name": token_secret_name(pool.metadata.name), "items": items, "optional": True}})
    return sources
