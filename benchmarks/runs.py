"""Starts runs and waits for their ends, as whoever measures does."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from benchmarks.stage import BenchmarkFailed, Stage
from hatchet_operator.cluster.kinds import RUNS, Resource
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json

_FINAL = ("Succeeded", "Failed", "Cancelled")
_PATIENCE_SECONDS = 600.0


def make_run(workflow: str, given: Json) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": RUNS.kind,
        "metadata": {"name": f"{workflow}-{secrets.token_hex(5)}"},
        "spec": {"workflow": workflow, "inputJson": json.dumps(given)},
    }


async def run_once(stage: Stage, workflow: str, given: Json) -> Json:
    """Run a workflow once, and return the object when it has succeeded.

    Raises:
        BenchmarkFailed: It ended otherwise, or not in time.
    """
    run = await stage.api.create(RUNS, stage.namespace, make_run(workflow, given))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while run.get("status", {}).get("phase") not in _FINAL:
                run = await _next_state(stage, run)
    except TimeoutError:
        raise BenchmarkFailed(f"a run of {workflow} is not done in time:\n{stage.logs()}") from None
    if run["status"]["phase"] != "Succeeded":
        raise BenchmarkFailed(f"a run of {workflow} {run['status']['phase']}: {run['status'].get('message')}")
    return run


def output_of(run: Json, step: str) -> dict[str, Any]:
    output: dict[str, Any] = json.loads(run["status"]["steps"][step]["output"])
    return output


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


async def any_child(stage: Stage) -> Json:
    """Return a finished child, for the raw rate to make more like it."""
    parent = await run_once(stage, "parent", {"children": 20, "mode": "gather"})  # which warms everything up
    selector = f"{labels.PARENT_UID}={parent['metadata']['uid']}"
    children, _ = await stage.api.list_all(RUNS, stage.namespace, label_selector=selector)
    return children[0]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Seconds from the first create until all creates were answered, and until all objects had ended."""

    accepted: float
    all: float


async def end_all(stage: Stage, resource: Resource, bodies: list[Json], *, at_a_time: int) -> Ended:
    """Create runs or pods and watch until each has ended well.

    Raises:
        BenchmarkFailed: One ended otherwise, or not in time.
    """
    waiting = {body["metadata"]["name"] for body in bodies}
    begun = time.monotonic()
    room = asyncio.Semaphore(at_a_time)

    async def create(body: Json) -> None:
        async with room:
            await stage.api.create(resource, stage.namespace, body)

    async def create_all() -> float:
        await asyncio.gather(*map(create, bodies))
        return time.monotonic() - begun

    creating: asyncio.Task[float] | None = None
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            async for obj in _states(stage, resource):
                if obj is None:  # it is listening
                    creating = creating or asyncio.create_task(create_all())
                    continue
                phase = obj.get("status", {}).get("phase")
                if phase not in _FINAL or obj["metadata"]["name"] not in waiting:
                    continue
                if phase != "Succeeded":
                    raise BenchmarkFailed(f"{resource.kind} {obj['metadata']['name']} {phase}:\n{stage.logs()}")
                waiting.discard(obj["metadata"]["name"])
                if not waiting and creating is not None:
                    return Ended(accepted=await creating, all=time.monotonic() - begun)
    except TimeoutError:
        pass
    finally:
        if creating is not None:
            creating.cancel()
    raise BenchmarkFailed(f"{len(waiting)} {resource.plural} of {len(bodies)} did not end in time:\n{stage.logs()}")


async def _states(stage: Stage, resource: Resource) -> AsyncIterator[Json | None]:
    """Yield objects as they are and whenever they change; None: those that are there have all been told.

    The API server ends watches whenever it likes, above all those of whoever is slow to read.
    """
    while True:
        stage.check_alive()
        objects, version = await stage.api.list_all(resource, stage.namespace)
        for obj in objects:
            yield obj
        yield None
        async for kind, obj in stage.api.watch(resource, stage.namespace, resource_version=version):
            if kind != "BOOKMARK":
                yield obj
