"""How fast one parent's children are, and what they cost: ``python -m benchmarks.fanout --help``.

Absolute figures are the machine's; the ratio to what the API server could do at that moment is ours. So the raw rate
is measured again before and after every fan-out.
"""

import asyncio
import json
import os
import platform
import secrets
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks.api_servers import ApiKind, CountingApi, make_api
from benchmarks.cluster import NAMESPACE, BenchmarkFailed, Cluster, start_cluster
from benchmarks.measurement import Measurement, Moment
from benchmarks.raw_rate import RawPairs, RawRate
from benchmarks.report import print_report
from benchmarks.worker import now_us
from hatchet_operator.cluster.api import Json
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from tests.kube.real_api import BinariesMissingError, ServerFailedError

_WARM_UP_CHILDREN = 20
_COUNTED_AFTER_SECONDS = 0.5  # the API server counts a request when it has answered: watchers may know before
_PATIENCE_SECONDS = 30.0
_PATIENCE_SECONDS_PER_CHILD = 0.2
_FINAL = ("Succeeded", "Failed", "Cancelled")


class Mode(StrEnum):
    """How the parent spawns."""

    GATHER = "gather"  # all at once
    SERIAL = "serial"  # one after the other, as in examples/fanout


def main(
    api: Annotated[ApiKind, typer.Option(help="real: etcd and kube-apiserver of $HATCHET_TEST_KUBE_BIN.")] = (
        ApiKind.EMBEDDED
    ),
    children: Annotated[str, typer.Option(help="Sizes of the fan-outs.")] = "10,100,1000",
    mode: Annotated[Mode, typer.Option(help="Spawn all at once, or one after the other.")] = Mode.GATHER,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, of 100 slots each.")] = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Measure each size so often; the medians are shown.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement here.")] = None,
) -> None:
    """Measure fan-outs from one parent, beside the raw rate of the same API server."""
    try:
        sizes = [int(size) for size in children.split(",")]
    except ValueError:
        raise typer.BadParameter(f'"{children}" is no list of numbers', param_hint="--children") from None
    console = Console()
    console.print(
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before the start; {api.value} API server, {workers} worker process(es), "
        f"spawns: {mode.value}"
    )
    try:
        with make_api(api) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measurements = runner.run(_measure_all(server, sizes, mode=mode, workers=workers, repeat=repeat))
    except (BenchmarkFailed, BinariesMissingError, ServerFailedError) as error:
        sys.exit(f"error: {error}")
    print_report(console, measurements)
    if json_file is not None:
        rows = [{"api": api.value, "mode": mode.value, **asdict(each)} for each in measurements]
        json_file.write_text(json.dumps(rows, indent=1))


async def _measure_all(
    server: CountingApi, sizes: list[int], *, mode: Mode, workers: int, repeat: int
) -> list[Measurement]:
    async with start_cluster(server, workers=workers) as cluster:
        warm_up = await _run_parent(cluster, _WARM_UP_CHILDREN, mode)
        child = await _any_child_of(cluster, warm_up)
        raw = await RawPairs.like(cluster.api, child, cpu_seconds=cluster.api_cpu_seconds)
        before = await raw.best_rate()
        measurements = []
        for size in sizes * repeat:
            measurement = await _measure(cluster, size, mode, raw, before)
            measurements.append(measurement)
            before = measurement.raw_after
        return measurements


async def _measure(cluster: Cluster, children: int, mode: Mode, raw: RawPairs, before: RawRate) -> Measurement:
    writes, usage = cluster.write_counts(), cluster.usage()
    parent = await _run_parent(cluster, children, mode)
    finished_us, usage_after = now_us(), cluster.usage()
    await asyncio.sleep(_COUNTED_AFTER_SECONDS)
    writes_after = cluster.write_counts()
    output = json.loads(parent["status"]["steps"]["spawn"]["output"])
    return Measurement(
        children=children,
        seconds=(finished_us - output["first_us"]) / 1e6,
        moments=[Moment(*each) for each in output["moments"]],
        writes=dict(writes_after - writes),
        cpu_seconds={
            name: seconds - usage.cpu_seconds.get(name, 0.0) for name, seconds in usage_after.cpu_seconds.items()
        },
        operator_growth_bytes=usage_after.operator_bytes - usage.operator_bytes,
        raw_before=before,
        raw_after=await raw.best_rate(),
    )


async def _run_parent(cluster: Cluster, children: int, mode: Mode) -> Json:
    """Create a run of Parent, and return the object when it is final."""
    body: Json = {
        "apiVersion": API_VERSION,
        "kind": RUNS.kind,
        "metadata": {"name": f"fanout-{children}-{secrets.token_hex(3)}"},
        "spec": {"workflow": "parent", "inputJson": json.dumps({"children": children, "mode": mode.value})},
    }
    parent = await cluster.api.create(RUNS, NAMESPACE, body)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS + _PATIENCE_SECONDS_PER_CHILD * children):
            while parent.get("status", {}).get("phase") not in _FINAL:
                parent = await _next_state(cluster, parent)
    except TimeoutError:
        raise BenchmarkFailed(f"{children} children are not done in time:\n{cluster.logs()}") from None
    if parent["status"]["phase"] != "Succeeded":
        raise BenchmarkFailed(f"the parent {parent['status']['phase']}: {parent['status'].get('message')}")
    return parent


async def _next_state(cluster: Cluster, run: Json) -> Json:
    metadata = run["metadata"]
    async for kind, obj in cluster.api.watch(
        RUNS,
        NAMESPACE,
        resource_version=metadata["resourceVersion"],
        field_selector=f"metadata.name={metadata['name']}",
    ):
        cluster.check_alive()
        if kind != "BOOKMARK":
            return obj
    return run


async def _any_child_of(cluster: Cluster, parent: Json) -> Json:
    selector = f"{labels.PARENT_UID}={parent['metadata']['uid']}"
    children, _ = await cluster.api.list_all(RUNS, NAMESPACE, label_selector=selector)
    return children[0]


if __name__ == "__main__":
    typer.run(main)
