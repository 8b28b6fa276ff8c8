"""Rate limits with real workers: counted in their own log, with an operator that is killed or replaced meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import yaml

from hatchet_operator.cluster.kinds import RATE_LIMITS, RUNS
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_sdk import ClientConfig, Hatchet, RateLimitDuration, RequestRefused
from tests.integration.harness import NAMESPACE, ROOT, Cluster, make_run, output_of, phase_of
from tests.kube.eventually import eventually

EXAMPLE = ROOT / "examples" / "rate_limits"
JITTER_SECONDS = 1.0  # between what the operator gives out and what its worker notes


def starts(cluster: Cluster) -> list[tuple[float, str]]:
    """Return when limited steps began, and what of, as their workers say."""
    file = cluster.directory / "limited"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return sorted((float(line.split()[0]), line.split()[1]) for line in lines if line.endswith("\n"))


def most_in_a_window(times: list[float], seconds: float) -> int:
    """Count as a client would who knows no operator: a window begins with the first start after the last one."""
    most = used = 0
    began = float("-inf")
    for at in times:
        if at >= began + seconds - JITTER_SECONDS:
            began, used = at, 0
        used += 1
        most = max(most, used)
    return most


async def create_limit(cluster: Cluster, *, limit: int, window: str) -> None:
    body = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "calls"}}
    await cluster.api.create(RATE_LIMITS, NAMESPACE, body | {"spec": {"limit": limit, "window": window}})


async def until_started(cluster: Cluster, count: int, *, within_seconds: float = 45) -> None:
    async def holds() -> bool:
        return len(starts(cluster)) >= count

    await eventually(holds, within_seconds=within_seconds)


@pytest.mark.parametrize(
    ("window", "seconds", "limit"),
    [pytest.param("5s", 5.0, 3, id="that is not written"), pytest.param("12s", 12.0, 6, id="that is written ahead")],
)
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "replaced"])
async def test_a_limit_is_not_exceeded_by_an_operator_that_is(
    cluster: Cluster, is_killed: bool, window: str, seconds: float, limit: int
) -> None:
    operator = await cluster.start_operator(rejoin=1)
    await create_limit(cluster, limit=limit, window=window)
    await cluster.start_worker(slots=1)
    names = [f"r{number}" for number in range(2 * limit)]
    for name in names:
        await cluster.create_run(name, "limited", seconds=0.1)
    await until_started(cluster, limit - 1)
    if is_killed:
        await cluster.crash_operator()
    else:
        await operator.end()
    await cluster.start_operator(rejoin=1)
    for name in names:
        assert phase_of(await cluster.finished(name)) == "Succeeded"
    times = [at for at, _ in starts(cluster)]
    assert len(times) >= len(names), "an attempt that was given out twice takes two units"
    assert most_in_a_window(times, seconds) <= limit
    assert times[-1] - times[0] >= seconds - JITTER_SECONDS


async def test_keys_units_and_limits_of_a_run_and_what_is_kept_holds_up_nobody(cluster: Cluster) -> None:
    await cluster.start_operator(waiting_told_after=0.2)
    await cluster.start_worker(slots=1)

    async def create(name: str, user: str, units: int) -> None:
        run: Json = make_run(name, "metered", {"user": user, "units": units})
        run["spec"]["additionalMetadata"] = {"limit": 5}
        await cluster.api.create(RUNS, NAMESPACE, run)

    await create("ada1", "ada", 3)
    await cluster.finished("ada1")
    await create("ada2", "ada", 3)
    await create("ada3", "ada", 2)
    await create("bob1", "bob", 5)
    await cluster.create_run("free", "child", a="1")
    for name in ("ada3", "bob1", "free"):
        assert phase_of(await cluster.finished(name)) == "Succeeded"

    async def says_why() -> bool:
        status = (await cluster.run("ada2"))["status"]
        return status.get("reason") == "WaitingForRateLimit" and "of which 5 are used" in status["message"]

    await eventually(says_why)
    assert Counter(user for _, user in starts(cluster)) == {"ada": 2, "bob": 1}
    await create("greedy", "eve", 6)

    async def says_that_it_never_goes() -> bool:
        message = (await cluster.run("greedy"))["status"].get("message") or ""
        return 'needs 6 units of rate limit "user eve", which has only 5 units per 1h' in message

    await eventually(says_that_it_never_goes)


async def test_a_program_sets_a_limit_and_sees_what_is_wrong_with_it(cluster: Cluster) -> None:
    await cluster.start_operator()
    config = ClientConfig(token=cluster.token(), host_port=cluster.grpc_address, tls_strategy="none")
    admin = Hatchet(config=config).admin
    await admin.aio.put_rate_limit("calls", 3, RateLimitDuration.HOUR)
    assert (await cluster.api.get(RATE_LIMITS, NAMESPACE, "calls"))["spec"] == {"limit": 3, "window": "1h"}
    await asyncio.to_thread(admin.put_rate_limit, "calls", 4, RateLimitDuration.MINUTE)
    assert (await cluster.api.get(RATE_LIMITS, NAMESPACE, "calls"))["spec"] == {"limit": 4, "window": "1m"}
    body = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "taken"}}
    await cluster.api.create(RATE_LIMITS, NAMESPACE, body | {"spec": {"key": "other", "limit": 1, "window": "1h"}})
    with pytest.raises(RequestRefused, match='the RateLimit object "taken" is there with another key'):
        await admin.aio.put_rate_limit("taken", 1)


async def test_the_example_calls_no_more_often_than_its_limit_allows(cluster: Cluster) -> None:
    await cluster.start_operator()
    for file, resource in (("limit.yaml", RATE_LIMITS), ("run.yaml", RUNS)):
        await cluster.api.create(resource, NAMESPACE, yaml.safe_load((EXAMPLE / file).read_text()))
    await cluster.start_worker_program("example", EXAMPLE / "worker.py", workflows=("survey", "ask"))
    asked_at = output_of(await cluster.finished("survey"), "ask_all")["asked_at"]
    assert len(asked_at) == 5
    assert most_in_a_window(asked_at, 2.0) <= 3
