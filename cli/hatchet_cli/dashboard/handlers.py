"""What the page asks for: each request reads or changes with the user's rights, and is answered in JSON."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, Field, ValidationError

from hatchet_cli import acts
from hatchet_cli.dashboard.feed import Feeds
from hatchet_cli.dashboard.rows import run_row
from hatchet_cli.place import CliError, Cluster
from hatchet_cli.reading import read_pools, read_run, read_tree, read_workflows
from hatchet_cli.tree import FailedStep, Failure, RunNode, find_failure
from hatchet_cli.why import explain
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import EVENTS, OWN_ACCESS_REVIEWS, RUNS
from hatchet_operator.decisions.acts import Act
from hatchet_operator.errors import ApiError, NotFound, OperatorError
from hatchet_operator.resources.base import GROUP, Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.run_acts.acts import act_on
from hatchet_operator.run_logs.reader import RunLogs

_HEARTBEAT_SECONDS = 15.0
_RIGHTS: Final[Mapping[str, Mapping[str, str]]] = {
    "start": {"verb": "create", "group": GROUP, "resource": "workflowruns"},
    "change": {"verb": "patch", "group": GROUP, "resource": "workflowruns"},
    "changeWorkflows": {"verb": "patch", "group": GROUP, "resource": "workflows"},
    "logs": {"verb": "get", "group": "", "resource": "pods", "subresource": "log"},
}
"""What buttons need, as attributes of an access review."""


class NewRun(BaseModel):
    """What the form that starts a run sends."""

    workflow: str
    input: dict[str, Any] = {}
    metadata: dict[str, str] | None = None
    priority: Annotated[int, Field(ge=1, le=3)] | None = None


class Asked(BaseModel):
    """What is to be done to a run."""

    act: Act


class Suspension(BaseModel):
    """Whether a workflow's runs are to wait."""

    is_wanted: bool = Field(alias="isWanted")


class Handlers:
    """The requests of the page.

    Args:
        api: The user's cluster.
        namespace: The one to begin with.
        feeds: Rows of namespaces.
    """

    def __init__(self, api: Api, namespace: str, feeds: Feeds) -> None:
        self._api = api
        self._namespace = namespace
        self._feeds = feeds

    def routes(self) -> list[web.RouteDef]:
        run = "/api/namespaces/{namespace}/runs/{name}"
        return [
            web.get("/api/session", self.session),
            web.get("/api/namespaces/{namespace}/health", self.health),
            web.get("/api/namespaces/{namespace}/rows", self.rows),
            web.get("/api/namespaces/{namespace}/rights", self.rights),
            web.post("/api/namespaces/{namespace}/runs", self.start),
            web.get(run, self.run),
            web.get(f"{run}/why", self.why),
            web.get(f"{run}/events", self.events),
            web.get(f"{run}/logs", self.logs),
            web.post(f"{run}/acts", self.act),
            web.post("/api/namespaces/{namespace}/workflows/{name}/suspended", self.suspend),
        ]

    # --- Reading

    async def session(self, request: web.Request) -> web.Response:
        return web.json_response({"namespace": self._namespace})

    async def health(self, request: web.Request) -> web.Response:
        """Say whether the API server answers, and lets the user see runs: what is shown may be old otherwise."""
        await self._api.list_page(RUNS, request.match_info["namespace"], limit=1)
        return web.json_response({"isFine": True})

    async def rights(self, request: web.Request) -> web.Response:
        """Say what the user may do in a namespace; buttons for the rest are not shown."""
        namespace = request.match_info["namespace"]
        allowed = await asyncio.gather(*(self._may(namespace, wanted) for wanted in _RIGHTS.values()))
        return web.json_response(dict(zip(_RIGHTS, allowed, strict=True)))

    async def rows(self, request: web.Request) -> web.StreamResponse:
        async with self._feeds.listening(request.match_info["namespace"]) as feed:
            return await _stream(request, feed.messages())

    async def run(self, request: web.Request) -> web.Response:
        item = await read_run(self._cluster(request), request.match_info["name"])
        item["metadata"].pop("managedFields", None)
        return web.json_response({"row": run_row(WorkflowRun.model_validate(item)), "object": item})

    async def why(self, request: web.Request) -> web.Response:
        """Say why a run waits, or what failed below it."""
        cluster = self._cluster(request)
        root = await read_tree(cluster, request.match_info["name"])
        if root.phase is Phase.FAILED:
            return web.json_response({"failure": _failure(find_failure(root))})
        if root.phase.is_final:
            return web.json_response({})
        explanation = explain(
            root,
            workflows=await read_workflows(cluster),
            pools=await read_pools(cluster),
            now=datetime.now(UTC),
        )
        findings = [{"words": finding.words, "runs": _names(finding.nodes)} for finding in explanation.findings]
        return web.json_response({"findings": findings, "around": list(explanation.around)})

    async def events(self, request: web.Request) -> web.Response:
        """Return the run's Kubernetes events, the last ones first."""
        cluster, uid = self._cluster(request), request.query.get("uid", "")
        found = [
            item
            async for page in cluster.api.list_pages(
                EVENTS, cluster.namespace, field_selector=f"involvedObject.uid={uid}"
            )
            for item in page.items
        ]
        shown = [_event(item) for item in found]
        return web.json_response(sorted(shown, key=lambda event: str(event["last"]), reverse=True))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Send what the steps of a run say, line by line, until it has ended."""
        cluster = self._cluster(request)
        return await _stream(
            request,
            _log_messages(
                cluster.api,
                ObjectRef(cluster.namespace, request.match_info["name"]),
                children=request.query.get("children") == "true",
            ),
        )

    # --- Changing

    async def start(self, request: web.Request) -> web.Response:
        wanted = NewRun.model_validate_json(await request.read())
        run = acts.make_run(
            wanted.workflow, json.dumps(wanted.input), metadata=wanted.metadata, priority=wanted.priority
        )
        created = await acts.create(self._cluster(request), run)
        return web.json_response({"name": created["metadata"]["name"]}, status=HTTPStatus.CREATED)

    async def act(self, request: web.Request) -> web.Response:
        asked = Asked.model_validate_json(await request.read())
        ref = ObjectRef(request.match_info["namespace"], request.match_info["name"])
        done = await act_on(self._api, asked.act, ref)
        says = "; ".join(f"run {each.run.name} {each.verdict.says}" for each in done)
        if all(each.verdict.is_refused for each in done):
            return web.json_response({"error": says}, status=HTTPStatus.CONFLICT)
        return web.json_response({"says": says})

    async def suspend(self, request: web.Request) -> web.Response:
        wanted = Suspension.model_validate_json(await request.read()).is_wanted
        await acts.suspend_workflow(self._cluster(request), request.match_info["name"], wanted=wanted)
        return web.json_response({})

    # --- Helpers

    def _cluster(self, request: web.Request) -> Cluster:
        return Cluster(api=self._api, namespace=request.match_info["namespace"])

    async def _may(self, namespace: str, wanted: Mapping[str, str]) -> bool:
        review: Json = {
            "apiVersion": OWN_ACCESS_REVIEWS.api_version,
            "kind": OWN_ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": {"namespace": namespace, **wanted}},
        }
        try:
            answer = await self._api.create(OWN_ACCESS_REVIEWS, None, review)
        except NotFound:  # the embedded API server of "dev", where everybody may do everything
            return True
        allowed: bool = answer["status"]["allowed"]
        return allowed


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors with ``{"error": sentence}``, for the page to show."""
    try:
        return await handler(request)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}" for each in error.errors())
        return web.json_response({"error": said}, status=HTTPStatus.BAD_REQUEST)
    except ApiError as error:
        status = error.status or HTTPStatus.BAD_GATEWAY
        return web.json_response({"error": str(error)}, status=status)
    except OperatorError as error:
        status = HTTPStatus.NOT_FOUND if isinstance(error, CliError) else HTTPStatus.CONFLICT
        return web.json_response({"error": str(error)}, status=status)


async def _stream(request: web.Request, messages: AsyncIterator[Json]) -> web.StreamResponse:
    """Send messages as server-sent events, with a comment now and then so that a dead connection is noticed."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    iterator = aiter(messages)
    upcoming = asyncio.ensure_future(anext(iterator))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=_HEARTBEAT_SECONDS)
            if not done:
                await response.write(b":\n\n")
                continue
            try:
                message = upcoming.result()
            except StopAsyncIteration:
                await response.write(b"event: end\ndata: {}\n\n")
                return response
            await response.write(b"data: " + json.dumps(message, separators=(",", ":")).encode() + b"\n\n")
            upcoming = asyncio.ensure_future(anext(iterator))
    except ConnectionResetError:
        return response  # the tab was closed
    finally:
        upcoming.cancel()


async def _log_messages(api: Api, ref: ObjectRef, *, children: bool) -> AsyncIterator[Json]:
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    logs = RunLogs(api, ref, write=lines.put_nowait, children=children)
    following = asyncio.create_task(logs.follow(), name=f"log of {ref}")
    following.add_done_callback(lambda _: lines.put_nowait(None))
    try:
        while (line := await lines.get()) is not None:
            some = [line]
            while not lines.empty() and (more := lines.get_nowait()) is not None:
                some.append(more)
            yield {"lines": some}
            if following.done() and lines.empty():
                break
        if (error := following.exception()) is not None:
            yield {"problem": str(error)}
        for problem in filter(None, (*logs.problems, logs.silence)):
            yield {"problem": problem}
    finally:
        following.cancel()


def _names(nodes: tuple[RunNode, ...]) -> list[str]:
    return [node.run.metadata.name for node in nodes]


def _failure(failure: Failure) -> Json:
    return {
        "path": [_failed(step) for step in failure.path],
        "others": [_failed(step) for step in failure.others],
    }


def _failed(step: FailedStep) -> Json:
    return {
        "run": step.node.run.metadata.name,
        "workflow": step.node.workflow,
        "step": step.step,
        "attempt": step.attempt,
        "headline": step.error.headline,
        "text": step.error.words,
    }


def _event(event: Json) -> Json:
    last = event.get("lastTimestamp") or event.get("firstTimestamp") or event.get("eventTime")
    said = {name: event.get(name) for name in ("type", "reason", "message", "count")}
    return said | {"uid": event["metadata"]["uid"], "last": last}
