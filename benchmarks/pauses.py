"""What is done to all runs at once, and how long the operator's loop does nothing else meanwhile.

Each act waits until what it is about has really happened: a relist has read its pages, what expired is gone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from itertools import chain

from benchmarks.api_servers import CountingApi
from benchmarks.loop_lag import Lag
from benchmarks.processes import NAMESPACE
from benchmarks.watched_operator import WatchedOperator
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import POOLS, RUNS, WORKFLOWS
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition, WorkflowStatus
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.filling import fill, make_finished_runs
from tests.kube.real_api import RealApi

WORKFLOW = "parent"
"""Of the finished runs' roots."""

_LARGE = 5_000
_WORKFLOWS = 300
_PATIENCE_SECONDS = 1200.0
_POOL, _WAITING = "main", "waiting"
_CANCELLED: Json = {"spec": {"cancelled": True}}
_EXPIRED: Json = {"match": {"verb": "watch", "resource": RUNS.plural}, "action": "gone"}
_BAD_TEMPLATE: Json = {"spec": {"template": {"spec": {"tolerations": "none"}}}}
_GOOD_TEMPLATE: Json = {"spec": {"template": {"spec": {"tolerations": None}}}}


class Pauses:
    """Does one act after the other beside a running operator, and measures the longest pause in each.

    Args:
        operator: The operator, which has read everything.
        server: Its API server.
        api: For what people do.
        runs: How many finished runs there are.
        waiting: How many runs wait for a worker.
    """

    def __init__(self, operator: WatchedOperator, server: CountingApi, api: Api, *, runs: int, waiting: int) -> None:
        assert isinstance(server, EmbeddedApi | RealApi)
        self._operator = operator
        self._server = server
        self._counting: CountingApi = server
        self._api = api
        self._runs = runs
        self._large, self._tree = f"large-{runs}", f"waiting-{runs}"
        self._waiting = waiting
        self.lags: dict[str, Lag] = {}

    async def measure(self) -> dict[str, Lag]:
        """Return the longest pauses; in the end there are no finished runs left."""
        await self._prepare()
        if isinstance(self._server, EmbeddedApi):
            await self._act("a relist after a 410", self._relist())
        await self._act(f"a scrape of the metrics, {_WORKFLOWS} workflows", asyncio.to_thread(self._operator.scrape))
        await self._act("their workflow has another TTL", self._change(WORKFLOW, ttl="2h"))
        await self._act("their workflow is suspended", self._change(WORKFLOW, suspended=True))
        many = f"{self._waiting} wait"
        await self._act(f"their pool is in trouble, {many}", self._api.patch(POOLS, NAMESPACE, _POOL, _BAD_TEMPLATE))
        await self._act(f"its trouble is over, {many}", self._api.patch(POOLS, NAMESPACE, _POOL, _GOOD_TEMPLATE))
        await self._act(f"a workflow is suspended of which {many}", self._change(_WAITING, suspended=True))
        await self._act("and goes on", self._change(_WAITING, suspended=False))
        await self._act(f"a workflow of which {many} has another pool", self._change(_WAITING, pool="elsewhere"))
        await self._act(f"a parent of {self._waiting} that wait is cancelled", self._cancel())
        await self._act(f"a finished tree of {_LARGE} is deleted", self._delete())
        await self._act("all of them expire", self._expire())
        return self.lags

    async def _act(self, what: str, work: Awaitable[object]) -> None:
        began = time.monotonic()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await work
            await asyncio.sleep(1.0)
            await self._operator.until_idle()
        self.lags[what] = self._operator.longest_lag(began)

    def _change(self, name: str, **spec: object) -> Awaitable[object]:
        return self._api.patch(WORKFLOWS, NAMESPACE, name, {"spec": spec})

    # --- Acts that take a while

    async def _relist(self) -> None:
        assert isinstance(self._server, EmbeddedApi)
        before = await self._lists()
        await asyncio.to_thread(self._server.inject, _EXPIRED)
        await _until(lambda: self._has_listed(before))

    async def _has_listed(self, before: int) -> bool:
        return (await self._lists() - before) * 500 >= self._runs  # of one page at most

    async def _lists(self) -> int:
        counts = await asyncio.to_thread(self._counting.counts)
        return counts.requests[f"list {RUNS.plural}"]

    async def _cancel(self) -> None:
        await self._api.patch(RUNS, NAMESPACE, f"{self._tree}-000000", _CANCELLED)

        async def is_over() -> bool:
            root = await self._api.get(RUNS, NAMESPACE, f"{self._tree}-000000")
            children = root["status"].get("children") or {}
            return bool(children.get("cancelled") == self._waiting)

        await _until(is_over)

    async def _delete(self) -> None:
        await self._api.delete(RUNS, NAMESPACE, f"{self._large}-000000")

    async def _expire(self) -> None:
        await self._change(WORKFLOW, ttl="1s")
        await _until(self._are_gone)

    async def _are_gone(self) -> bool:
        items, _ = await self._api.list_page(
            RUNS, NAMESPACE, limit=1, label_selector=f"hatchet-operator.dev/workflow={WORKFLOW}"
        )
        return not items

    # --- What is there besides

    async def _prepare(self) -> None:
        """Have a large finished tree, a tree that waits for a pool without workers, and many workflows."""
        await self._api.create(POOLS, NAMESPACE, _pool())
        await self._register(_WAITING)
        names = [f"workflow-{number}" for number in range(_WORKFLOWS)]
        for name in names:
            await self._api.create(WORKFLOWS, NAMESPACE, make_workflow(name))
        counted = (run for name in names for run in make_finished_runs(1, children=0, name=name, workflow=name))
        await asyncio.to_thread(fill, self._server, chain(self._large_tree(), self._waiting_tree(), counted))
        await asyncio.sleep(1.0)
        await self._operator.until_idle()

    async def _register(self, name: str) -> None:
        """Have a workflow whose steps nobody offers, as if a worker had registered it."""
        await self._api.create(WORKFLOWS, NAMESPACE, make_workflow(name))
        hours = timedelta(hours=24)
        step = StepDefinition(name="process", action=f"{name}:process", timeout=hours)
        definition = WorkflowDefinition(name=name, steps=(step,), schedule_timeout=hours)
        status = WorkflowStatus(definition=definition, revision=f"{name}-0123456789abcdef", pool=_POOL)
        body = {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
        await self._api.patch(WORKFLOWS, NAMESPACE, name, body, subresource="status")

    def _large_tree(self) -> Iterator[Json]:
        return make_finished_runs(_LARGE + 1, children=_LARGE, name=self._large, workflow="large")

    def _waiting_tree(self) -> Iterator[Json]:
        count = self._waiting
        for run in make_finished_runs(
            count + 1, children=count, name=self._tree, workflow=_WAITING, child_workflow=_WAITING
        ):
            run["spec"].pop("onParentClose")  # they end with it
            yield run | {"status": {}}


def make_workflow(name: str) -> Json:
    return {"apiVersion": API_VERSION, "kind": WORKFLOWS.kind, "metadata": {"name": name}, "spec": {}}


def _pool() -> Json:
    template = {"spec": {"containers": [{"name": "worker", "image": "nowhere.example/worker:1"}]}}
    spec = {"minReplicas": 0, "maxReplicas": 1, "template": template}
    return {"apiVersion": API_VERSION, "kind": POOLS.kind, "metadata": {"name": _POOL}, "spec": spec}


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await holds():
            return
        await asyncio.sleep(0.5)
