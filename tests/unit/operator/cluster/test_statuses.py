"""A status is decided for what the object is, and written over nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import POOLS
from hatchet_operator.cluster.statuses import put_status, write_status
from hatchet_operator.errors import Conflict, NotFound
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workerpool import PoolStatus, WorkerPool
from hatchet_operator_dev.apiserver import ApiServer
from tests.unit.operator.cluster.busy_api import BusyApi

REF = ObjectRef("default", "main")
POOL: Json = {
    "apiVersion": API_VERSION,
    "kind": "WorkerPool",
    "metadata": {"name": REF.name},
    "spec": {"minReplicas": 1, "template": {"spec": {"containers": [{"name": "worker", "image": "etl:1"}]}}},
}


@pytest.fixture
async def api() -> AsyncIterator[BusyApi]:
    server = ApiServer()
    for crd in load_crds():
        server.create(crd)
    async with BusyApi(await server.start()) as api:
        yield api
    await server.stop()


@pytest.fixture
async def others(api: BusyApi) -> AsyncIterator[Api]:
    async with Api(Endpoint(server=api.endpoint.server), may_write=always) as others:
        yield others


class Watched:
    """A pool whose status is to say how many replicas its spec asks for."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.pool: WorkerPool | None = None
        self.decisions = 0

    def observe(self, obj: Json) -> None:
        self.pool = WorkerPool.model_validate(obj)

    def decide(self) -> tuple[WorkerPool, PoolStatus] | None:
        self.decisions += 1
        if self.pool is None or self.pool.status.replicas == self.pool.spec.min_replicas:
            return None
        return self.pool, self.pool.status.model_copy(update={"replicas": self.pool.spec.min_replicas})

    async def write(self) -> PoolStatus | None:
        written = await write_status(self.api, POOLS, REF, decide=self.decide, observe=self.observe)
        return written[1] if written else None


@pytest.fixture
async def watched(api: BusyApi, others: Api) -> Watched:
    watched = Watched(api)
    watched.observe(await others.create(POOLS, REF.namespace, POOL))
    return watched


async def there(api: Api) -> WorkerPool:
    return WorkerPool.model_validate(await api.get(POOLS, REF.namespace, REF.name))


async def test_what_is_decided_is_written_and_observed(api: BusyApi, watched: Watched) -> None:
    written = await watched.write()
    assert written is not None
    assert written.replicas == 1
    assert await there(api) == watched.pool
    assert await watched.write() is None, "nothing is left to write"
    assert api.tried == 1


async def test_after_a_conflict_it_is_decided_anew(api: BusyApi, others: Api, watched: Watched) -> None:
    patch = {"spec": {"minReplicas": 3}}
    api.ahead = [lambda: others.patch(POOLS, REF.namespace, REF.name, patch)]
    written = await watched.write()
    assert written is not None
    assert (written.replicas, (await there(api)).status.replicas) == (3, 3), "for the spec as it is now"
    assert watched.decisions == 2


async def test_after_a_conflict_there_may_be_nothing_to_write(api: BusyApi, others: Api, watched: Watched) -> None:
    """A leader that was deposed: the one after it has said so already."""
    patch = {"status": {"replicas": 1}}
    api.ahead = [lambda: others.patch(POOLS, REF.namespace, REF.name, patch, subresource="status")]
    assert await watched.write() is None
    assert api.tried == 1


async def test_an_object_that_is_gone_gets_no_status(api: BusyApi, others: Api, watched: Watched) -> None:
    api.ahead = [lambda: others.delete(POOLS, REF.namespace, REF.name)]
    with pytest.raises(NotFound):
        await watched.write()


async def test_an_object_that_was_made_anew_is_another(api: BusyApi, others: Api, watched: Watched) -> None:
    assert watched.pool is not None
    meta = watched.pool.metadata
    await others.delete(POOLS, REF.namespace, REF.name)
    await others.create(POOLS, REF.namespace, POOL)
    with pytest.raises(Conflict):
        await put_status(api, POOLS, REF, PoolStatus(replicas=7), uid=meta.uid, over=meta.resource_version)
    assert (await there(api)).status.replicas == 0


async def test_conflicts_one_after_another_are_waited_out(api: BusyApi, others: Api, watched: Watched) -> None:
    edits = iter(range(100))

    async def edit() -> None:
        await others.patch(POOLS, REF.namespace, REF.name, {"metadata": {"labels": {"edit": str(next(edits))}}})

    api.ahead = [edit] * 3
    begun_at = asyncio.get_running_loop().time()
    assert await watched.write() is not None
    assert api.tried == 4
    assert asyncio.get_running_loop().time() - begun_at >= 0.35, "at least half of 0.1, 0.2 and 0.4 s"
