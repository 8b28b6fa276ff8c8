"""The two forms of an Event: one object, served as ``v1`` (how it is stored) and as ``events.k8s.io/v1``."""

from __future__ import annotations

from hatchet_operator_dev.apiserver.objects import Object

_CORE_TO_NEW = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_NEW_TO_CORE = {new: core for core, new in _CORE_TO_NEW.items()}


def to_core(event: Object) -> Object:
    return {_NEW_TO_CORE.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}


def from_core(event: Object) -> Object:
    return {_CORE_TO_NEW.get(key, key): value for key, value in event.items()} | {"apiVersion": "events.k8s.io/v1"}
