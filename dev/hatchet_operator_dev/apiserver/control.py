"""What tests order under ``/_``: faults, counts of requests, a forgotten history, objects past all checks, tokens."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from hatchet_operator_dev.apiserver.answers import json_answer, no_such_path
from hatchet_operator_dev.apiserver.bodies import parse_json
from hatchet_operator_dev.apiserver.faults import FaultInjector
from hatchet_operator_dev.apiserver.kinds import Kinds
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.routing import Query
from hatchet_operator_dev.apiserver.store import Store
from hatchet_operator_dev.apiserver.watch_streams import WatchStreams

_COUNTED = ("verb", "group", "resource", "subresource", "namespace", "userAgent")


class Control:
    """Answers the orders of tests.

    Args:
        store: The objects.
        kinds: What kinds there are.
        faults: What goes wrong with requests.
        watches: The watches that are open.
        requests: Requests seen, by the fields of ``_COUNTED``.
        tokens: Users by token.
    """

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        faults: FaultInjector,
        watches: WatchStreams,
        requests: Counter[tuple[str, ...]],
        tokens: dict[str, Object],
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._faults = faults
        self._watches = watches
        self._requests = requests
        self._tokens = tokens

    async def answer(self, request: web.BaseRequest, path: str, query: Query) -> web.Response:
        """Do what is ordered."""
        if path.startswith("/_faults"):
            return await self._answer_about_faults(request, path, query)
        match request.method, path:
            case "GET", "/_stats":
                listed = [dict(zip(_COUNTED, key, strict=True), count=count) for key, count in self._requests.items()]
                return json_answer(
                    {"requests": listed, "watches": len(self._watches), "resourceVersion": self._store.version}
                )
            case "DELETE", "/_stats":
                self._requests.clear()
                return json_answer({})
            case "POST", "/_compact":
                self._store.forget_history()
                return json_answer({"resourceVersion": self._store.version})
            case "POST", "/_objects":
                return json_answer({"stored": self._store_as_they_are(parse_json(await request.read()))})
            case "POST", "/_tokens":
                self._tokens.update(parse_json(await request.read()))
                return json_answer({"tokens": len(self._tokens)})
        return no_such_path()

    async def _answer_about_faults(self, request: web.BaseRequest, path: str, query: Query) -> web.Response:
        match request.method, path:
            case "POST", "/_faults":
                self._faults.install(parse_json(await request.read()))
                return json_answer({"rules": self._faults.report()})
            case "DELETE", "/_faults":
                self._faults.clear()
                return json_answer({"rules": []})
            case "GET", "/_faults":
                return json_answer({"rules": self._faults.report(), "missed": self._faults.missed()})
            case "GET", "/_faults/fired":
                fired = await self._faults.wait_until_fired(float(query.get("wait", "0")))
                return json_answer({"fired": fired, "rules": self._faults.report()})
        return no_such_path()

    def _store_as_they_are(self, objects: Any) -> int:
        """Store whole objects past all checks, as one who writes into etcd: a test may want 50,000 in a moment."""
        for obj in objects:
            kind = next(
                kind for kind in self._kinds if (kind.api_version, kind.kind) == (obj["apiVersion"], obj["kind"])
            )
            collection = self._store.collection(kind.collection)
            metadata = obj["metadata"]
            self._store.put(collection, obj, collection.find(metadata.get("namespace", ""), metadata["name"]))
        return len(objects)
