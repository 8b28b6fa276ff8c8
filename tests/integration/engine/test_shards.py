"""Engines of two shards side by side: each knows and acts on its own namespaces, and on no others."""

from __future__ import annotations

import pytest

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import NAMESPACES, RATE_LIMITS, RUNS
from hatchet_operator.decisions.shards import shard_of
from hatchet_operator.errors import NotReady
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.test_rate_limits import (
    HOURLY,
    complete_all,
    connect_limited,
    create_runs,
    out_of,
    rate_limit,
)
from tests.integration.engine.world import NAMESPACE, connect, started, until
from tests.integration.inprocess import make_run

SHARDS = 2
KEY = "k" * 64
OURS = shard_of(NAMESPACE, SHARDS)
OTHER = next(name for name in map("team-{}".format, range(100)) if shard_of(name, SHARDS) != OURS)


@pytest.fixture(autouse=True)
async def other_namespace(api: Api) -> None:
    await api.create(NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHER}})


async def create(api: Api, namespace: str, name: str) -> None:
    run = make_run(name, "flow")
    run["metadata"]["namespace"] = namespace
    await api.create(RUNS, namespace, run)


async def test_each_knows_and_gives_out_the_runs_of_its_namespaces(server: ApiServer, api: Api) -> None:
    await create(api, NAMESPACE, "early")
    await create(api, OTHER, "early")
    async with (
        started(server, shards=SHARDS, shard=OURS) as ours,
        started(server, shards=SHARDS, shard=1 - OURS) as theirs,
    ):
        worker, _ = await connect(ours, "flow")
        other, _ = await connect(theirs, "flow", namespace=OTHER)
        await create(api, NAMESPACE, "late")
        await create(api, OTHER, "late")
        await until(lambda: out_of(worker) == ["early", "late"] == out_of(other))
        for engine, namespace in ((ours, NAMESPACE), (theirs, OTHER)):
            assert {record.ref.namespace for record in engine.store} == {namespace}
            await engine.resync()
            assert {ref.namespace for ref in engine.workflows.known()} == {namespace}


async def test_a_worker_that_another_shard_knows_is_not_awaited(server: ApiServer, api: Api) -> None:
    async with started(server, shards=SHARDS, shard=1 - OURS) as theirs:
        await connect(theirs, "flow", namespace=OTHER)
    async with started(server, shards=SHARDS, shard=OURS) as ours:
        assert not ours.registry.rejoin.is_waiting
    async with started(server, shards=SHARDS, shard=1 - OURS) as theirs:
        assert theirs.registry.rejoin.is_waiting


async def test_who_calls_the_wrong_shard_is_told_the_right_one_and_may_try_again(server: ApiServer) -> None:
    token = mint_token(Caller(namespace=OTHER, pool="main"), key=KEY, grpc_address="a:1")
    async with started(server, token_key=KEY, shards=SHARDS, shard=OURS) as ours:
        with pytest.raises(
            NotReady, match=f"namespace {OTHER} is in shard {1 - OURS}, and this is the address of shard"
        ):
            await ours.callers.find(token)
    async with started(server, token_key=KEY, shards=SHARDS, shard=1 - OURS) as theirs:
        assert (await theirs.callers.find(token)).namespace == OTHER


@pytest.mark.parametrize("before", [1, 4])
async def test_what_a_limit_has_reserved_counts_under_another_number_of_shards(
    server: ApiServer, api: Api, before: int
) -> None:
    await api.create(RATE_LIMITS, NAMESPACE, rate_limit("api", limit=3, window="1h"))
    shard = shard_of(NAMESPACE, before) if before > 1 else None
    async with started(server, shards=before, shard=shard) as engine:
        worker, _ = await connect_limited(engine, HOURLY)
        await create_runs(engine, api, "a")
        await until(lambda: out_of(worker) == ["a"])
        await complete_all(engine, worker)
        await engine.ledger.close()
    async with started(server, shards=SHARDS, shard=OURS) as engine:
        bucket = engine.buckets.get((NAMESPACE, "api"))
        assert bucket is not None
        assert bucket.used(engine.buckets.now()) == 1
