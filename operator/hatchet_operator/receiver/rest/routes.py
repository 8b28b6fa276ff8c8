"""Which path of the REST API leads to which call, and what is said where none does.

Paths are those that Hatchet's clients have built in, below whatever path the server's URL has.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from hatchet_operator.engine.engine import Engine
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.receiver.requests import token_of
from hatchet_operator.receiver.rest.calls import Call, Unserved, error_answer
from hatchet_operator.receiver.rest.crons import Crons
from hatchet_operator.receiver.rest.runs import Runs
from hatchet_operator.receiver.rest.schedules import Schedules
from hatchet_operator.receiver.rest.workers import Workers
from hatchet_operator.receiver.rest.workflows import Workflows

PATH = "/{prefix:(?:.+/)?}api/v1/{path:.*}"
"""Of all of them; a proxy may put a path before it, and need not remove that."""
_VARIABLE = re.compile(r"\{([a-z]+)\}")
_PAGE = "docs/published-sdk.md says what is served"

Handler = Callable[[Call], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


_INSTEAD = (
    (r".*/logs", "what steps log is in their pods' logs: hatchet-operator logs RUN"),
    (r".*/crons(/.*)?", "crons are changed in code, or in spec.crons of the Workflow (docs/triggers.md)"),
    (r".*/scheduled/.*", "a scheduled run is changed with kubectl: spec.startAt of its WorkflowRun"),
    (r".*(events|webhooks)(/.*)?", "events are not kept, and their senders are WebhookSources (docs/triggers.md)"),
    (r".*/filters(/.*)?", "filters stand in code, or in spec.events of the Workflow (docs/triggers.md)"),
    (r".*/rate-limits(/.*)?", "rate limits are listed with kubectl get ratelimits (docs/rate-limits.md)"),
    (r".*durable-tasks(/.*)?", "this version has no durable tasks"),
    (r"workflows/[^/]+", "workflows are suspended and deleted with kubectl (spec.suspended)"),
    (r".*(metrics|task-stats|step-run-queue-metrics)(/.*)?", "Prometheus scrapes the operator (docs/metrics.md)"),
)
"""What to do instead of a call that is not served, by its path: the first that fits."""


class RestApi:
    """Hatchet's REST API, for Hatchet's Python clients.

    Args:
        engine: Answers.
        bounds: Of what it answers.
    """

    def __init__(self, engine: Engine, bounds: Bounds) -> None:
        self._callers = engine.callers
        runs, workflows = Runs(engine, bounds), Workflows(engine)
        workers, schedules, crons = Workers(engine), Schedules(engine), Crons(engine)
        self._routes = [
            _Route(method, re.compile(_VARIABLE.sub(r"(?P<\1>[^/]+)", path)), handler)
            for method, path, handler in (
                # before 1.0
                ("GET", "tenants/{tenant}/workflow-runs/{run}", runs.v0_get),
                ("GET", "tenants/{tenant}/workflows/runs", runs.v0_list),
                ("POST", "tenants/{tenant}/workflows/cancel", runs.v0_cancel),
                ("POST", "tenants/{tenant}/workflow-runs/replay", runs.v0_replay),
                ("POST", "workflows/{workflow}/trigger", runs.v0_trigger),
                # from 1.0 on
                ("GET", "stable/workflow-runs/{run}", runs.v1_get),
                ("GET", "stable/workflow-runs/{run}/status", runs.v1_status),
                ("GET", "stable/tasks/{task}", runs.v1_task),
                ("GET", "stable/tenants/{tenant}/workflow-runs", runs.v1_list),
                ("GET", "stable/tenants/{tenant}/workflow-runs/external-ids", runs.v1_ids),
                ("GET", "stable/tenants/{tenant}/task-metrics", runs.v1_counts),
                ("POST", "stable/tenants/{tenant}/tasks/cancel", runs.v1_cancel),
                ("POST", "stable/tenants/{tenant}/tasks/replay", runs.v1_replay),
                ("POST", "stable/tenants/{tenant}/workflow-runs/trigger", runs.v1_trigger),
                # both
                ("GET", "tenants/{tenant}/workflows", workflows.list),
                ("GET", "workflows/{workflow}", workflows.get),
                ("GET", "workflows/{workflow}/versions", workflows.version),
                ("GET", "tenants/{tenant}/worker", workers.list),
                ("GET", "workers/{worker}", workers.get),
                ("PATCH", "workers/{worker}", workers.update),
                ("GET", "tenants/{tenant}/queue-metrics", workers.queues),
                ("GET", "tenants/{tenant}/step-run-queue-metrics", workers.queues),
                ("POST", "tenants/{tenant}/workflows/{workflow}/scheduled", schedules.create),
                ("GET", "tenants/{tenant}/workflows/scheduled", schedules.list),
                ("GET", "tenants/{tenant}/workflows/scheduled/{run}", schedules.get),
                ("DELETE", "tenants/{tenant}/workflows/scheduled/{run}", schedules.delete),
                ("GET", "tenants/{tenant}/workflows/crons", crons.list),
                ("GET", "tenants/{tenant}/workflows/crons/{cron}", crons.get),
            )
        ]

    async def take(self, request: web.Request) -> web.Response:
        """Answer a request, whatever its path."""
        try:
            path = request.match_info["path"]
            caller = await self._callers.find(token_of(request))  # before anything is said about paths
            served = [(route, match) for route in self._routes if (match := route.pattern.fullmatch(path))]
            for route, match in served:
                if route.method == request.method:
                    call = Call(request=request, caller=caller, path=match.groupdict())
                    call.check_tenant()
                    return await route.handler(call)
            raise Unserved(_instead_of(path), tuple(route.method for route, _ in served))
        except Exception as error:  # noqa: BLE001  # the boundary to clients; the error is reported, and logged if it is ours
            return error_answer(error, request.path)


def _instead_of(path: str) -> str:
    what = f"this version of hatchet-operator does not serve /api/v1/{path[:200]}"
    for pattern, instead in _INSTEAD:
        if re.fullmatch(pattern, path):
            return f"{what}: {instead}; {_PAGE}"
    return f"{what}; {_PAGE}"
