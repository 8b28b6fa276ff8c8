"""Watches over HTTP: what a request asks for, and the stream of lines that it gets."""

from __future__ import annotations

import asyncio
import random

from aiohttp import web

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.answers import JSON, form_for
from hatchet_operator_dev.apiserver.bodies import resource_version
from hatchet_operator_dev.apiserver.faults import FaultInjector, RequestFacts
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.paging import selects_of
from hatchet_operator_dev.apiserver.routing import Query, Target, flag, number
from hatchet_operator_dev.apiserver.status import ApiError
from hatchet_operator_dev.apiserver.store import Store
from hatchet_operator_dev.apiserver.watching import Watch, error_line

_WATCH_SECONDS = (1800, 3600)


class WatchStreams:
    """The watches that are open.

    Args:
        store: What they watch.
        faults: What goes wrong with them.
        bookmark_seconds: Time between bookmarks on a quiet watch.
    """

    def __init__(self, store: Store, faults: FaultInjector, bookmark_seconds: float) -> None:
        self._store = store
        self._faults = faults
        self._bookmark_seconds = bookmark_seconds
        self._open: set[Watch] = set()

    def __len__(self) -> int:
        return len(self._open)

    def close(self, resource: str | None = None) -> None:
        """End the watches of a resource; None: all."""
        for watch in [each for each in self._open if resource is None or each.resource == resource]:
            watch.close()

    async def serve(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, facts: RequestFacts
    ) -> web.StreamResponse:
        """Answer a request with changes until it ends."""
        watch, ready = self._begin(request, kind, target, query)
        self._open.add(watch)
        self._faults.on_watch(watch, facts)
        response = web.StreamResponse(headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"})
        asked = number(query, "timeoutSeconds")
        lifetime = asked if asked is not None else random.uniform(*_WATCH_SECONDS)  # noqa: S311 spreads reconnects
        try:
            if ready:
                watch.open()
            await response.prepare(request)
            await self._stream(watch, response, lifetime, bookmarks=flag(query, "allowWatchBookmarks"))
        finally:
            watch.close()
            self._open.discard(watch)
            self._faults.forget_watch(watch)
        return response

    def _begin(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query) -> tuple[Watch, bool]:
        """Make a watch with the lines it owes already; it is not ready if those say that it has failed."""
        collection = self._store.collection(kind.collection)
        selects = selects_of(kind, query, target)
        asked = resource_version(query)
        initial = query.get("sendInitialEvents")
        if initial is not None and query.get("resourceVersionMatch") != "NotOlderThan":
            wrong = status.forbidden_field(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
            raise status.unprocessable("meta.k8s.io", "ListOptions", "", [wrong])
        now = self._store.version
        from_now = not asked or flag(query, "sendInitialEvents")
        watch = Watch(
            collection,
            resource=kind.resource,
            namespace=target.namespace,
            selects=selects,
            form=form_for(request, kind, query),
            after=now if from_now or asked is None else asked,
        )
        if from_now:
            if initial is None or flag(query, "sendInitialEvents"):
                items = self._store.snapshot(collection, target.namespace)
                watch.replay([stored for stored in items if selects is None or selects(stored.obj)])
            if flag(query, "sendInitialEvents") and flag(query, "allowWatchBookmarks"):
                watch.bookmark(now, ends_initial_events=True)
            return watch, True
        assert asked is not None
        try:
            changes = self._store.changes_since(collection, asked)
        except ApiError as error:
            watch.send(error_line(error))
            watch.closed = True
            return watch, False
        for change in changes:
            watch.notice(change)
        return watch, True

    async def _stream(self, watch: Watch, response: web.StreamResponse, lifetime: float, *, bookmarks: bool) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + lifetime
        next_bookmark = loop.time() + self._bookmark_seconds
        while True:
            now = loop.time()
            if bookmarks and (now >= next_bookmark or now >= end):
                watch.bookmark(self._store.version)
                next_bookmark = now + self._bookmark_seconds
            lines = await watch.lines(max(0.0, min(end, next_bookmark if bookmarks else end) - now))
            if lines:
                await response.write(lines)
            elif watch.closed or loop.time() >= end:
                return
            if now >= end:
                return
