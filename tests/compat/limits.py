"""What programs of any published SDK see of rate limits: how many of their steps begin, and why the others wait."""

from __future__ import annotations

from collections import Counter

from hatchet_operator.cluster.kinds import RATE_LIMITS
from tests.compat.published import PublishedCluster
from tests.integration.harness import NAMESPACE, phase_of
from tests.kube.eventually import eventually


def started(cluster: PublishedCluster) -> Counter[str]:
    file = cluster.directory / "limited"
    return Counter(line.split()[1] for line in file.read_text().splitlines()) if file.exists() else Counter()


async def assert_waits_for(cluster: PublishedCluster, run: str, *words: str) -> None:
    async def says_why() -> bool:
        status = (await cluster.run(run))["status"]
        message = status.get("message") or ""
        return status.get("reason") == "WaitingForRateLimit" and all(word in message for word in words)

    await eventually(says_why)


async def assert_counted(cluster: PublishedCluster) -> None:
    """Of three runs that need two of four units each, two go."""
    made = await cluster.api.get(RATE_LIMITS, NAMESPACE, "calls")
    assert made["spec"] == {"limit": 4, "window": "1h"}
    for name in ("counted1", "counted2"):
        await cluster.create_run(name, "counted")
        finished = await cluster.finished(name)
        assert phase_of(finished) == "Succeeded", finished["status"]
    await cluster.create_run("counted3", "counted")
    await assert_waits_for(cluster, "counted3", 'rate limit "calls" has 4 units per 1h, of which 4 are used')
    assert started(cluster)["calls"] == 2


async def assert_measured(cluster: PublishedCluster) -> None:
    """Keys, units and limits are made of the input."""
    for name, user, units in (("ada1", "ada", 3), ("ada2", "ada", 2), ("bob1", "bob", 5)):
        await cluster.create_run(name, "measured", user=user, units=units, limit=5)
        finished = await cluster.finished(name)
        assert phase_of(finished) == "Succeeded", finished["status"]
    await cluster.create_run("ada3", "measured", user="ada", units=1, limit=5)
    await assert_waits_for(cluster, "ada3", 'rate limit "ada" has 5 units per 1h, of which 5 are used')
    await cluster.create_run("fraction", "measured", user="ada", units=0.5, limit=5)
    failed = (await cluster.finished("fraction"))["status"]
    assert failed["reason"] == "InvalidRateLimit"
    assert "yields 0.5 from this run's input; expected a whole number from 0" in failed["message"]
    assert (started(cluster)["ada"], started(cluster)["bob"]) == (2, 1)
