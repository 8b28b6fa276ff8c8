"""Runs one parent after the other on a stage, and measures each beside the raw rate of the same API server.

Absolute figures are the machine's; the ratio to what the API server could do at that moment is ours. So the raw rate
is measured again before and after every fan-out.
"""

import asyncio
import json
import secrets
from enum import StrEnum

from benchmarks.measurement import Measurement, Moment
from benchmarks.raw_rate import RawPairs, RawRate
from benchmarks.stage import BenchmarkFailed, Stage
from benchmarks.worker import now_us
from hatchet_operator.cluster.api import Json
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION

_WARM_UP_CHILDREN = 20
_COUNTED_AFTER_SECONDS = 0.5  # the API server counts a request when it has answered: watchers may know before
_PATIENCE_SECONDS = 60.0
_PATIENCE_SECONDS_PER_CHILD = 0.2
_FINAL = ("Succeeded", "Failed", "Cancelled")


class Mode(StrEnum):
    """How the parent spawns."""

    GATHER = "gather"  # all at once
    SERIAL = "serial"  # one after the other, as in examples/fanout


async def measure_fan_outs(stage: Stage, sizes: list[int], *, mode: Mode) -> list[Measurement]:
    """Run a parent for each size, in this order, after one that warms everything up."""
    warm_up = await run_parent(stage, _WARM_UP_CHILDREN, mode)
    child = await _any_child_of(stage, warm_up)
    async with RawPairs.like(stage.api, child, cpu_seconds=stage.api_cpu_seconds) as raw:
        before = await raw.best_rate()
        measurements = []
        for size in sizes:
            measurement = await _measure(stage, size, mode, raw, before)
            measurements.append(measurement)
            before = measurement.raw_after
        return measurements


async def _measure(stage: Stage, children: int, mode: Mode, raw: RawPairs, before: RawRate) -> Measurement:
    usage, requests = stage.usage(), stage.requests()  # in this order: to ask for the usage takes requests too
    parent = await run_parent(stage, children, mode)
    finished_us = now_us()
    await asyncio.sleep(_COUNTED_AFTER_SECONDS)
    requests_after, usage_after = stage.requests(), stage.usage()
    output = json.loads(parent["status"]["steps"]["spawn"]["output"])
    return Measurement(
        children=children,
        seconds=(finished_us - output["first_us"]) / 1e6,
        moments=[Moment(*each) for each in output["moments"]],
        requests=dict(requests_after - requests),
        cpu_seconds={
            name: seconds - usage.cpu_seconds.get(name, 0.0) for name, seconds in usage_after.cpu_seconds.items()
        },
        operator_bytes=usage_after.operator_bytes,
        operator_growth_bytes=usage_after.operator_bytes - usage.operator_bytes,
        raw_before=before,
        raw_after=await raw.best_rate(),
    )


async def run_parent(stage: Stage, children: int, mode: Mode) -> Json:
    """Run Parent once, and return the object when it has succeeded."""
    given = {"children": children, "mode": mode.value}
    patience = _PATIENCE_SECONDS + _PATIENCE_SECONDS_PER_CHILD * children
    return await run_until_succeeded(stage, "parent", given, within_seconds=patience)


async def run_until_succeeded(stage: Stage, workflow: str, given: Json, *, within_seconds: float) -> Json:
    """Run a workflow once, and return the object when it has succeeded.

    Raises:
        BenchmarkFailed: It ended otherwise, or not in time.
    """
    run = await stage.api.create(RUNS, stage.namespace, make_run(workflow, given))
    try:
        async with asyncio.timeout(within_seconds):
            while run.get("status", {}).get("phase") not in _FINAL:
                run = await _next_state(stage, run)
    except TimeoutError:
        raise BenchmarkFailed(f"a run of {workflow} is not done in time:\n{stage.logs()}") from None
    if run["status"]["phase"] != "Succeeded":
        raise BenchmarkFailed(f"a run of {workflow} {run['status']['phase']}: {run['status'].get('message')}")
    return run


def make_run(workflow: str, given: Json) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": RUNS.kind,
        "metadata": {"name": f"{workflow}-{secrets.token_hex(5)}"},
        "spec": {"workflow": workflow, "inputJson": json.dumps(given)},
    }


async def _next_state(stage: Stage, run: Json) -> Json:
    metadata = run["metadata"]
    async for kind, obj in stage.api.watch(
        RUNS,
        stage.namespace,
        resource_version=metadata["resourceVersion"],
        field_selector=f"metadata.name={metadata['name']}",
    ):
        stage.check_alive()
        if kind != "BOOKMARK":
            return obj
    return run


async def _any_child_of(stage: Stage, parent: Json) -> Json:
    selector = f"{labels.PARENT_UID}={parent['metadata']['uid']}"
    children, _ = await stage.api.list_all(RUNS, stage.namespace, label_selector=selector)
    return children[0]
