"""The HTTP side: requests into operations, results into the answers that kopf, kubectl and our own informer expect.

    async with ApiServer() as url: …        or        url = await server.start(); …; await server.stop()

Runs in the event loop of its caller. Every write is one synchronous step of that loop, so a request is either done or
not when its connection breaks; the fault injector lives between doing and answering.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import bisect
import hmac
import random
import re
import ssl
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import web

from hatchet_operator_dev.apiserver import (
    access,
    builtin,
    crds,
    discovery,
    openapi,
    patches,
    pod_logs,
    protobuf_bodies,
    status,
)
from hatchet_operator_dev.apiserver.access import Authenticator, Authorizer
from hatchet_operator_dev.apiserver.faults import Fault, FaultInjector, RequestFacts
from hatchet_operator_dev.apiserver.forms import Form, JsonForm, choose_form
from hatchet_operator_dev.apiserver.garbage import GarbageCollector
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.operations import DeleteOptions, Operations, WriteOptions
from hatchet_operator_dev.apiserver.routing import Query, Target, flag, number, parse_query, parse_target
from hatchet_operator_dev.apiserver.selectors import parse_fields, parse_labels
from hatchet_operator_dev.apiserver.status import ApiError
from hatchet_operator_dev.apiserver.store import Change, Collection, Store, Stored
from hatchet_operator_dev.apiserver.tokens import ServiceAccountTokens
from hatchet_operator_dev.apiserver.watching import Selects, Watch, error_line

Object = dict[str, Any]

MAX_BODY_BYTES = 3 * 1024 * 1024
"""What the real server reads of a request."""
_JSON = "application/json"
_WATCH_SECONDS = (1800, 3600)
_JUST_AFTER = "\0"
_PRESENT = -1
_PATCH_TYPES = (
    patches.JSON_PATCH,
    patches.MERGE_PATCH,
    patches.STRATEGIC_PATCH,
    patches.APPLY_PATCH,
)


class DropConnection(Exception):
    """Ends a request without an answer."""


class ApiServer:
    """An in-memory Kubernetes API server.

    Args:
        token: The bearer token that clients must present; ``None`` lets everybody in.
        authenticator: Answers TokenReviews about tokens that are neither in ``tokens`` nor of a service account.
        history_size: Changes kept per resource for watches to resume from.
        bookmark_seconds: Time between bookmarks on a quiet watch (a minute on the real server).
        kept_logs: Where a local node leaves the logs of its pods, which are then served when the pods are gone.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        authenticator: Authenticator | None = None,
        history_size: int = 10_000,
        bookmark_seconds: float = 10.0,
        kept_logs: Path | None = None,
    ) -> None:
        self.store = Store(history_size)
        self.kinds = builtin.make_built_in_kinds()
        self.operations = Operations(self.store, self.kinds)
        self.faults = FaultInjector()
        self.requests: Counter[tuple[str, ...]] = Counter()  # fields: see _COUNTED
        """Requests seen, by verb, resource, subresource and user agent."""
        self.tokens: dict[str, Object] = {}
        """Users by token, for TokenReview."""
        self.authorizer: Authorizer | None = None
        """Answers LocalSubjectAccessReviews; None: everybody may do everything."""
        self._account_tokens = ServiceAccountTokens(self.store)
        self._token = token
        self._authenticator = authenticator
        self._bookmark_seconds = bookmark_seconds
        self._kept_logs = kept_logs
        self._collector = GarbageCollector(self.store, self.kinds, self.operations)
        self._collector_task: asyncio.Task[None] | None = None
        self._runner: web.ServerRunner | None = None
        self.url: str | None = None
        """Where it listens, or did last."""
        self._watches: set[Watch] = set()
        self.store.observers.append(self._serve_definition)
        for kind in self.kinds:
            self.store.collection(kind.collection)
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0, ssl_context: ssl.SSLContext | None = None) -> str:
        """Listen; returns the base URL."""
        server = web.Server(self._handle, handler_cancellation=True, request_factory=_make_request, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=ssl_context, backlog=1024)
        await site.start()
        self._collector_task = asyncio.create_task(self._collector.run(), name="garbage collector")
        address = self._runner.addresses[0]
        scheme = "https" if ssl_context else "http"
        self.url = f"{scheme}://{host}:{address[1]}"
        return self.url

    async def stop(self) -> None:
        """End all watches and stop listening; the objects stay, and ``start`` may be called again."""
        for watch in list(self._watches):
            watch.close()
        if self._collector_task is not None:
            self._collector_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._collector_task
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def create(self, obj: Object) -> Object:
        """Create an object without HTTP, as the seed of a cluster."""
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = next(
            (one for one in self.kinds if (one.group, one.version, one.kind) == (group, version, obj["kind"])), None
        )
        if kind is None:
            raise status.no_such_resource()
        namespace = obj.get("metadata", {}).get("namespace", "default") if kind.namespaced else ""
        return self.operations.create(kind, namespace, obj, WriteOptions()).obj

    def load_definitions(self, folder: Path) -> list[str]:
        """Create every CRD found in the YAML files of a folder; returns their names."""
        return [
            self.create(document)["metadata"]["name"]
            for path in sorted(folder.glob("*.y*ml"))
            for document in yaml.safe_load_all(path.read_text())
            if document and document.get("kind") == "CustomResourceDefinition"
        ]

    def _serve_definition(self, resource: str, change: Change) -> None:
        """Keep the kinds in step with the CustomResourceDefinitions."""
        if resource != builtin.DEFINITIONS:
            return
        crd = change.new.obj
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        if change.old is not None and not change.deleted and change.old.obj["spec"] == crd["spec"]:
            return
        self.kinds.drop(group, plural)
        if change.deleted:
            for watch in [one for one in self._watches if one.resource == f"{plural}.{group}"]:
                watch.close()
            self.store.drop_collection(f"{plural}.{group}")
            return
        for kind in crds.kinds_of(crd):
            self.kinds.add(kind)
            self.store.collection(kind.collection)

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query_text = request.raw_path.partition("?")
        try:
            if self._token is not None and not self._is_authorized(request, path):
                raise status.unauthorized()
            if path.startswith("/_"):
                return await self._control(request, path, parse_query(query_text))
            target = parse_target(path)
            if target is None:
                return self._answer_about_server(request, path)
            return await self._serve(request, target, parse_query(query_text))
        except ApiError as error:
            return _failure(error)
        except DropConnection:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None
        except web.HTTPRequestEntityTooLarge:
            return _failure(status.too_large(MAX_BODY_BYTES))

    def _is_authorized(self, request: web.BaseRequest, path: str) -> bool:
        if path in _OPEN_PATHS:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    async def _serve(self, request: web.BaseRequest, target: Target, query: Query) -> web.StreamResponse:
        kind = self.kinds.find(target.group, target.version, target.plural)
        if kind is None or (target.namespace is not None and not kind.namespaced):
            if target.group in builtin.GROUPS:
                raise status.no_such_resource()
            return _no_such_path()
        verb = _verb(request.method, target, query)
        facts = RequestFacts(
            verb=verb,
            resource=target.plural,
            subresource=target.subresource,
            namespace=target.namespace or "",
            name=target.name,
            user_agent=request.headers.get("User-Agent", ""),
        )
        counted = (verb, target.group, target.plural, target.subresource, facts.namespace, facts.user_agent)
        self.requests[counted] += 1
        fault = self.faults.on_request(facts) if self.faults.rules else None
        if fault is not None:
            await _suffer_before(fault)
        if verb == "watch":
            return await self._watch(request, kind, target, query, facts)
        if target.subresource == "log":
            return await self._log(request, kind, target, query)
        response = await self._dispatch(verb, request, kind, target, query)
        if fault is not None and fault.action == "commit-then-hang":
            await asyncio.Event().wait()  # ends by the client's going, which cancels this handler
        if fault is not None and fault.action == "commit-then-drop":
            raise DropConnection
        return response

    async def _dispatch(
        self, verb: str, request: web.BaseRequest, kind: Kind, target: Target, query: Query
    ) -> web.Response:
        namespace = target.namespace or ""
        if kind.namespaced and target.namespace is None and verb != "list":
            raise status.method_not_allowed()
        if not _offers(kind, target, verb):
            raise status.no_such_resource() if target.subresource else status.method_not_allowed()
        body = await _read_body(request) if verb not in ("get", "list") else None
        match verb:
            case "get":
                stored = self.operations.get(kind, namespace, target.name)
                if target.subresource == "scale":
                    return _json(self.operations.scale_of(kind, stored))
                return _raw(self._form(request, kind, query).one(stored))
            case "list":
                return self._list(request, kind, target, query)
            case "create":
                return self._create(request, kind, target, query, body)
            case "update":
                return self._update(request, kind, target, query, body)
            case "patch":
                return self._patch(request, kind, target, query, body or b"")
            case "delete":
                return self._delete(kind, target, query, body)
            case "deletecollection":
                return self._delete_collection(request, kind, target, query, body)
        raise status.method_not_allowed()

    def _form(self, request: web.BaseRequest, kind: Kind, query: Query) -> Form:
        return choose_form(kind, request.headers.get("Accept", ""), query.get("includeObject", ""))

    def _selects(self, kind: Kind, query: Query, target: Target) -> Selects | None:
        labels = parse_labels(query.get("labelSelector"))
        fields_text = query.get("fieldSelector", "")
        if target.name:  # the old form of watching one object
            fields_text = ",".join(filter(None, (fields_text, f"metadata.name={target.name}")))
        fields = parse_fields(fields_text, kind.field_readers)
        if labels is None or fields is None:
            return labels or fields
        return lambda obj: labels(obj) and fields(obj)

    # --- lists ------------------------------------------------------------------------------------------------------

    def _list(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query) -> web.Response:
        form = self._form(request, kind, query)
        collection = self.store.collection(kind.collection)
        items, metadata = self._page(collection, kind, target, query)
        return _raw(form.many(items, metadata))

    def _page(self, collection: Collection, kind: Kind, target: Target, query: Query) -> tuple[list[Stored], Object]:
        selects = self._selects(kind, query, target)
        limit = number(query, "limit") or 0
        version, after = self._list_position(query)
        snapshot = self._snapshot(collection, target.namespace, version, after)
        shown = self.store.version if version is None else version
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
            return self.store.snapshot(collection, namespace, version)
        except ApiError as error:
            if after:  # the client may go on in the present, knowing that the whole is no snapshot
                error.continue_token = _continue_token(_PRESENT, after.removesuffix(_JUST_AFTER))
            raise

    def _list_position(self, query: Query) -> tuple[int | None, str]:
        """The version to list at (``None``: now) and the key to start from."""
        token = query.get("continue")
        if token:
            if query.get("resourceVersion") not in (None, "", "0"):
                raise status.bad_request("specifying resource version is not allowed when using continue")
            return _parse_continue(token)
        asked = _resource_version(query)
        exact = query.get("resourceVersionMatch") == "Exact"
        if query.get("resourceVersionMatch") and not query.get("resourceVersion"):
            refused = status.forbidden_field(
                "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
            raise status.unprocessable("meta.k8s.io", "ListOptions", "", [refused])
        if asked is not None and asked > self.store.version:
            raise status.future_version(asked, self.store.version)
        return (asked if exact else None), ""

    # --- writes -----------------------------------------------------------------------------------------------------

    def _create(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes | None
    ) -> web.Response:
        given = _parse_object(request, body)
        options = _write_options(query)
        if target.subresource == "binding":
            node = (given.get("target") or {}).get("name", "")
            self.operations.bind_pod(kind, target.namespace or "", target.name, node)
            return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)
        if target.subresource == "token":
            account = self.operations.get(kind, target.namespace or "", target.name)
            return _json(self._account_tokens.issue(account, given), 201)
        if kind.plural == "tokenreviews":
            return _json(access.review_token(given, self._authenticate), 201)
        if kind.plural == "localsubjectaccessreviews":
            return _json(access.review_access(given, target.namespace or "", self.authorizer), 201)
        stored = self.operations.create(kind, target.namespace or "", given, options)
        return _raw(self._form(request, kind, query).one(stored), 201, options.warnings)

    def _authenticate(self, token: str, audiences: list[str]) -> Any:
        known = self.tokens.get(token) or self._account_tokens.authenticate(token, audiences)
        if known is not None or self._authenticator is None:
            return known
        return self._authenticator(token, audiences)

    def _update(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes | None
    ) -> web.Response:
        given = _parse_object(request, body)
        options = _write_options(query)
        namespace = target.namespace or ""
        if target.subresource == "scale":
            stored = self.operations.replace_scale(kind, namespace, target.name, given, options)
            return _json(self.operations.scale_of(kind, stored))
        stored = self.operations.replace(kind, namespace, target.name, given, options, subresource=target.subresource)
        return _raw(self._form(request, kind, query).one(stored), 200, options.warnings)

    def _patch(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes) -> web.Response:
        media_type = request.content_type
        if media_type not in _PATCH_TYPES:
            raise status.unsupported_media_type(_PATCH_TYPES)
        options = _write_options(query)
        patch = _parse_yaml(body) if media_type == patches.APPLY_PATCH else _parse_json(body)
        namespace = target.namespace or ""
        if target.subresource == "scale":
            scale = self.operations.scale_of(kind, self.operations.get(kind, namespace, target.name))
            patched = patches.merge_patch(scale, patch)
            stored = self.operations.replace_scale(kind, namespace, target.name, patched, options)
            return _json(self.operations.scale_of(kind, stored))
        stored, created = self.operations.patch(
            kind, namespace, target.name, media_type, patch, options, subresource=target.subresource
        )
        return _raw(self._form(request, kind, query).one(stored), 201 if created else 200, options.warnings)

    def _delete(self, kind: Kind, target: Target, query: Query, body: bytes | None) -> web.Response:
        deletion = self.operations.delete(kind, target.namespace or "", target.name, _delete_options(query, body))
        if not deletion.gone or kind.resource in _ANSWERS_WITH_OBJECT:
            return _raw(JsonForm(kind).one(deletion.stored))
        details = {"name": target.name, "kind": kind.plural, "uid": deletion.stored.uid}
        if kind.group:
            details["group"] = kind.group
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _delete_collection(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes | None
    ) -> web.Response:
        collection = self.store.collection(kind.collection)
        items, metadata = self._page(collection, kind, target, query)
        options = _delete_options(query, body)
        deleted = [
            self.operations.delete(kind, target.namespace or "", stored.obj["metadata"]["name"], options).stored
            for stored in items
        ]
        return _raw(self._form(request, kind, query).many(deleted, metadata))

    # --- watches ----------------------------------------------------------------------------------------------------

    async def _watch(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, facts: RequestFacts
    ) -> web.StreamResponse:
        watch, ready = self._open_watch(request, kind, target, query)
        self._watches.add(watch)
        self.faults.on_watch(watch, facts)
        response = web.StreamResponse(headers={"Content-Type": _JSON, "Cache-Control": "no-cache, private"})
        asked = number(query, "timeoutSeconds")
        lifetime = asked if asked is not None else random.uniform(*_WATCH_SECONDS)  # noqa: S311 spreads reconnects
        try:
            if ready:
                watch.open()
            await response.prepare(request)
            await self._stream(watch, response, lifetime, bookmarks=flag(query, "allowWatchBookmarks"))
        finally:
            watch.close()
            self._watches.discard(watch)
            self.faults.forget_watch(watch)
        return response

    def _open_watch(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query) -> tuple[Watch, bool]:
        """Make a watch with the lines it owes already; it is not ready if those say that it has failed."""
        collection = self.store.collection(kind.collection)
        selects = self._selects(kind, query, target)
        asked = _resource_version(query)
        initial = query.get("sendInitialEvents")
        if initial is not None and query.get("resourceVersionMatch") != "NotOlderThan":
            wrong = status.forbidden_field(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
            raise status.unprocessable("meta.k8s.io", "ListOptions", "", [wrong])
        now = self.store.version
        from_now = not asked or flag(query, "sendInitialEvents")
        watch = Watch(
            collection,
            resource=kind.resource,
            namespace=target.namespace,
            selects=selects,
            form=self._form(request, kind, query),
            after=now if from_now or asked is None else asked,
        )
        if from_now:
            if initial is None or flag(query, "sendInitialEvents"):
                items = self.store.snapshot(collection, target.namespace)
                watch.replay([stored for stored in items if selects is None or selects(stored.obj)])
            if flag(query, "sendInitialEvents") and flag(query, "allowWatchBookmarks"):
                watch.bookmark(now, ends_initial_events=True)
            return watch, True
        assert asked is not None
        try:
            changes = self.store.changes_since(collection, asked)
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
                watch.bookmark(self.store.version)
                next_bookmark = now + self._bookmark_seconds
            lines = await watch.lines(max(0.0, min(end, next_bookmark if bookmarks else end) - now))
            if lines:
                await response.write(lines)
            elif watch.closed or loop.time() >= end:
                return
            if now >= end:
                return

    async def _log(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query) -> web.StreamResponse:
        namespace = target.namespace or ""
        path = self._log_path(kind, namespace, target.name, query)
        text, position = await asyncio.to_thread(pod_logs.read_tail, path, number(query, "tailLines"))
        times = pod_logs.Times(path) if flag(query, "timestamps") else None
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        if text:
            await response.write(times.put_before(text, position - len(text)) if times else text)

        def is_running() -> bool:
            now = self.store.collection(kind.collection).find(namespace, target.name)
            return now is not None and now.obj.get("status", {}).get("phase") not in ("Succeeded", "Failed")

        if flag(query, "follow"):
            async for block in pod_logs.follow(path, position, is_running):
                await response.write(times.put_before(block, position) if times else block)
                position += len(block)
        return response

    def _log_path(self, kind: Kind, namespace: str, name: str, query: Query) -> Path:
        try:
            pod = self.operations.get(kind, namespace, name)
        except status.ApiError:
            if (kept := pod_logs.kept_log(self._kept_logs, namespace, name)) is not None:
                return kept
            raise
        container = query.get("container", "")
        if flag(query, "previous"):  # a local node writes the output of all of a container's starts into one file
            shown = container or pod.obj["spec"]["containers"][0]["name"]
            raise status.bad_request(f'previous terminated container "{shown}" in pod "{name}" not found')
        return pod_logs.log_path(pod.obj, container)

    # --- about the server -------------------------------------------------------------------------------------------

    def _answer_about_server(self, request: web.BaseRequest, path: str) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise status.method_not_allowed()
        accept = request.headers.get("Accept", "")
        parts = path.strip("/").split("/")
        if path in _HEALTH_PATHS or parts[0] in ("readyz", "livez", "healthz"):
            return web.Response(text="ok")
        found: Object | None = None
        match parts:
            case [""]:
                found = {"paths": _ROOT_PATHS}
            case ["version"]:
                found = discovery.VERSION
            case ["api" | "apis"] if discovery.wants_aggregated(accept):
                listed = discovery.aggregated(self.kinds, core=parts == ["api"])
                return _raw(orjson.dumps(listed), content_type=discovery.AGGREGATED_TYPE)
            case ["api"]:
                found = discovery.core_versions(request.host)
            case ["apis"]:
                found = discovery.group_list(self.kinds)
            case ["api", version]:
                found = discovery.resource_list(self.kinds, "", version)
            case ["apis", group]:
                found = discovery.group(self.kinds, group)
            case ["apis", group, version]:
                found = discovery.resource_list(self.kinds, group, version)
            case ["openapi", "v2"]:
                found = openapi.version_2(self.kinds)
            case ["openapi", "v3"]:
                found = openapi.index(self.kinds)
            case ["openapi", "v3", *group_version]:
                found = openapi.group_version(self.kinds, "/".join(group_version))
        return _no_such_path() if found is None else _json(found)

    # --- what tests order -------------------------------------------------------------------------------------------

    async def _control(self, request: web.BaseRequest, path: str, query: Query) -> web.Response:
        match request.method, path:
            case "POST", "/_faults":
                self.faults.install(_parse_json(await request.read()))
                return _json({"rules": self.faults.report()})
            case "DELETE", "/_faults":
                self.faults.clear()
                return _json({"rules": []})
            case "GET", "/_faults":
                return _json({"rules": self.faults.report(), "missed": self.faults.missed()})
            case "GET", "/_faults/fired":
                fired = await self.faults.wait_until_fired(float(query.get("wait", "0")))
                return _json({"fired": fired, "rules": self.faults.report()})
            case "GET", "/_stats":
                listed = [dict(zip(_COUNTED, key, strict=True), count=count) for key, count in self.requests.items()]
                return _json({"requests": listed, "watches": len(self._watches), "resourceVersion": self.store.version})
            case "DELETE", "/_stats":
                self.requests.clear()
                return _json({})
            case "POST", "/_compact":
                self.store.forget_history()
                return _json({"resourceVersion": self.store.version})
            case "POST", "/_objects":
                return _json({"stored": self._store_as_they_are(_parse_json(await request.read()))})
            case "POST", "/_tokens":
                self.tokens.update(_parse_json(await request.read()))
                return _json({"tokens": len(self.tokens)})
        return _no_such_path()

    def _store_as_they_are(self, objects: Any) -> int:
        """Store whole objects past all checks, as one who writes into etcd: a test may want 50,000 in a moment."""
        for obj in objects:
            kind = next(
                kind for kind in self.kinds if (kind.api_version, kind.kind) == (obj["apiVersion"], obj["kind"])
            )
            collection = self.store.collection(kind.collection)
            metadata = obj["metadata"]
            self.store.put(collection, obj, collection.find(metadata.get("namespace", ""), metadata["name"]))
        return len(objects)


_COUNTED = ("verb", "group", "resource", "subresource", "namespace", "userAgent")
_HEALTH_PATHS = frozenset({"/readyz", "/livez", "/healthz"})
_OPEN_PATHS = _HEALTH_PATHS | {"/version"}
_ROOT_PATHS = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
_ANSWERS_WITH_OBJECT = frozenset({"pods", "services", "serviceaccounts", "namespaces"})
_SUBRESOURCE_VERBS = ("get", "update", "patch")


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def _verb(method: str, target: Target, query: Query) -> str:
    if method in ("GET", "HEAD"):
        if flag(query, "watch") and not target.subresource:
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method)
    if verb is None or (verb == "create" and target.name and not target.subresource):
        raise status.method_not_allowed()
    if verb != "create" and not target.name:
        raise status.bad_request("name must be provided")
    return verb


def _offers(kind: Kind, target: Target, verb: str) -> bool:
    match target.subresource:
        case "":
            return verb in kind.verbs
        case "status":
            return kind.has_status and verb in _SUBRESOURCE_VERBS
        case "scale":
            return kind.scale is not None and verb in _SUBRESOURCE_VERBS
        case "binding":
            return kind.resource == "pods" and verb == "create"
        case "token":
            return kind.resource == "serviceaccounts" and verb == "create"
        case "log":
            return kind.resource == "pods" and verb == "get"
    return False


async def _suffer_before(fault: Fault) -> None:
    match fault.action:
        case "status":
            raise fault.error()
        case "delay":
            await asyncio.sleep(fault.seconds)
        case "drop":
            raise DropConnection


async def _read_body(request: web.BaseRequest) -> bytes:
    return await request.read()


def _parse_json(body: bytes) -> Any:
    try:
        parsed = orjson.loads(body)
        if body.count(b"{") + body.count(b"[") > _DEEPEST:
            orjson.dumps(parsed)  # ends at 254 levels; kube-apiserver's own limit is 10 000
        # Rare, and a search of the text is all that it costs the others.
        return _with_rounded_integers(parsed) if _LONG_INTEGER.search(body) else parsed
    except orjson.JSONDecodeError as error:
        raise status.bad_request(f"the body of the request is not JSON: {error}") from error
    except TypeError as error:
        raise status.bad_request(f"the body of the request is nested deeper than {_DEEPEST} levels") from error


_DEEPEST = 250
_LONG_INTEGER = re.compile(rb"[0-9]{19}")


def _with_rounded_integers(value: Any) -> Any:
    """Turn integers beyond 64 bits into floats, as Go's decoder does with free-form fields."""
    if isinstance(value, dict):
        return {key: _with_rounded_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_rounded_integers(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def _parse_yaml(body: bytes) -> Any:
    if body.lstrip()[:1] == b"{":
        return _parse_json(body)
    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise status.bad_request(f"the body of the request is not YAML: {error}") from error


def _parse_object(request: web.BaseRequest, body: bytes | None) -> Any:
    if request.content_type == "application/yaml":
        return _parse_yaml(body or b"")
    if request.content_type == protobuf_bodies.MEDIA_TYPE:
        return protobuf_bodies.decode(body or b"")
    if request.content_type not in (_JSON, "application/octet-stream", "text/plain"):
        raise status.unsupported_media_type((_JSON, "application/yaml"))
    return _parse_json(body or b"")


def _write_options(query: Query) -> WriteOptions:
    if not query:
        return WriteOptions()
    return WriteOptions(
        dry_run=query.get("dryRun") == "All",
        field_validation=query.get("fieldValidation") or "Warn",
        field_manager=query.get("fieldManager", ""),
    )


def _delete_options(query: Query, body: bytes | None) -> DeleteOptions:
    given: Object = (_parse_json(body) if body else None) or {}
    preconditions = given.get("preconditions") or {}
    grace = given.get("gracePeriodSeconds")
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    return DeleteOptions(
        dry_run="All" in (given.get("dryRun") or ()) or query.get("dryRun") == "All",
        grace_seconds=grace if grace is not None else number(query, "gracePeriodSeconds"),
        propagation=propagation,
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
    )


def _resource_version(query: Query) -> int | None:
    text = query.get("resourceVersion")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        wrong = status.invalid("resourceVersion", text, f'strconv.ParseUint: parsing "{text}": invalid syntax')
        raise status.bad_request(f"invalid resource version: {wrong}") from None


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


def _raw(body: bytes, code: int = 200, warnings: Iterable[str] = (), *, content_type: str = _JSON) -> web.Response:
    response = web.Response(body=body, status=code, headers={"Content-Type": content_type})
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def _json(body: Object, code: int = 200) -> web.Response:
    return _raw(orjson.dumps(body), code)


def _failure(error: ApiError) -> web.Response:
    response = _json(error.body(), error.code)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _no_such_path() -> web.Response:
    return web.Response(text="404 page not found\n", status=404)
