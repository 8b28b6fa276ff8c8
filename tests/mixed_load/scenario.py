"""One mixed load from its beginning to its verdict."""

import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator.cluster.kinds import POOLS, WORKFLOWS
from hatchet_operator.resources.base import API_VERSION, Json
from tests.integration.harness import FINAL, NAMESPACE, POOL, Cluster, phase_of, write_light_crds
from tests.kube.eventually import eventually
from tests.mixed_load import rules
from tests.mixed_load.history import History, read_calls, read_pids
from tests.mixed_load.load import Load
from tests.mixed_load.trouble import Trouble

PROGRAM = Path(__file__).with_name("program.py")
WORKFLOWS_COUNT = 16
_WORKERS = 3
_DRAIN_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was done, and which promises were broken."""

    runs: Counter[tuple[str, str]]
    calls: int
    operators_killed: int
    workers_killed: int
    faults: int
    broken: list[str]


async def run_mixed_load(directory: Path, *, seconds: float, seed: int, operator_lives_seconds: float) -> Verdict:
    """Load a cluster of its own for so long, with trouble, wait until all is final, and judge."""
    store = directory / "payloads"
    store.mkdir()
    crds = write_light_crds(directory / "crds")
    async with Cluster(directory, crds=crds, payload_store=store.as_uri(), light_runs=True) as cluster:
        await cluster.start_operator()
        await cluster.start_node()
        await cluster.api.create(POOLS, NAMESPACE, _pool(directory))
        await eventually(lambda: _all_registered(cluster))
        load = Load(cluster, random.Random(seed))
        trouble = Trouble(cluster, random.Random(seed + 1), operator_lives_seconds=operator_lives_seconds)
        await load.begin()
        began, over = time.time(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(over))
            group.create_task(trouble.run(over))
            await asyncio.sleep(seconds)
            over.set()
        ended = time.time()
        await cluster.clear_faults()
        await asyncio.wait_for(load.finish(), _DRAIN_SECONDS)
        runs = await _drained(cluster)
        history = History(
            asked=load.asked,
            runs=runs,
            calls=read_calls(directory / "calls"),
            died_at=trouble.died_at,
            resumed_at=load.resumed_at,
            absences=trouble.absences,
            large=read_pids(directory / "large"),
            heard=load.heard,
            began=began,
            ended=ended,
        )
        return Verdict(
            runs=Counter((run["spec"]["workflow"], phase_of(run)) for run in runs),
            calls=len(history.calls),
            operators_killed=len(trouble.absences),
            workers_killed=len(trouble.died_at),
            faults=trouble.faults,
            broken=[f"{rule.__name__}: {said}" for rule in rules.ALL for said in rule(history)],
        )


async def _drained(cluster: Cluster) -> list[Json]:
    """Wait until every run is final, or will never be; return all."""
    runs: list[Json] = []

    async def is_over() -> bool:
        nonlocal runs
        runs = await cluster.runs()
        return all(phase_of(run) in FINAL for run in runs)

    with suppress(TimeoutError):  # the rules say which
        await eventually(is_over, within_seconds=_DRAIN_SECONDS)
    return runs


async def _all_registered(cluster: Cluster) -> bool:
    workflows, _ = await cluster.api.list_all(WORKFLOWS, NAMESPACE)
    return len([each for each in workflows if "definition" in each.get("status", {})]) == WORKFLOWS_COUNT


def _pool(directory: Path) -> Json:
    container = {
        "name": "worker",
        "image": "local",
        "command": [sys.executable, "-u", str(PROGRAM)],
        "env": [{"name": "HATCHET_TEST_DIRECTORY", "value": str(directory)}],
    }
    template = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 10}}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL},
        "spec": {"minReplicas": _WORKERS, "maxReplicas": _WORKERS, "slots": 25, "template": template},
    }
