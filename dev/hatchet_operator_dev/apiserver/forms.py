"""The forms in which a client may ask for objects: plain JSON, a Table for kubectl, or metadata only.

A form turns stored objects into bytes; what it makes of one object is kept with that version of the object, so a
list, a watch event and a GET of the same version serialise it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from hatchet_operator_dev.apiserver import tables
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.store import Stored


class JsonForm:
    """Objects as they are."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._key = ("json", kind.api_version)

    def one(self, stored: Stored) -> bytes:
        return stored.form(self._key, self._dump)

    def _dump(self, obj: Object) -> bytes:
        # All versions of a CRD share one storage; without conversion they differ in this field only.
        if self._kind.from_storage is not None:
            obj = self._kind.from_storage(obj)
        elif obj.get("apiVersion") != self._kind.api_version:
            obj = {**obj, "apiVersion": self._kind.api_version}
        return orjson.dumps(obj)

    def many(self, items: Sequence[Stored], metadata: Object) -> bytes:
        kind = self._kind
        return _list(kind.list_kind, kind.api_version, metadata, [self.one(stored) for stored in items])

    def event_object(self, stored: Stored) -> bytes:
        return self.one(stored)

    def bookmark(self, metadata: Object) -> bytes:
        return orjson.dumps({"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata})


class MetadataForm:
    """``PartialObjectMetadata``: everything but what the object is about."""

    _KEY = "metadata"

    def one(self, stored: Stored) -> bytes:
        return stored.form(self._KEY, lambda obj: orjson.dumps(tables.partial_metadata(obj)))

    def many(self, items: Sequence[Stored], metadata: Object) -> bytes:
        return _list("PartialObjectMetadataList", "meta.k8s.io/v1", metadata, [self.one(stored) for stored in items])

    def event_object(self, stored: Stored) -> bytes:
        return self.one(stored)

    def bookmark(self, metadata: Object) -> bytes:
        return orjson.dumps({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})


class TableForm:
    """A ``Table`` with the kind's printer columns; never kept, since ages in it grow old."""

    def __init__(self, kind: Kind, include: str) -> None:
        self._columns = kind.columns
        self._include = include or "Metadata"

    def one(self, stored: Stored) -> bytes:
        return self.many([stored], {"resourceVersion": stored.obj["metadata"]["resourceVersion"]})

    def many(self, items: Sequence[Stored], metadata: Object) -> bytes:
        rows = [tables.row(stored.obj, self._columns, include=self._include) for stored in items]
        return orjson.dumps(tables.table(rows, self._columns, metadata))

    def event_object(self, stored: Stored) -> bytes:
        return self.one(stored)

    def bookmark(self, metadata: Object) -> bytes:
        # The real server sends a row whose object carries nothing but the version; clients read it there.
        cells: list[Any] = [None] * len(self._columns)
        obj = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return orjson.dumps(tables.table([{"cells": cells, "object": obj}], self._columns, {**metadata}))


Form = JsonForm | MetadataForm | TableForm


def choose_form(kind: Kind, accept: str, include_object: str) -> Form:
    """Choose by the Accept header; the first alternative that is known wins, as clients order them by preference."""
    for alternative in accept.split(","):
        parameters = {part.strip() for part in alternative.split(";")}
        if "as=Table" in parameters:
            return TableForm(kind, include_object)
        if parameters & {"as=PartialObjectMetadata", "as=PartialObjectMetadataList"}:
            return MetadataForm()
        if "application/json" in parameters and not any(part.startswith("as=") for part in parameters):
            break
    return JsonForm(kind)


def _list(kind: str, api_version: str, metadata: Object, items: list[bytes]) -> bytes:
    head = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))
