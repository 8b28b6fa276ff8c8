"""The built-in kinds, and the little that the real server does to each of them when it is written.

Their fields are not validated against a schema; what clients of this project rely on is here by name: a pod's phase
and grace period, a secret's ``stringData``, the life of a namespace. To support more, add a function to
``_ON_CREATE`` or ``_ON_UPDATE``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from hatchet_operator_dev.apiserver import events, status
from hatchet_operator_dev.apiserver.crds import complete_definition, definition_errors
from hatchet_operator_dev.apiserver.kinds import Kind, Kinds
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.selectors import field_reader
from hatchet_operator_dev.apiserver.status import FieldError
from hatchet_operator_dev.apiserver.tables import AGE, NAME, Column, built_in_column

DEFAULT_GRACE_SECONDS = 30


def _readers(*paths: str) -> dict[str, Callable[[Object], str]]:
    return {path: field_reader(tuple(path.split("."))) for path in paths}


def _ready(pod: Object) -> str:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    total = len(pod.get("spec", {}).get("containers") or ())
    return f"{sum(bool(one.get('ready')) for one in statuses)}/{total}"


def _pod_state(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    state = pod.get("status", {})
    for one in state.get("containerStatuses") or ():
        for phase in ("waiting", "terminated"):
            reason = (one.get("state") or {}).get(phase, {}).get("reason")
            if reason:
                return str(reason)
    return str(state.get("reason") or state.get("phase") or "Unknown")


def _restarts(pod: Object) -> str:
    return str(sum(one.get("restartCount", 0) for one in pod.get("status", {}).get("containerStatuses") or ()))


def _event_object(event: Object) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    return f"{about.get('kind', '').lower()}/{about.get('name', '')}"


_POD_COLUMNS = (
    NAME,
    Column(name="Ready", cell=_ready),
    Column(name="Status", cell=_pod_state),
    Column(name="Restarts", cell=_restarts),
    Column(name="Age", cell=AGE.cell),
    Column(name="IP", cell=lambda pod: pod.get("status", {}).get("podIP") or "<none>", priority=1),
    Column(name="Node", cell=lambda pod: pod.get("spec", {}).get("nodeName") or "<none>", priority=1),
)
_EVENT_COLUMNS = (
    built_in_column("Last Seen", ".metadata.creationTimestamp", "date"),
    built_in_column("Type", ".type"),
    built_in_column("Reason", ".reason"),
    Column(name="Object", cell=_event_object),
    Column(name="Message", cell=lambda event: event.get("message") or event.get("note") or ""),
    Column(name="Name", cell=NAME.cell, format="name", priority=1),
)
_EVENT_FIELDS = _readers(
    "involvedObject.apiVersion",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "type",
)


def make_built_in_kinds() -> Kinds:
    def core(kind: str, plural: str, **more: Any) -> Kind:
        return Kind(group="", version="v1", kind=kind, plural=plural, **more)

    return Kinds(
        (
            core(
                "Namespace",
                "namespaces",
                namespaced=False,
                short_names=("ns",),
                has_status=True,
                columns=(NAME, built_in_column("Status", ".status.phase"), AGE),
                selectable=_readers("status.phase"),
            ),
            core(
                "Pod",
                "pods",
                short_names=("po",),
                categories=("all",),
                has_status=True,
                columns=_POD_COLUMNS,
                selectable=_readers(
                    "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"
                ),
            ),
            core("ResourceQuota", "resourcequotas", short_names=("quota",), has_status=True),
            core(
                "Secret",
                "secrets",
                columns=(
                    NAME,
                    built_in_column("Type", ".type"),
                    Column(name="Data", type="string", cell=lambda obj: str(len(obj.get("data") or ()))),
                    AGE,
                ),
                selectable=_readers("type"),
            ),
            core(
                "ConfigMap",
                "configmaps",
                short_names=("cm",),
                columns=(NAME, Column(name="Data", cell=lambda obj: str(len(obj.get("data") or ()))), AGE),
            ),
            core("Event", "events", short_names=("ev",), columns=_EVENT_COLUMNS, selectable=_EVENT_FIELDS),
            core(
                "Service",
                "services",
                short_names=("svc",),
                categories=("all",),
                has_status=True,
                columns=(NAME, built_in_column("Type", ".spec.type"), AGE),
            ),
            core("Endpoints", "endpoints", singular="endpoints", short_names=("ep",)),
            core("ServiceAccount", "serviceaccounts", short_names=("sa",)),
            core("Node", "nodes", namespaced=False, short_names=("no",), has_status=True),
            Kind(group="apps", version="v1", kind="ControllerRevision", plural="controllerrevisions"),
            Kind(
                group="coordination.k8s.io",
                version="v1",
                kind="Lease",
                plural="leases",
                columns=(NAME, built_in_column("Holder", ".spec.holderIdentity"), AGE),
            ),
            Kind(group="discovery.k8s.io", version="v1", kind="EndpointSlice", plural="endpointslices"),
            Kind(
                group="events.k8s.io",
                version="v1",
                kind="Event",
                plural="events",
                short_names=("ev",),
                columns=_EVENT_COLUMNS,
                stored_in="events",
                to_storage=events.to_core,
                from_storage=events.from_core,
                selectable={
                    name.replace("involvedObject", "regarding"): reader for name, reader in _EVENT_FIELDS.items()
                },
            ),
            Kind(
                group="authentication.k8s.io",
                version="v1",
                kind="TokenReview",
                plural="tokenreviews",
                namespaced=False,
                verbs=("create",),
            ),
            Kind(
                group="authorization.k8s.io",
                version="v1",
                kind="LocalSubjectAccessReview",
                plural="localsubjectaccessreviews",
                verbs=("create",),
            ),
            Kind(
                group="apiextensions.k8s.io",
                version="v1",
                kind="CustomResourceDefinition",
                plural="customresourcedefinitions",
                namespaced=False,
                short_names=("crd", "crds"),
                has_status=True,
                columns=(NAME, built_in_column("Created At", ".metadata.creationTimestamp")),
            ),
        )
    )


GROUPS = frozenset(
    {
        "",
        "apps",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
    }
)
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
HAS_GENERATION = frozenset({"pods", "services", "endpointslices.discovery.k8s.io", DEFINITIONS})
UNCONDITIONAL_UPDATE_REFUSED = frozenset({"leases.coordination.k8s.io", DEFINITIONS})
CREATE_ON_UPDATE = frozenset({"leases.coordination.k8s.io", "events", "events.events.k8s.io"})


def prepare_create(kind: Kind, obj: Object, now: str) -> None:
    """Complete a new object of a built-in kind in place; nothing is wrong with it."""
    prepare = _ON_CREATE.get(kind.resource)
    if prepare is not None:
        prepare(obj, now)


def prepare_update(kind: Kind, new: Object, old: Object, now: str) -> None:
    """Complete a changed object of a built-in kind in place; ``new["status"]`` is already the right one."""
    if kind.resource == "secrets":
        _decode_string_data(new, now)
    elif kind.resource == DEFINITIONS and not definition_errors(new):
        kept = old.get("status")
        complete_definition(new, now)
        if kept is not None:
            new["status"]["conditions"] = kept["conditions"]


def creation_errors(kind: Kind, obj: Object) -> list[FieldError]:
    """Say what is wrong with a new object of a built-in kind."""
    if kind.resource == DEFINITIONS:
        return definition_errors(obj)
    if kind.resource == "leases.coordination.k8s.io":
        return _lease_errors(obj)
    if kind.collection == "events":
        return _event_errors(obj)
    if kind.resource == "pods" and not obj.get("spec", {}).get("containers"):
        return [status.required("spec.containers")]
    return []


def update_errors(kind: Kind, new: Object, old: Object) -> list[FieldError]:
    """Say which change of a built-in kind is not allowed."""
    if kind.resource == DEFINITIONS:
        return definition_errors(new)
    if kind.resource == "leases.coordination.k8s.io":
        return _lease_errors(new)
    if kind.resource == "pods" and _fixed_pod_spec(new) != _fixed_pod_spec(old):
        return [
            status.forbidden_field(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
                "`spec.tolerations` (only additions to existing tolerations),"
                "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
            )
        ]
    if kind.resource in ("secrets", "configmaps") and old.get("immutable"):
        if not new.get("immutable"):
            return [status.forbidden_field("immutable", "field is immutable when `immutable` is set")]
        if new.get("data") != old.get("data"):
            return [status.forbidden_field("data", "field is immutable when `immutable` is set")]
    if kind.resource == "controllerrevisions.apps" and new.get("data") != old.get("data"):
        return [status.invalid("data", "object", "field is immutable")]
    return []


def _lease_errors(lease: Object) -> list[FieldError]:
    seconds = lease.get("spec", {}).get("leaseDurationSeconds")
    if seconds is None or seconds > 0:
        return []
    return [status.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")]


def _event_errors(event: Object) -> list[FieldError]:
    about = event.get("involvedObject", {}).get("namespace", "")
    # An event about a cluster-wide object is kept in the default namespace.
    if about == event["metadata"]["namespace"] or (not about and event["metadata"]["namespace"] == "default"):
        return []
    return [status.invalid("involvedObject.namespace", about, "does not match event.namespace")]


_CHANGEABLE_IN_POD_SPEC = ("activeDeadlineSeconds", "tolerations", "nodeName", "terminationGracePeriodSeconds")


def _fixed_pod_spec(pod: Object) -> Object:
    spec = {key: value for key, value in pod.get("spec", {}).items() if key not in _CHANGEABLE_IN_POD_SPEC}
    for field in ("containers", "initContainers"):
        spec[field] = [{k: v for k, v in one.items() if k != "image"} for one in spec.get(field) or ()]
    return spec


def grace_seconds(kind: Kind, obj: Object, asked: int | None) -> int:
    """Seconds for which a deleted object stays, so that its node can stop it; 0 for all but running pods."""
    if kind.resource != "pods":
        return 0
    spec = obj.get("spec", {})
    if not spec.get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    if asked is not None:
        return max(asked, 0)
    return int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))


def _create_pod(pod: Object, _now: str) -> None:
    spec = pod.setdefault("spec", {})
    for key, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
        ("enableServiceLinks", True),
        ("serviceAccountName", "default"),
        ("serviceAccount", spec.get("serviceAccountName", "default")),
    ):
        spec.setdefault(key, value)
    for container in (spec.get("containers") or []) + (spec.get("initContainers") or []):
        untagged = re.search(r":(?!.*/)", container.get("image", "")) is None
        container.setdefault(
            "imagePullPolicy", "Always" if untagged or container["image"].endswith(":latest") else "IfNotPresent"
        )
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
    pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}


def _create_namespace(namespace: Object, _now: str) -> None:
    name = namespace["metadata"]["name"]
    labels = namespace["metadata"].get("labels") or {}
    namespace["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}
    namespace["spec"] = {"finalizers": ["kubernetes"]}
    namespace["status"] = {"phase": "Active"}


def _decode_string_data(secret: Object, _now: str) -> None:
    texts = secret.pop("stringData", None) or {}
    if texts:
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        secret["data"] = {**(secret.get("data") or {}), **coded}
    for key, value in (secret.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise status.bad_request(
                f'Secret in version "v1" cannot be handled as a Secret: data[{key}]: {error}'
            ) from error
    secret.setdefault("type", "Opaque")


def _create_service(service: Object, _now: str) -> None:
    spec = service.setdefault("spec", {})
    for key, value in (("type", "ClusterIP"), ("sessionAffinity", "None")):
        spec.setdefault(key, value)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    service["status"] = {"loadBalancer": {}}


_ON_CREATE: dict[str, Callable[[Object, str], None]] = {
    "pods": _create_pod,
    "namespaces": _create_namespace,
    "secrets": _decode_string_data,
    "services": _create_service,
    DEFINITIONS: complete_definition,
}
