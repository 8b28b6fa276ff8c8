"""Steps that go on though they timed out: their slots are given to nobody."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchet_operator.resources.names import ObjectRef
from hatchet_sdk import Context, Hatchet
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.inprocess import POOL, SECONDS, Instance, running_operator
from tests.integration.test_dev import read_until, running_dev

hatchet = Hatchet()


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator(cancel_grace=3) as instance:  # the worker is heard long before
        yield instance


async def test_what_a_worker_says_to_overrun_takes_a_slot_until_it_says_otherwise(world: Instance) -> None:
    worker = await world.scripted()
    await worker.put_workflow("w")
    await worker.start(slots=2)
    await worker.call(worker.dispatcher.Heartbeat, wire.HeartbeatRequest(worker_id=worker.id, overrunning=1))
    await worker.trigger("w")
    await worker.trigger("w")
    first = await worker.next()
    assert worker.has_nothing_new
    await worker.complete(first)
    second = await worker.next()
    await worker.trigger("w")
    await worker.call(worker.dispatcher.Heartbeat, wire.HeartbeatRequest(worker_id=worker.id))
    await worker.next()  # though the second goes on
    await worker.complete(second)


async def test_a_thread_that_ignores_its_timeout_is_not_joined_by_others(world: Instance) -> None:
    gates = [threading.Event() for _ in range(3)]
    running: list[int] = []
    most: list[int] = []

    @hatchet.workflow()
    class Stuck:
        @hatchet.step(timeout="1s", retries=2)
        def work(self, context: Context) -> None:
            running.append(1)
            most.append(len(running))
            gates[context.retry_count()].wait(SECONDS)
            running.pop()

    await world.work(Stuck(), slots=1)
    await world.create_run("r", "stuck")
    (worker,) = world.engine.registry.workers_of_pool(ObjectRef("default", POOL))
    await world.until(lambda: worker.overrunning > 0)
    assert most == [1]
    for gate in gates:
        gate.set()
    await world.finished("r")
    assert max(most) == 1


PROGRAM = """
import pathlib, threading, time
from hatchet_sdk import Context, WorkflowNotFound
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced

hatchet = paced(Pace(overrun=1.2))

@hatchet.workflow()
class Stuck:
    @hatchet.step(timeout="1s")
    def go(self, context: Context):
        time.sleep(600)

def run_it():
    while True:
        try:
            return hatchet.admin.run_workflow("Stuck", {})
        except WorkflowNotFound:
            time.sleep(0.05)

mark = pathlib.Path(__file__).with_name("was-here")
if not mark.exists():
    mark.touch()
    threading.Thread(target=run_it, daemon=True).start()
worker = hatchet.worker("w", max_overruns=1)
worker.register_workflow(Stuck())
worker.start()
"""


async def test_dev_starts_a_worker_anew_that_is_full_of_stuck_steps(tmp_path: Path) -> None:
    program = tmp_path / "worker.py"
    program.write_text(PROGRAM)
    async with running_dev(program) as process:
        await read_until(process, "is ready: Stuck")
        said = await read_until(process, "hatchet_sdk.errors.StepsOverran")
        assert (
            "steps that go on though they were cancelled or timed out as it may (max_overruns=1: go of stuck-" in said
        )
        await read_until(process, "is ready: Stuck")
