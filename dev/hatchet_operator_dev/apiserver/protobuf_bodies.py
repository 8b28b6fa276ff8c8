r"""Protobuf request bodies, of the few kinds that ``kubectl create`` sends in that form (answers are always JSON).

The envelope is ``k8s\0`` and a runtime.Unknown: the kind, and the object's bytes. Field numbers are those of the
generated.proto files in k8s.io/api, where they never change. What has no entry here is skipped, and an unknown kind
is refused as unsupported.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import bad_request, unsupported_media_type

Fields = Mapping[int, tuple[str, Any]]
"""By number: the JSON name, and "text", "flag", "number", "texts", "map", "bytes map" or the fields of a message."""

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

_META: Fields = {
    1: ("name", "text"),
    2: ("generateName", "text"),
    3: ("namespace", "text"),
    11: ("labels", "map"),
    12: ("annotations", "map"),
    14: ("finalizers", "texts"),
}
_BOUND_OBJECT: Fields = {1: ("kind", "text"), 2: ("apiVersion", "text"), 3: ("name", "text"), 4: ("uid", "text")}
_KINDS: Mapping[str, Fields] = {
    "Namespace": {1: ("metadata", _META)},
    "ServiceAccount": {1: ("metadata", _META)},
    "ConfigMap": {
        1: ("metadata", _META),
        2: ("data", "map"),
        3: ("binaryData", "bytes map"),
        4: ("immutable", "flag"),
    },
    "Secret": {
        1: ("metadata", _META),
        2: ("data", "bytes map"),
        3: ("type", "text"),
        4: ("stringData", "map"),
        5: ("immutable", "flag"),
    },
    "TokenRequest": {
        1: ("metadata", _META),
        2: (
            "spec",
            {1: ("audiences", "texts"), 3: ("boundObjectRef", _BOUND_OBJECT), 4: ("expirationSeconds", "number")},
        ),
    },
}


def decode(body: bytes) -> Object:
    """Decode the envelope and the object in it into what its JSON would have been."""
    if not body.startswith(_MAGIC):
        raise bad_request("the body of the request is not Kubernetes protobuf")
    try:
        envelope = dict(_wire_fields(body[len(_MAGIC) :]))
        kind = _message(envelope[1], {1: ("apiVersion", "text"), 2: ("kind", "text")})
        fields = _KINDS.get(kind.get("kind", ""))
        if fields is None:
            raise unsupported_media_type(("application/json", "application/yaml"))
        return kind | _message(envelope.get(2, b""), fields)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise bad_request(f"the body of the request is not Kubernetes protobuf: {error!r}") from error


def _message(body: bytes, fields: Fields) -> Object:
    found: Object = {}
    for number, value in _wire_fields(body):
        if number not in fields:
            continue
        name, shape = fields[number]
        match shape:
            case "text":
                if value:  # Go writes empty texts too; absent is what they mean
                    found[name] = value.decode()
            case "number":
                found[name] = value
            case "flag":
                found[name] = bool(value)
            case "texts":
                found.setdefault(name, []).append(value.decode())
            case "map" | "bytes map":
                entry = dict(_wire_fields(value))
                content = entry.get(2, b"")
                text = base64.b64encode(content) if shape == "bytes map" else content
                found.setdefault(name, {})[entry.get(1, b"").decode()] = text.decode()
            case _:
                found[name] = _message(value, shape)
    return found


def _wire_fields(body: bytes) -> Iterator[tuple[int, Any]]:
    position = 0
    while position < len(body):
        tag, position = _varint(body, position)
        match tag & 7:
            case 0:
                value, position = _varint(body, position)
                yield tag >> 3, value
            case 1:
                position += 8
            case 2:
                length, position = _varint(body, position)
                if position + length > len(body):
                    raise IndexError("a field is longer than the message")
                yield tag >> 3, body[position : position + length]
                position += length
            case 5:
                position += 4
            case other:
                raise IndexError(f"wire type {other}")


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
