"""The HTTP side: requests into operations, results into the answers that kopf, kubectl and our own informer expect.

    async with ApiServer() as url: …        or        url = await server.start(); …; await server.stop()

Runs in the event loop of its caller. Every write is one synchronous step of that loop, so a request is either done or
not when its connection breaks; the fault injector lives between doing and answering.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from hatchet_operator_dev.apiserver import access, builtin, crds, patches, pod_logs, status
from hatchet_operator_dev.apiserver.about import OPEN_PATHS, answer_about_server
from hatchet_operator_dev.apiserver.access import Authenticator, Authorizer
from hatchet_operator_dev.apiserver.answers import failure, form_for, json_answer, no_such_path, raw
from hatchet_operator_dev.apiserver.bodies import (
    MAX_BODY_BYTES,
    delete_options,
    make_request,
    offers,
    parse_json,
    parse_object,
    parse_yaml,
    verb_of,
    write_options,
)
from hatchet_operator_dev.apiserver.control import Control
from hatchet_operator_dev.apiserver.faults import Fault, FaultInjector, RequestFacts
from hatchet_operator_dev.apiserver.forms import JsonForm
from hatchet_operator_dev.apiserver.garbage import GarbageCollector
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.operations import Operations
from hatchet_operator_dev.apiserver.paging import Pages
from hatchet_operator_dev.apiserver.routing import Query, Target, flag, number, parse_query, parse_target
from hatchet_operator_dev.apiserver.scale import scale_of
from hatchet_operator_dev.apiserver.status import ApiError
from hatchet_operator_dev.apiserver.store import Change, Store
from hatchet_operator_dev.apiserver.tokens import ServiceAccountTokens
from hatchet_operator_dev.apiserver.watch_streams import WatchStreams
from hatchet_operator_dev.apiserver.written import WriteOptions

_ANSWERS_WITH_OBJECT = frozenset({"pods", "services", "serviceaccounts", "namespaces"})

_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as quick, where PyYAML was built with libyaml, as its wheels are: our CRDs are read at each start."""
_PATCH_TYPES = (patches.JSON_PATCH, patches.MERGE_PATCH, patches.STRATEGIC_PATCH, patches.APPLY_PATCH)


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
        self.requests: Counter[tuple[str, ...]] = Counter()  # fields: see control
        """Requests seen, by verb, resource, subresource and user agent."""
        self.tokens: dict[str, Object] = {}
        """Users by token, for TokenReview."""
        self.authorizer: Authorizer | None = None
        """Answers LocalSubjectAccessReviews; None: everybody may do everything."""
        self._account_tokens = ServiceAccountTokens(self.store)
        self._token = token
        self._authenticator = authenticator
        self._kept_logs = kept_logs
        self._collector = GarbageCollector(self.store, self.kinds, self.operations)
        self._collector_task: asyncio.Task[None] | None = None
        self._runner: web.ServerRunner | None = None
        self.url: str | None = None
        """Where it listens, or did last."""
        self._pages = Pages(self.store)
        self._watches = WatchStreams(self.store, self.faults, bookmark_seconds)
        self._control = Control(self.store, self.kinds, self.faults, self._watches, self.requests, self.tokens)
        self.store.observers.append(self._serve_definition)
        for kind in self.kinds:
            self.store.collection(kind.collection)
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0, ssl_context: ssl.SSLContext | None = None) -> str:
        """Listen; returns the base URL."""
        server = web.Server(self._handle, handler_cancellation=True, request_factory=make_request, access_log=None)
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
        self._watches.close()
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
            for document in yaml.load_all(path.read_text(), Loader=_SafeLoader)
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
            self._watches.close(f"{plural}.{group}")
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
                return await self._control.answer(request, path, parse_query(query_text))
            target = parse_target(path)
            if target is None:
                return answer_about_server(self.kinds, request, path)
            return await self._serve(request, target, parse_query(query_text))
        except ApiError as error:
            return failure(error)
        except DropConnection:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None
        except web.HTTPRequestEntityTooLarge:
            return failure(status.too_large(MAX_BODY_BYTES))

    def _is_authorized(self, request: web.BaseRequest, path: str) -> bool:
        if path in OPEN_PATHS:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())

    async def _serve(self, request: web.BaseRequest, target: Target, query: Query) -> web.StreamResponse:
        kind = self.kinds.find(target.group, target.version, target.plural)
        if kind is None or (target.namespace is not None and not kind.namespaced):
            if target.group in builtin.GROUPS:
                raise status.no_such_resource()
            return no_such_path()
        verb = verb_of(request.method, target, query)
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
            return await self._watches.serve(request, kind, target, query, facts)
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
        if not offers(kind, target, verb):
            raise status.no_such_resource() if target.subresource else status.method_not_allowed()
        body = await request.read() if verb not in ("get", "list") else None
        match verb:
            case "get":
                stored = self.operations.get(kind, namespace, target.name)
                if target.subresource == "scale":
                    return json_answer(scale_of(kind, stored))
                return raw(form_for(request, kind, query).one(stored))
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

    # --- lists ------------------------------------------------------------------------------------------------------

    def _list(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query) -> web.Response:
        form = form_for(request, kind, query)
        collection = self.store.collection(kind.collection)
        items, metadata = self._pages.page(collection, kind, target, query)
        return raw(form.many(items, metadata))

    # --- writes -----------------------------------------------------------------------------------------------------

    def _create(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes | None
    ) -> web.Response:
        given = parse_object(request, body)
        options = write_options(query)
        if target.subresource == "binding":
            node = (given.get("target") or {}).get("name", "")
            self.operations.bind_pod(kind, target.namespace or "", target.name, node)
            return json_answer(
                {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
            )
        if target.subresource == "token":
            account = self.operations.get(kind, target.namespace or "", target.name)
            return json_answer(self._account_tokens.issue(account, given), 201)
        if kind.plural == "tokenreviews":
            return json_answer(access.review_token(given, self._authenticate), 201)
        if kind.plural == "localsubjectaccessreviews":
            return json_answer(access.review_access(given, target.namespace or "", self.authorizer), 201)
        stored = self.operations.create(kind, target.namespace or "", given, options)
        return raw(form_for(request, kind, query).one(stored), 201, options.warnings)

    def _authenticate(self, token: str, audiences: list[str]) -> Any:
        known = self.tokens.get(token) or self._account_tokens.authenticate(token, audiences)
        if known is not None or self._authenticator is None:
            return known
        return self._authenticator(token, audiences)

    def _update(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes | None
    ) -> web.Response:
        given = parse_object(request, body)
        options = write_options(query)
        namespace = target.namespace or ""
        if target.subresource == "scale":
            stored = self.operations.replace_scale(kind, namespace, target.name, given, options)
            return json_answer(scale_of(kind, stored))
        stored = self.operations.replace(kind, namespace, target.name, given, options, subresource=target.subresource)
        return raw(form_for(request, kind, query).one(stored), 200, options.warnings)

    def _patch(self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes) -> web.Response:
        media_type = request.content_type
        if media_type not in _PATCH_TYPES:
            raise status.unsupported_media_type(_PATCH_TYPES)
        options = write_options(query)
        patch = parse_yaml(body) if media_type == patches.APPLY_PATCH else parse_json(body)
        namespace = target.namespace or ""
        if target.subresource == "scale":
            scale = scale_of(kind, self.operations.get(kind, namespace, target.name))
            patched = patches.merge_patch(scale, patch)
            stored = self.operations.replace_scale(kind, namespace, target.name, patched, options)
            return json_answer(scale_of(kind, stored))
        stored, created = self.operations.patch(
            kind, namespace, target.name, media_type, patch, options, subresource=target.subresource
        )
        return raw(form_for(request, kind, query).one(stored), 201 if created else 200, options.warnings)

    def _delete(self, kind: Kind, target: Target, query: Query, body: bytes | None) -> web.Response:
        deletion = self.operations.delete(kind, target.namespace or "", target.name, delete_options(query, body))
        if not deletion.gone or kind.resource in _ANSWERS_WITH_OBJECT:
            return raw(JsonForm(kind).one(deletion.stored))
        details = {"name": target.name, "kind": kind.plural, "uid": deletion.stored.uid}
        if kind.group:
            details["group"] = kind.group
        return json_answer(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    def _delete_collection(
        self, request: web.BaseRequest, kind: Kind, target: Target, query: Query, body: bytes | None
    ) -> web.Response:
        collection = self.store.collection(kind.collection)
        items, metadata = self._pages.page(collection, kind, target, query)
        options = delete_options(query, body)
        deleted = [
            self.operations.delete(kind, target.namespace or "", stored.obj["metadata"]["name"], options).stored
            for stored in items
        ]
        return raw(form_for(request, kind, query).many(deleted, metadata))

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


async def _suffer_before(fault: Fault) -> None:
    match fault.action:
        case "status":
            raise fault.error()
        case "delay":
            await asyncio.sleep(fault.seconds)
        case "drop":
            raise DropConnection
