"""The Scale object of a custom resource."""

from __future__ import annotations

from typing import Any

from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.store import Stored


def scale_of(kind: Kind, stored: Stored) -> Object:
    """Make the Scale object of a custom resource."""
    assert kind.scale is not None
    obj, metadata = stored.obj, stored.obj["metadata"]
    scale: Object = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: metadata[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in metadata
        },
        "spec": {"replicas": _at(obj, kind.scale.spec_path) or 0},
        "status": {"replicas": _at(obj, kind.scale.status_path) or 0},
    }
    if kind.scale.selector_path is not None and (selector := _at(obj, kind.scale.selector_path)):
        scale["status"]["selector"] = selector
    return scale


def _at(obj: Object, path: tuple[str, ...]) -> Any:
    value: Any = obj
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
