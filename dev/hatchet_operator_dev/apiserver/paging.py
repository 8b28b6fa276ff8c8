"""Lists: which objects a request selects, in pages of a snapshot that a token continues."""

from __future__ import annotations

import base64
import binascii
import bisect

import orjson

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.bodies import resource_version
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.routing import Query, Target, number
from hatchet_operator_dev.apiserver.selectors import parse_fields, parse_labels
from hatchet_operator_dev.apiserver.status import ApiError
from hatchet_operator_dev.apiserver.store import Collection, Store, Stored
from hatchet_operator_dev.apiserver.watching import Selects

_JUST_AFTER = "\0"
_PRESENT = -1


class Pages:
    """Lists of a store's objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, collection: Collection, kind: Kind, target: Target, query: Query) -> tuple[list[Stored], Object]:
        """Return the objects of a page, and its list's metadata."""
        selects = selects_of(kind, query, target)
        limit = number(query, "limit") or 0
        version, after = self._position(query)
        snapshot = self._snapshot(collection, target.namespace, version, after)
        shown = self._store.version if version is None else version
        across = target.namespace is None and kind.namespaced
        start = bisect.bisect_left(snapshot, after, key=lambda stored: _key(stored, across=across)) if after else 0
        items: list[Stored] = []
        for index in range(start, len(snapshot)):
            stored = snapshot[index]
            if selects is not None and not selects(stored.obj):
                continue
            if limit and len(items) == limit:
                token = _continue_token(shown, _key(items[-1], across=across))
                metadata: Object = {"resourceVersion": str(shown), "continue": token}
                if selects is None:
                    metadata["remainingItemCount"] = len(snapshot) - index
                return items, metadata
            items.append(stored)
        return items, {"resourceVersion": str(shown)}

    def _snapshot(self, collection: Collection, namespace: str | None, version: int | None, after: str) -> list[Stored]:
        try:
            return self._store.snapshot(collection, namespace, version)
        except ApiError as error:
            if after:  # the client may go on in the present, knowing that the whole is no snapshot
                error.continue_token = _continue_token(_PRESENT, after.removesuffix(_JUST_AFTER))
            raise

    def _position(self, query: Query) -> tuple[int | None, str]:
        """Return the version to list at (``None``: now) and the key to start from."""
        token = query.get("continue")
        if token:
            if query.get("resourceVersion") not in (None, "", "0"):
                raise status.bad_request("specifying resource version is not allowed when using continue")
            return _parse_continue(token)
        asked = resource_version(query)
        exact = query.get("resourceVersionMatch") == "Exact"
        if query.get("resourceVersionMatch") and not query.get("resourceVersion"):
            refused = status.forbidden_field(
                "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
            raise status.unprocessable("meta.k8s.io", "ListOptions", "", [refused])
        if asked is not None and asked > self._store.version:
            raise status.future_version(asked, self._store.version)
        return (asked if exact else None), ""


def selects_of(kind: Kind, query: Query, target: Target) -> Selects | None:
    """Return which objects a request selects; None: all."""
    labels = parse_labels(query.get("labelSelector"))
    fields_text = query.get("fieldSelector", "")
    if target.name:  # the old form of watching one object
        fields_text = ",".join(filter(None, (fields_text, f"metadata.name={target.name}")))
    fields = parse_fields(fields_text, kind.field_readers)
    if labels is None or fields is None:
        return labels or fields
    return lambda obj: labels(obj) and fields(obj)


def _key(stored: Stored, *, across: bool) -> str:
    """Spell the part of an etcd key by which a list is ordered: with the namespace if the list spans all of them."""
    metadata = stored.obj["metadata"]
    name: str = metadata["name"]
    return f"{metadata['namespace']}/{name}" if across else name


def _continue_token(version: int, last_key: str) -> str:
    """Make a token of the real server's form, which clients are not meant to read, but tests do."""
    position = {"v": "meta.k8s.io/v1", "rv": version, "start": last_key + _JUST_AFTER}
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def _parse_continue(token: str) -> tuple[int | None, str]:
    try:
        position = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, start = int(position["rv"]), str(position["start"])
    except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise status.bad_request(f"invalid continue token: continue key is not valid: {error}") from error
    return (None if version == _PRESENT else version), start
