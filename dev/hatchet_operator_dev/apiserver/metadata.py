"""``metadata``: what clients may set, what only the server sets, and what makes it invalid."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import FieldError

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_NAMED = frozenset({"namespaces", "services"})
_ANNOTATIONS_LIMIT = 256 * 1024
_GENERATED_BASE = 58
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_ONLY = ("selfLink", "managedFields")


def timestamp(ahead_seconds: int = 0) -> str:
    """The time as metadata spells it: UTC, whole seconds."""
    if not ahead_seconds:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return (datetime.now(UTC) + timedelta(seconds=ahead_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str) -> str:
    return prefix[:_GENERATED_BASE] + "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))


def new_metadata(kind: Kind, given: Object, namespace: str, now: str, *, with_generation: bool) -> Object:
    """Make the metadata of a new object from what the client sent."""
    metadata = {key: value for key, value in given.items() if value is not None and key not in _SERVER_ONLY}
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"):
        metadata.pop(key, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generated_name(metadata["generateName"])
    if kind.namespaced:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now
    if with_generation:
        metadata["generation"] = 1
    return metadata


def changed_metadata(given: Object, old: Object) -> Object:
    """Make the metadata of a changed object: the client's, with what only the server sets taken from the old one."""
    metadata = {key: value for key, value in given.items() if value is not None and key not in _SERVER_ONLY}
    for key in (
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generateName",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "generation",
    ):
        if key in old:
            metadata[key] = old[key]
        else:
            metadata.pop(key, None)
    for key in ("labels", "annotations", "finalizers", "ownerReferences"):
        if not metadata.get(key):
            metadata.pop(key, None)  # empty is absent, as in the real server's Go structs
    return metadata


def metadata_errors(kind: Kind, metadata: Object, *, creating: bool) -> list[FieldError]:
    """Say what is wrong with metadata (names only when creating: they can't change)."""
    errors: list[FieldError] = []
    if creating:
        errors += _name_errors(kind, metadata.get("name"))
    for key, value in (metadata.get("labels") or {}).items():
        errors += _label_errors(key, value)
    annotations = metadata.get("annotations") or {}
    for key, value in annotations.items():
        if not isinstance(value, str):
            errors.append(status.invalid(f"metadata.annotations[{key}]", value, "must be a string"))
    if annotations and sum(len(key) + len(str(value)) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        errors.append(status.too_long("metadata.annotations", _ANNOTATIONS_LIMIT))
    errors += _owner_errors(metadata.get("ownerReferences") or ())
    return errors


def _name_errors(kind: Kind, name: Any) -> list[FieldError]:
    if not name:
        return [status.required("metadata.name", "name or generateName is required")]
    label = kind.resource in _LABEL_NAMED
    pattern, rule, limit = (_LABEL, _LABEL_RULE, 63) if label else (_SUBDOMAIN, _SUBDOMAIN_RULE, 253)
    errors = []
    if not isinstance(name, str):
        return [status.type_invalid("metadata.name", name, "must be a string")]
    if len(name) > limit:
        errors.append(status.invalid("metadata.name", name, f"must be no more than {limit} bytes"))
    if pattern.fullmatch(name) is None:
        errors.append(status.invalid("metadata.name", name, rule))
    return errors


def _label_errors(key: str, value: Any) -> list[FieldError]:
    prefix, slash, name = key.rpartition("/")
    errors = []
    if _QUALIFIED_NAME.fullmatch(name) is None or len(name) > 63:
        errors.append(status.invalid("metadata.labels", key, _QUALIFIED_NAME_RULE))
    if slash and (_SUBDOMAIN.fullmatch(prefix) is None or len(prefix) > 253):
        errors.append(status.invalid("metadata.labels", key, f"prefix part {_SUBDOMAIN_RULE}"))
    if not isinstance(value, str):
        errors.append(status.type_invalid("metadata.labels", value, "must be a string"))
    elif len(value) > 63:
        errors.append(status.invalid("metadata.labels", value, "must be no more than 63 bytes"))
    elif _LABEL_VALUE.fullmatch(value) is None:
        errors.append(status.invalid("metadata.labels", value, _LABEL_VALUE_RULE))
    return errors


def _owner_errors(owners: Any) -> list[FieldError]:
    errors = [
        status.required(f"metadata.ownerReferences[{index}].{field}", "must not be empty")
        for index, owner in enumerate(owners)
        for field in ("apiVersion", "kind", "name", "uid")
        if not owner.get(field)
    ]
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        first, second = controllers[0].get("name"), controllers[1].get("name")
        errors.append(
            status.invalid(
                "metadata.ownerReferences",
                list(owners),
                "Only one reference can have Controller set to true. "
                f'Found "true" in references for {first} and {second}',
            )
        )
    return errors


def immutable_errors(given: Object, old: Object) -> list[FieldError]:
    """Refuse a write that names another value of what only the server sets; leaving it out is fine."""
    return [
        status.invalid(f"metadata.{key}", given[key], "field is immutable")
        for key in ("uid", "deletionTimestamp", "deletionGracePeriodSeconds")
        if given.get(key) is not None and given[key] != old.get(key)
    ]


def finalizer_errors(new: Object, old: Object) -> list[FieldError]:
    """An object that is being deleted gets no new finalizers."""
    if "deletionTimestamp" not in old:
        return []
    added = [name for name in new.get("finalizers") or () if name not in (old.get("finalizers") or ())]
    if not added:
        return []
    spelled = ", ".join(f'"{name}"' for name in added)
    return [
        status.forbidden_field(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted, "
            f"found new finalizers []string{{{spelled}}}",
        )
    ]
