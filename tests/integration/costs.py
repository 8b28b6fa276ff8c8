"""What a child run costs, in counts that noise does not touch; ``python -m tests.integration.costs`` moves the ranges.

Four fan-outs of the real SDK: one after the other, where nothing is batched by chance; all at once; of light
children; and all at once on a real API server, for what it has to allocate and keep. Time is no count: a busy machine
makes none of these higher.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import hatchet_operator
from benchmarks.api_servers import read_gauge
from benchmarks.grpc_messages import count_messages
from benchmarks.processes import install_crds
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.resources import labels
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_sdk import ChildTriggerWorkflowOptions, Context, Hatchet
from tests.integration.inprocess import Instance, Surroundings, operator_at, running_operator
from tests.kube.real_api import BinariesMissingError, RealApi, count_requests, find_binaries

PATH = Path(__file__).with_name("costs.json")
CHILDREN = 100
_LONG = timedelta(minutes=1)
CALM: dict[str, Any] = {"running_after": _LONG, "children_every": _LONG, "waiting_told_after": _LONG}
"""Else a slow machine has writes of Running, of counts and of waiting, which come by the clock."""

Costs = dict[str, float]
"""By name, per child."""

_LEAST = 0.6
"""A range begins at so much of what was measured: a gain fails nothing, a measure that misses half of it does."""
_MOST = {"calls": 1.12, "messages": 1.05, "requests": 1.02, "KiB": 1.1, "bytes": 1.04}
"""And ends at so much, by the last word of a name."""
_LEAST_BATCHED = {"messages": 0.2}
_MOST_BATCHED = {"messages": 3.0, "calls": 1.15}
"""Where all is done at once, it is chance how much goes in one message; apart, it would be four a child."""
_SOURCES = str(Path(hatchet_operator.__file__).parent)

workflows = Hatchet()


@workflows.workflow()
class Parent:
    @workflows.step(timeout="2m")
    async def spawn(self, context: Context) -> dict[str, int]:
        async def one(number: int) -> None:
            child = await context.aio.spawn_workflow("Child", {"a": str(number)}, key=f"child{number}", options=options)
            await child.result()

        options: ChildTriggerWorkflowOptions = {"record": "result"} if context.workflow_input()["light"] else {}
        if context.workflow_input()["at_once"]:
            await asyncio.gather(*map(one, range(CHILDREN)))
        else:
            for number in range(CHILDREN):
                await one(number)
        return {"children": CHILDREN}


@workflows.workflow()
class Child:
    @workflows.step()
    async def process(self, context: Context) -> dict[str, str]:
        return {"status": "success " + context.workflow_input()["a"]}


async def measure_operator(*, at_once: bool, light: bool = False) -> Costs:
    """Return the operator's requests, messages and function calls, beside the embedded API server.

    Args:
        at_once: All children are spawned at once, and not one after the other.
        light: Of a child, only its result is recorded.
    """
    with count_messages() as messages:
        async with running_operator(**CALM, light_runs=light) as instance:
            await _run(instance, "warm-up", at_once=True)
            before, requests = messages.copy(), _requests(instance)
            with _count_calls() as calls:
                await _run(instance, "measured", at_once=at_once, light=light)
            requests, messages_since = _requests(instance) - requests, messages - before
    costs = {f"{name} requests": float(count) for name, count in requests.items() if count >= CHILDREN / 20}
    costs |= {"gRPC messages": float(messages_since.total()), "function calls": float(calls.total())}
    return {name: count / CHILDREN for name, count in costs.items()}


async def measure_api_server() -> Costs:
    """Return what a real API server allocates for a child, and the bytes of its object."""
    async with _real_instance() as (server, instance):
        await _run(instance, "warm-up", at_once=True)
        before = server.metrics()
        await _run(instance, "measured", at_once=True)
        after = server.metrics()
        parent = await instance.run("measured")
        (child, *_) = await instance.runs(f"{labels.PARENT_UID}={parent['metadata']['uid']}")
    allocated = "go_memstats_alloc_bytes_total"
    used = (read_gauge(after, allocated) or 0.0) - (read_gauge(before, allocated) or 0.0)
    counted = count_requests(after) - count_requests(before)
    writes = sum(
        n for kind, n in counted.items() if kind.verb in ("POST", "PUT", "PATCH") and kind.resource == RUNS.plural
    )
    return {
        "allocated KiB": used / 1024 / CHILDREN,
        "write requests": writes / CHILDREN,
        "object bytes": float(_size(child)),
        "managedFields bytes": float(_size(child["metadata"]["managedFields"])),
    }


@asynccontextmanager
async def _real_instance() -> AsyncIterator[tuple[RealApi, Instance]]:
    with (
        tempfile.TemporaryDirectory(prefix="hatchet-costs-") as directory,
        RealApi(Path(directory), unsafe_no_fsync=True) as server,
    ):
        endpoint = find_endpoint(server.kubeconfig)
        async with Api(endpoint, user_agent="test", may_write=always) as api:
            await install_crds(api)
            around = Surroundings()
            async with operator_at(endpoint, around, **CALM) as operator, AsyncExitStack() as stack:
                # its own API server is for what tests do to that, and is not started
                yield server, Instance(ApiServer(), server.url, api, operator, around, stack)


async def _run(instance: Instance, name: str, *, at_once: bool, light: bool = False) -> None:
    if name == "warm-up":
        await instance.work(Parent(), Child(), slots=CHILDREN)
    await instance.create_run(name, "parent", inputJson=json.dumps({"at_once": at_once, "light": light}))
    status = await instance.finished(name)
    assert status["phase"] == "Succeeded", status


def _requests(instance: Instance) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (verb, _, resource, subresource, _, user_agent), count in instance.server.requests.items():
        if user_agent == "hatchet-operator":
            counts[" ".join(filter(None, (verb, resource, subresource)))] += count
    return counts


@contextmanager
def _count_calls() -> Iterator[Counter[str]]:
    """Count calls of the operator's functions in this thread, and those of C functions that these make."""
    counts: Counter[str] = Counter()
    ours: dict[Any, bool] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_call"):
            code = frame.f_code
            if (is_ours := ours.get(code)) is None:
                is_ours = ours[code] = code.co_filename.startswith(_SOURCES)
            if is_ours:
                counts[event] += 1

    sys.setprofile(note)
    try:
        yield counts
    finally:
        sys.setprofile(None)


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":")).encode())


# --- The ranges


async def measure_all() -> dict[str, Costs]:
    """Measure what can be measured here."""
    costs = {
        "one after the other": await measure_operator(at_once=False),
        "all at once": await measure_operator(at_once=True),
        "light, all at once": await measure_operator(at_once=True, light=True),
    }
    try:
        find_binaries()
    except BinariesMissingError:
        return costs
    return costs | {"a real API server": await measure_api_server()}


def ranges() -> dict[str, dict[str, tuple[float, float]]]:
    """Return what a child may cost, as it stands in the repository."""
    stored = json.loads(PATH.read_text())
    return {where: {name: (least, most) for name, (least, most) in of.items()} for where, of in stored.items()}


def problems(where: str, costs: Costs) -> list[str]:
    """Return a sentence for each cost that is not in its range."""
    allowed = ranges()[where]
    said = []
    for name in sorted(costs.keys() | allowed.keys()):
        (least, most), cost = allowed.get(name, (0.0, 0.0)), costs.get(name, 0.0)
        if not least <= cost <= most:
            said.append(
                f"{where}, a child costs {cost:.3f} {name}, but {least} to {most} stand in {PATH.name}: if that is "
                'meant, "make costs" moves the range, and the commit says why'
            )
    return said


def widened(where: str, costs: Costs) -> dict[str, list[float]]:
    """Return the ranges around what was measured."""
    at_once = where.endswith("all at once")
    least, most = (_LEAST_BATCHED, _MOST | _MOST_BATCHED) if at_once else ({}, _MOST)
    units = {name: name.rpartition(" ")[2] for name in sorted(costs)}
    return {
        name: [round(costs[name] * least.get(unit, _LEAST), 3), round(costs[name] * most[unit] + 0.005, 3)]
        for name, unit in units.items()
    }


def main() -> None:
    logging.disable(logging.INFO)
    stored = json.loads(PATH.read_text()) if PATH.exists() else {}
    moved = {where: widened(where, costs) for where, costs in asyncio.run(measure_all()).items()}
    lines = [
        f" {json.dumps(where)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(of)}" for name, of in costs.items())
        + "\n }"
        for where, costs in (stored | moved).items()
    ]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    left = sorted(stored.keys() - moved.keys())
    sys.stdout.write(f"moved {PATH}" + (f"; not measured here, and left: {', '.join(left)}" if left else "") + "\n")


if __name__ == "__main__":
    main()
