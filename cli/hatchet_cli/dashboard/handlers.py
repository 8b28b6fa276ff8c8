"""What the page asks for: each request reads or changes with the user's rights, and is answered in JSON."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from hatchet_cli import acts
from hatchet_cli.dashboard.rights import may
from hatchet_cli.dashboard.rows import pod_row, run_row
from hatchet_cli.dashboard.signing_in import SESSION_COOKIE
from hatchet_cli.dashboard.streaming import log_messages, stream
from hatchet_cli.dashboard.viewers import VIEWER, SignInNeeded, TooMany
from hatchet_cli.place import CliError, Cluster
from hatchet_cli.reading import read_pools, read_run, read_tree, read_workflows
from hatchet_cli.tree import FailedStep, Failure, RunNode, find_failure
from hatchet_cli.why import explain
from hatchet_operator.cluster.kinds import EVENTS, NAMESPACES, PODS, RUNS, WORKFLOWS
from hatchet_operator.decisions.acts import Act
from hatchet_operator.errors import ApiError, NotFound, OperatorError, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import read_pod
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import Workflow
from hatchet_operator.run_acts.acts import act_on
from hatchet_operator.run_logs.reader import RunLogs

_MOST_NAMESPACES = 200


class NewRun(BaseModel):
    """What the form that starts a run sends."""

    workflow: str
    input: dict[str, Any] = {}
    metadata: dict[str, str] | None = None
    priority: Annotated[int, Field(ge=1, le=3)] | None = None
    start_at: Annotated[AwareDatetime | None, Field(alias="startAt")] = None


class Asked(BaseModel):
    """What is to be done to a run."""

    act: Act


class NewStart(BaseModel):
    """When a run that has not started is to start."""

    start_at: AwareDatetime = Field(alias="startAt")


class Suspension(BaseModel):
    """Whether a workflow's runs are to wait."""

    is_wanted: bool = Field(alias="isWanted")


class CronSuspension(Suspension):
    """Whether a cron is to start nothing."""

    schedule: str
    zone: str


class Handlers:
    """The requests of the page, each of the viewer whom a middleware found.

    Args:
        namespace: The one to begin with.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def routes(self) -> list[web.RouteDef]:
        namespace = "/api/namespaces/{namespace:[a-z0-9-]{1,63}}"
        run = f"{namespace}/runs/{{name}}"
        return [
            web.get("/api/session", self.session),
            web.get("/api/namespaces", self.namespaces),
            web.get(f"{namespace}/health", self.health),
            web.get(f"{namespace}/rows", self.rows),
            web.post(f"{namespace}/runs", self.start),
            web.get(run, self.run),
            web.delete(run, self.delete),
            web.post(f"{run}/start", self.move_start),
            web.get(f"{run}/why", self.why),
            web.get(f"{run}/events", self.events),
            web.get(f"{run}/logs", self.logs),
            web.post(f"{run}/acts", self.act),
            web.get(f"{namespace}/pools/{{name}}/pods", self.pods),
            web.get(f"{namespace}/workflows/{{name}}/input-schema", self.input_schema),
            web.post(f"{namespace}/workflows/{{name}}/suspended", self.suspend),
            web.post(f"{namespace}/workflows/{{name}}/crons/suspended", self.suspend_cron),
        ]

    # --- Reading

    async def session(self, request: web.Request) -> web.Response:
        """Say who looks, if the page is not the command of one person."""
        said = {
            "namespace": self._namespace,
            "user": request[VIEWER].user,
            "signsOut": SESSION_COOKIE in request.cookies,
        }
        return web.json_response(said)

    async def namespaces(self, request: web.Request) -> web.Response:
        """Return namespaces whose runs the viewer may list; none, where he may not list namespaces."""
        api = request[VIEWER].api
        runs = {"verb": "list", "group": RUNS.group, "resource": RUNS.plural}
        try:
            found, _ = await api.list_page(NAMESPACES, None, limit=_MOST_NAMESPACES)
        except (NotFound, Refused):
            return web.json_response([])
        names = [item["metadata"]["name"] for item in found]
        if not await may(api, None, runs):
            names = [name for name in names if await may(api, name, runs)]
        return web.json_response(names)

    async def health(self, request: web.Request) -> web.Response:
        """Say whether the API server answers, whatever the viewer may see: what is shown may be old otherwise."""
        with suppress(Refused):  # which the rows say themselves
            await request[VIEWER].api.list_page(RUNS, request.match_info["namespace"], limit=1)
        return web.json_response({"isFine": True})

    async def rows(self, request: web.Request) -> web.StreamResponse:
        async with request[VIEWER].feeds.listening(request.match_info["namespace"]) as feed:
            return await stream(request, feed.messages())

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
        """Send what the steps of a run say, line by line, until it has ended, or the viewer may read it no longer."""
        cluster = self._cluster(request)
        ref = ObjectRef(cluster.namespace, request.match_info["name"])
        children = request.query.get("children") == "true"

        def make_logs(write: Callable[[str], None]) -> RunLogs:
            return RunLogs(cluster.api, ref, write=write, children=children)

        async with request[VIEWER].feeds.listening(cluster.namespace) as feed:
            return await stream(request, log_messages(make_logs, until_refused=feed.until_lost("logs")))

    async def input_schema(self, request: web.Request) -> web.Response:
        """Return the JSON Schema of a workflow's input as it was registered: it is too large for a row."""
        cluster = self._cluster(request)
        item = await cluster.api.get(WORKFLOWS, cluster.namespace, request.match_info["name"])
        definition = Workflow.model_validate(item).status.definition
        return web.json_response({"schema": definition.input_schema if definition else None})

    async def pods(self, request: web.Request) -> web.Response:
        """Return the pods of a pool, those that are not well first."""
        cluster = self._cluster(request)
        selector = f"{labels.POOL}={request.match_info['name']}"
        items, _ = await cluster.api.list_all(PODS, cluster.namespace, label_selector=selector)
        found = [pod_row(read_pod(item)) for item in items]
        return web.json_response(sorted(found, key=lambda pod: (pod["isReady"], pod["name"])))

    # --- Changing

    async def start(self, request: web.Request) -> web.Response:
        wanted = NewRun.model_validate_json(await request.read())
        run = acts.make_run(
            wanted.workflow,
            json.dumps(wanted.input),
            metadata=wanted.metadata,
            priority=wanted.priority,
            start_at=wanted.start_at,
        )
        created = await acts.create(self._cluster(request), run)
        return web.json_response({"name": created["metadata"]["name"]}, status=HTTPStatus.CREATED)

    async def act(self, request: web.Request) -> web.Response:
        asked = Asked.model_validate_json(await request.read())
        ref = ObjectRef(request.match_info["namespace"], request.match_info["name"])
        done = await act_on(request[VIEWER].api, asked.act, ref)
        says = "; ".join(f"run {each.run.name} {each.verdict.says}" for each in done)
        if all(each.verdict.is_refused for each in done):
            return web.json_response({"error": says}, status=HTTPStatus.CONFLICT)
        return web.json_response({"says": says})

    async def move_start(self, request: web.Request) -> web.Response:
        wanted = NewStart.model_validate_json(await request.read())
        await acts.move_start(self._cluster(request), request.match_info["name"], wanted.start_at)
        return web.json_response({})

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a run as the page shows it: not if it has begun since."""
        await acts.delete_run(self._cluster(request), request.match_info["name"], version=request.query["version"])
        return web.json_response({})

    async def suspend(self, request: web.Request) -> web.Response:
        wanted = Suspension.model_validate_json(await request.read()).is_wanted
        await acts.suspend_workflow(self._cluster(request), request.match_info["name"], wanted=wanted)
        return web.json_response({})

    async def suspend_cron(self, request: web.Request) -> web.Response:
        asked = CronSuspension.model_validate_json(await request.read())
        await acts.suspend_cron(
            self._cluster(request),
            request.match_info["name"],
            schedule=asked.schedule,
            zone=asked.zone,
            wanted=asked.is_wanted,
        )
        return web.json_response({})

    # --- Helpers

    def _cluster(self, request: web.Request) -> Cluster:
        return Cluster(api=request[VIEWER].api, namespace=request.match_info["namespace"])


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors with ``{"error": sentence}``, for the page to show."""
    try:
        return await handler(request)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}" for each in error.errors())
        return web.json_response({"error": said}, status=HTTPStatus.BAD_REQUEST)
    except OperatorError as error:
        return web.json_response({"error": str(error)}, status=_status_of(error))


def _status_of(error: OperatorError) -> int:
    match error:
        case SignInNeeded():
            return HTTPStatus.UNAUTHORIZED
        case TooMany():
            return HTTPStatus.TOO_MANY_REQUESTS
        case ApiError(status=HTTPStatus.UNAUTHORIZED | 0):  # to us, or no answer: signing in to the page is no remedy
            return HTTPStatus.BAD_GATEWAY
        case ApiError():
            return error.status
        case CliError():
            return HTTPStatus.NOT_FOUND
        case _:
            return HTTPStatus.CONFLICT


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
