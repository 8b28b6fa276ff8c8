"""What a pod of a pool looks like, and what the kubelet says of it."""

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from hatchet_operator.decisions.rejoining import Reach
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import owner_reference
from hatchet_operator.resources.names import generate_name
from hatchet_operator.resources.nesting import depth_problem
from hatchet_operator.resources.workerpool import WorkerPool

Json = dict[str, Any]

_LAST_LINES = 10
_NUMBER = re.compile("[0-9]{1,6}")  # anybody may write the annotation
_MOUNT = "/var/run/hatchet-operator"
_VOLUME = "hatchet-operator-identity"
_TOKEN_SECONDS = 3600
ADDRESS_VARIABLE = "HATCHET_CLIENT_HOST_PORT"
ADDRESS_KEY = "address"
"""In the pool's Secret: where the operator is, for pods that were made when it was elsewhere."""
CA_KEY = "ca.crt"
"""In the pool's Secret: the authorities that its pods trust, as PEM."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorAccess:
    """How a pool's pods reach the operator.

    Attributes:
        grpc_address: "host:port".
        token_audience: Of the service-account token that they get; None: they have the pool's token only.
        tls: Whether gRPC is encrypted.
        own_ca: Whether the pool's Secret has the authority to trust, as ``ca.crt``; else it is one that images know.
        token_key: Tells the key apart that pools' tokens are signed with: a pod reads its token when it starts.
    """

    grpc_address: str
    token_audience: str | None = None
    tls: bool = False
    own_ca: bool = False
    token_key: str = ""

    @property
    def tls_strategy(self) -> str:
        return "tls" if self.tls else "none"

    @property
    def server_name(self) -> str:
        return self.grpc_address.rpartition(":")[0].strip("[]")


def template_hash(pool: WorkerPool, access: OperatorAccess) -> str:
    """Tell pods apart: one that was made from another template, or can't reach the operator any more, is replaced."""
    text = json.dumps([pool.spec.template.to_wire(), asdict(access)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pool_template_of(pod: Json) -> str | None:
    """Return the hash of the pool's template that a Pod was made from; None: we did not make it."""
    metadata = pod["metadata"]
    made_for_run: str | None = metadata.get("annotations", {}).get(labels.POOL_TEMPLATE)
    return made_for_run or metadata.get("labels", {}).get(labels.TEMPLATE)


def may_supersede(template: str | None, *, in_effect: str | None, current: str | None) -> bool:
    """Say whether what a Pod registers replaces the definition in effect.

    While old and new pods of a pool run side by side, an old one that starts again must not put its definition back;
    before the first new one came, it is as good as any.

    Args:
        template: What the Pod was made from; None: a worker that the pool does not make, of which the last one counts.
        in_effect: What the Pod was made from that registered the definition in effect.
        current: What the pool makes its pods from now; None: there is no such pool.
    """
    return template is None or template == current or in_effect != current


def trouble_of(pod: Json) -> str | None:
    """Say why a Pod does not run, in the kubelet's or scheduler's words; None: nothing is known to be wrong."""
    status = pod.get("status", {})
    if (scheduled := _condition(pod, "PodScheduled")).get("reason") and scheduled.get("status") != "True":
        gates = [str(gate.get("name")) for gate in pod.get("spec", {}).get("schedulingGates") or []]
        message = scheduled.get("message")
        if gates:  # of which the scheduler says that there are some, and not which
            message = f"{message or 'scheduling gates'}: {', '.join(gates)}"
        return _with_details(scheduled["reason"], message)
    if (failure := _failure_of(pod)) is not None:  # its containers tell only how they ended
        return failure
    worker = worker_status(pod)
    for container in (*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])):
        if (trouble := _trouble_of_container(container, may_end=container is not worker)) is not None:
            return trouble
    return None


def why_ended(pod: Json) -> str | None:
    """Say why the kubelet, a drain, the scheduler or the node's end stopped a Pod as a whole; None: nobody did."""
    if (failure := _failure_of(pod)) is not None:
        return failure
    disruption = _condition(pod, "DisruptionTarget")
    if disruption.get("status") == "True":
        return _with_details(disruption.get("reason") or "DisruptionTarget", disruption.get("message"))
    return None


def address_of(pod: Json) -> str | None:
    """Return the address of the operator that a Pod's worker was given; None: none, or nobody can read it here."""
    return _value_of(pod, ADDRESS_VARIABLE)


def reach_of(pod: Json, access: OperatorAccess, *, served: Collection[str], pool: WorkerPool | None) -> Reach:
    """Say how the worker of a Pod finds this operator.

    Args:
        pod: The Pod.
        access: How pods find the operator that are made now.
        served: Other addresses that lead to it.
        pool: Its pool; an address that stands in the template itself is its author's business.
    """
    address, strategy = address_of(pod), _value_of(pod, "HATCHET_CLIENT_TLS_STRATEGY")
    if address is None or (pool is not None and _value_of({"spec": pool.spec.template.spec}, ADDRESS_VARIABLE)):
        return Reach.SERVED
    if strategy not in (None, access.tls_strategy):
        return Reach.LOST
    if address == access.grpc_address or address in served:
        return Reach.SERVED
    return Reach.TOLD if _value_of(pod, f"{ADDRESS_VARIABLE}_FILE") else Reach.LOST


def _value_of(pod: Json, variable: str) -> str | None:
    """Return the value of a variable of a Pod's worker; None: it has none that stands there."""
    env = pod["spec"]["containers"][0].get("env")
    entries = [each for each in env if isinstance(each, dict)] if isinstance(env, list) else []
    return next((each.get("value") for each in entries if each.get("name") == variable), None)


def ending_of(pod: Json) -> str | None:
    """Say that somebody deletes a Pod, why if that is known, and until when what runs in it may go on."""
    until = pod["metadata"].get("deletionTimestamp")
    if until is None:
        return None
    why = why_ended(pod)
    text = f"pod {pod['metadata']['name']} is being deleted, and what runs in it has until {until} to end"
    return f"{text} ({why})" if why else text


def lacks_token(pod: Json, *, pool: str) -> bool:
    """Whether the worker is not started for the lack of the pool's Secret, or of what was in it."""
    waiting = ((worker_status(pod) or {}).get("state") or {}).get("waiting") or {}
    words = re.split(r"[\s\"/]+", waiting.get("message") or "")
    return waiting.get("reason") == "CreateContainerConfigError" and token_secret_name(pool) in words


def worker_status(pod: Json) -> Json | None:
    """Return the status of a Pod's first container, the worker; the kubelet's list is in an order of its own."""
    statuses: list[Json] = pod.get("status", {}).get("containerStatuses") or []
    containers = pod.get("spec", {}).get("containers") or [{}]
    return next((status for status in statuses if status.get("name") == containers[0].get("name")), None)


def lifetime_of(pod: Json) -> timedelta:
    """Return how long the worker of a Pod that ended had run; it may never have begun."""
    ended = ((worker_status(pod) or {}).get("state") or {}).get("terminated") or {}
    if not ended.get("startedAt") or not ended.get("finishedAt"):
        return timedelta()
    return datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])


def number_of(pod: Json) -> int:
    """How many pods there were before this one, of its run, or of its pool in a row that ended at once."""
    text = pod["metadata"].get("annotations", {}).get(labels.POD_NUMBER, "0")
    return int(text) if _NUMBER.fullmatch(text) else 0


def _trouble_of_container(container: Json, *, may_end: bool) -> str | None:
    """Say it in the same words as long as it is the same trouble: how a container ended, and not when it starts again.

    Of a container that crashes again and again the kubelet says in turn that it ended, waits and runs.
    """
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    reason, message = waiting.get("reason"), waiting.get("message") or ""
    if reason == "CrashLoopBackOff":
        return _how_it_ended(ended) if ended else reason
    if reason is None:
        return _how_it_ended(ended) if ended and (ended.get("exitCode") or not may_end) else None
    if reason in ("ContainerCreating", "PodInitializing"):
        return None
    if reason == "ImagePullBackOff" and ": ErrImagePull: " in message:
        # The kubelet says the two in turn, and the one about the pause has the other at its end.
        reason, message = "ErrImagePull", message.partition(": ErrImagePull: ")[2]
    return _with_details(reason, message)


def _how_it_ended(ended: Json) -> str:
    """Put how a container ended, and the last lines that it wrote, into one text."""
    exit_code = ended.get("exitCode", 0)
    text = f"{ended.get('reason') or ('Error' if exit_code else 'Completed')} (exit code {exit_code})"
    return "\n".join([text, *(ended.get("message") or "").strip().splitlines()[-_LAST_LINES:]])


def _with_details(reason: str, message: str | None) -> str:
    return f"{reason}: {message.rstrip()}" if message else reason


def _failure_of(pod: Json) -> str | None:
    """Say why the kubelet ended a Pod as a whole, as by an eviction."""
    status = pod.get("status", {})
    failed = status.get("phase") == "Failed" and status.get("reason")
    return _with_details(status["reason"], status.get("message")) if failed else None


def _condition(pod: Json, type_: str) -> Json:
    """Return a condition of a Pod; empty: it has none of this type."""
    conditions: list[Json] = pod.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == type_), {})


def without_generated_name(message: str, *, pool: str) -> str:
    """Return the API server's words about a pod that was not made, without the name that it would have had.

    It is another one at each try, and the same words are to be said once.
    """
    prefix = generate_name(pool)
    return re.sub(rf'"{re.escape(prefix)}[a-z0-9]{{5}}"', f'"{prefix}*"', message)


def token_secret_name(pool: str) -> str:
    """The Secret with the pool's token."""
    return f"{pool}-token"


def template_problem(pool: WorkerPool) -> str | None:
    """Say why no pod can be made from a pool's template, or None. The API server judges what is left of it."""
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


def make_pod(pool: WorkerPool, access: OperatorAccess, *, number: int = 0) -> Json:
    """Make a pod of the pool, whose template has no problem: told where the operator is and who it is.

    Args:
        pool: Whose pod it is.
        access: Where the operator is.
        number: How many pods in a row ended at once before it.
    """
    template = pool.spec.template
    spec = {**template.spec, "containers": [dict(container) for container in template.spec["containers"]]}
    worker = spec["containers"][0]
    ours: dict[str, Json] = {
        "HATCHET_POD_NAME": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        "HATCHET_POD_UID": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        "HATCHET_POOL_TOKEN": {
            "valueFrom": {"secretKeyRef": {"name": token_secret_name(pool.metadata.name), "key": "token"}}
        },
        # The token is all that published clients tell of themselves, see `identity`. The kubelet expands variables that
        # stand above this one. UIDs and not names, since a name may have dots, and clients count those of the token.
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
    env = worker.get("env") or []  # YAML with a field and nothing in it says null
    given = [entry.get("name") for entry in env if isinstance(entry, dict)]
    sources = _identity_sources(pool, access)
    if sources and ADDRESS_VARIABLE not in given:
        ours[f"{ADDRESS_VARIABLE}_FILE"] = {"value": f"{_MOUNT}/{ADDRESS_KEY}"}
    worker["env"] = [
        *env,
        *({"name": name, **value} for name, value in ours.items() if name not in given),
    ]
    if sources:
        spec["volumes"] = [*(spec.get("volumes") or []), {"name": _VOLUME, "projected": {"sources": sources}}]
        mount = {"name": _VOLUME, "mountPath": _MOUNT, "readOnly": True}
        worker["volumeMounts"] = [*(worker.get("volumeMounts") or []), mount]
    worker.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")  # so that its last lines say why it crashed
    spec["automountServiceAccountToken"] = False  # workers have no right to the Kubernetes API at all
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
            "annotations": template.metadata.annotations | ({labels.POD_NUMBER: str(number)} if number else {}),
            "ownerReferences": [owner_reference(pool)],
        },
        "spec": spec,
    }


def _identity_sources(pool: WorkerPool, access: OperatorAccess) -> list[Json]:
    """Files that the kubelet keeps up to date: the pod's own token, and whom to trust."""
    sources: list[Json] = []
    if access.token_audience is not None:
        token = {"audience": access.token_audience, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
        sources.append({"serviceAccountToken": token})
    if access.tls and access.own_ca:
        items = [{"key": CA_KEY, "path": "ca.crt"}]
        sources.append({"secret": {"name": token_secret_name(pool.metadata.name), "items": items}})
    if sources:
        items = [{"key": ADDRESS_KEY, "path": ADDRESS_KEY}]
        # optional: an operator of before, to which somebody went back, does not put it there
        sources.append({"secret": {"name": token_secret_name(pool.metadata.name), "items": items, "optional": True}})
    return sources
