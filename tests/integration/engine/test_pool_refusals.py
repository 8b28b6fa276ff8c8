"""Pools that were refused a pod so often that the next try is far off, and what brings it forward; in virtual time."""

from __future__ import annotations

from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import POOLS, QUOTAS, RUNS
from hatchet_operator.engine.engine import Engine
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.test_pods import has_a_pod, make_pool
from tests.integration.engine.world import (
    NAMESPACE,
    POOL,
    SECONDS,
    loop_time,
    make_definition,
    make_run,
    observed,
    requests_to,
    running_loop,
    until,
)
from tests.kube.eventually import eventually

QUOTA = "exceeded quota: full, requested: pods=1, used: pods=1, limited: pods=1"
TRIES = 8
LONGEST_SECONDS = 30
"""A pause between tries, after so many of them: with jitter half of it at least."""
AT_ONCE_SECONDS = 5


async def be_refused_often(server: ApiServer, engine: Engine, api: Api, code: int, message: str, **spec: Any) -> None:
    match = {"verb": ["create"], "resource": ["pods"]}
    server.faults.install([{"match": match, "action": "status", "code": code, "message": message, "times": 0}])
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool(**spec)))
    for tries in range(1, TRIES + 1):
        await until(lambda tries=tries: asked(server) >= tries)  # type: ignore[misc]  # a default is the loop's value
        running_loop().skip(LONGEST_SECONDS if tries < TRIES else 0)
    await until(lambda: engine.pools.are_at_rest)


def asked(server: ApiServer) -> int:
    return server.faults.rules[0].fired


async def mended(engine: Engine, api: Api) -> float:
    """Return after how many seconds there was a pod."""
    began = loop_time()
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    return loop_time() - began


async def test_a_pool_is_not_refused_a_pod_at_each_change(server: ApiServer, engine: Engine, api: Api) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    await api.create(RUNS, NAMESPACE, make_run("r0"))
    await observed(engine, "r0")
    await be_refused_often(server, engine, api, 403, QUOTA, minReplicas=0, maxReplicas=1)
    before = asked(server)
    for number in range(1, 6):
        await api.create(RUNS, NAMESPACE, make_run(f"r{number}"))
        await observed(engine, f"r{number}")
        await until(lambda: engine.pools.are_at_rest)
    assert asked(server) == before


async def test_a_quota_that_is_raised_gives_the_pool_its_pod_at_once(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    await api.create(QUOTAS, NAMESPACE, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "0"}}})
    await be_refused_often(server, engine, api, 403, QUOTA)
    server.faults.clear()
    await api.patch(QUOTAS, NAMESPACE, "full", {"spec": {"hard": {"pods": "1"}}})
    assert await mended(engine, api) < AT_ONCE_SECONDS
    assert requests_to(server, "list", "resourcequotas") == 1, "and they are watched from there"


async def test_a_spec_that_was_mended_is_tried_at_once(server: ApiServer, engine: Engine, api: Api) -> None:
    await be_refused_often(server, engine, api, 422, "spec.containers[0].image: Required value")
    server.faults.clear()
    template = {"spec": {"containers": [{"name": "worker", "image": "etl:2"}]}}
    engine.pools.observe("MODIFIED", await api.patch(POOLS, NAMESPACE, POOL, {"spec": {"template": template}}))
    assert await mended(engine, api) < AT_ONCE_SECONDS
