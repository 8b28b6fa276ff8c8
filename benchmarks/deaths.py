"""How long until a death is told, on a cluster: ``python -m benchmarks.deaths --help``.

Each death is that of a pod of a run's own, so that no back-off of the kubelet lies between two of them. It begins with
what the step printed last, and it is told when a watcher of the run sees the lost worker in its status. An evicted
worker goes on through its Pod's grace period, of which the kubelet makes 2 s at least, so that its end is not the
answer to the eviction. One node, one clock. A node that is gone is played by workers that are stopped, all at one
moment: nothing is heard of either.
"""

import asyncio
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.stage import BenchmarkFailed
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Json, Kubectl, KubectlError, new_namespace
from tests.e2e.operators import installed_operator
from tests.e2e.pools import give_program, make_pool, until_available
from tests.e2e.slow_fan_out import make_run

_PROGRAM = Path(__file__).with_name("dying.py")
_KINDS = {"oom": "OOMKilled", "exit": "exit code 3", "kill": "exit code 137", "evict": "Eviction", "silent": "silent"}
_FOLLOWED = {"evict", "silent"}  # which do not end by themselves
_PATIENCE_SECONDS = 420
_START_SECONDS = 30
_STARTS_IN_SECONDS = 12
"""How long each further worker may take to start, where twenty share two busy cores."""
_ALIVE = re.compile(r"alive at ([0-9.]+)\n")


def main(
    each: Annotated[int, typer.Option(min=0, help="Deaths of each kind.")] = 20,
    silent: Annotated[int, typer.Option(min=0, help="Workers of which nothing is heard any more, all at once.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement here.")] = None,
) -> None:
    """Install the operator on the cluster of KUBECONFIG, have workers die, and remove it."""
    if "KUBECONFIG" not in os.environ:
        sys.exit("error: this needs KUBECONFIG; python -m tests.e2e.cluster makes a cluster")
    console = Console()
    console.print(describe_machine(), soft_wrap=True)
    try:
        with installed_operator(), new_namespace("deaths") as kubectl, _pool(kubectl):
            measured = asyncio.run(_measure(kubectl, each=each, silent=silent, json_file=json_file))
    except* (BenchmarkFailed, KubectlError) as errors:
        sys.exit("\n".join(f"error: {error}" for error in errors.exceptions))
    table = Table("death", "times", "median s", "longest s")
    for kind, seconds in measured.items():
        if seconds:
            table.add_row(kind, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    console.print(table)


@contextmanager
def _pool(kubectl: Kubectl) -> Iterator[None]:
    """Have a pool register the workflow, whose runs get pods of little memory."""
    resources = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "96Mi"}}
    spec = {"name": "Dies", "execution": "Pod", "podOverrides": {"resources": resources}}
    kubectl.apply_object(
        {"apiVersion": "hatchet-operator.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "dies"}, "spec": spec}
    )
    kubectl.apply_object(make_pool(give_program(kubectl, _PROGRAM), pod={"grace_seconds": 1}))
    until_available(kubectl)
    yield


async def _measure(kubectl: Kubectl, *, each: int, silent: int, json_file: Path | None) -> dict[str, list[float]]:
    """Have one worker die after the other, and then many fall silent at one moment, as with their node."""
    measured: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    endpoint = find_endpoint(Path(os.environ["KUBECONFIG"]))
    async with Api(endpoint, user_agent="benchmark", max_writes=10, may_write=always) as api:

        async def note(kind: str, number: int, *, at: float = 0.0) -> None:
            measured[kind].append(await _time_one(api, kubectl, kind, f"{kind}-{number}", at=at))
            if json_file is not None:
                await asyncio.to_thread(json_file.write_text, json.dumps(measured, indent=1))

        for number in range(each):
            for kind in _KINDS:
                if kind != "silent":
                    await note(kind, number)
        at = time.time() + _START_SECONDS + silent * _STARTS_IN_SECONDS
        async with asyncio.TaskGroup() as silence:
            for number in range(silent):
                silence.create_task(note("silent", number, at=at))
    return measured


async def _time_one(api: Api, kubectl: Kubectl, kind: str, name: str, *, at: float) -> float:
    created = await api.create(RUNS, kubectl.namespace, make_run("dies", {"kind": kind, "at": at}, name))
    telling = asyncio.create_task(_until_told(api, created))
    following = await asyncio.to_thread(_follow, kubectl, name) if kind in _FOLLOWED else None
    if kind == "evict":
        await asyncio.to_thread(_evict, kubectl, name)
    told_at, lost = await telling
    if _KINDS[kind] not in lost["why"]:
        raise BenchmarkFailed(f"run {name} was told of another death: {lost}")
    if following is None:
        log = await asyncio.to_thread(kubectl, "logs", name)
    else:
        log, _ = await asyncio.to_thread(following.communicate, timeout=_PATIENCE_SECONDS)
    printed = _ALIVE.findall(log)
    if not printed:
        raise BenchmarkFailed(f"run {name} did not print when it was alive")
    if kind == "silent" and float(printed[0]) >= at:
        raise BenchmarkFailed(f"run {name} began when the others were silent already: let them start more slowly")
    await api.delete(RUNS, kubectl.namespace, name)
    return told_at - float(printed[-1])


def _follow(kubectl: Kubectl, pod: str) -> "subprocess.Popen[str]":
    """Return what prints the log of a pod whose step has begun up to its end, after which there may be no such pod."""
    eventually(lambda: _ALIVE.search(kubectl("logs", pod, may_fail=True)))
    following = kubectl.popen("logs", "--follow", pod)
    assert following.stdout is not None
    select.select([following.stdout], [], [], _PATIENCE_SECONDS)  # it follows, before there is nothing to follow
    return following


async def _until_told(api: Api, run: Json) -> tuple[float, Json]:
    metadata = run["metadata"]
    watch = api.watch(
        RUNS,
        metadata["namespace"],
        resource_version=metadata["resourceVersion"],
        timeout_seconds=_PATIENCE_SECONDS,
    )
    async for _, obj in watch:
        if obj["metadata"].get("name") != metadata["name"]:
            continue
        lost = obj.get("status", {}).get("steps", {}).get("work", {}).get("lostWorkers")
        if lost:
            return time.time(), lost[0]
    raise BenchmarkFailed(f"run {metadata['name']} was told of no death within {_PATIENCE_SECONDS} s")


def _evict(kubectl: Kubectl, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(eviction))
        file.flush()
        path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
        kubectl("create", "--raw", path, "--filename", file.name)


if __name__ == "__main__":
    typer.run(main)
