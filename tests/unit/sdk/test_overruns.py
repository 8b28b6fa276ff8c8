"""Steps that go on though they were cancelled: they count against the slots, and have a bound."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hatchet_sdk import AttemptCancelled, Context, Hatchet, StepsOverran
from hatchet_sdk._client.pace import Pace
from tests.unit.sdk.conftest import worker_process
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually
from tests.unit.sdk.test_worker import make_workflow

Working = Callable[..., None]


def told(operator: FakeOperator) -> list[int]:
    """What heartbeats said, each new figure once."""
    figures = [beat.overrunning for beat in operator.requests("Heartbeat")]
    return [figure for index, figure in enumerate(figures) if index == 0 or figure != figures[index - 1]]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_the_operator_is_told_of_steps_that_go_on_and_of_their_end(
    is_async: bool, working: Working, operator: FakeOperator
) -> None:
    go = threading.Event()
    started: list[Context] = []

    def ignore(context: Context) -> None:
        started.append(context)
        go.wait(PATIENCE_SECONDS)

    async def swallow(context: Context) -> None:
        started.append(context)
        while not go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    working(make_workflow(swallow if is_async else ignore))
    runs = [operator.run("W") for _ in range(2)]
    eventually(lambda: len(started) == 2)
    for run in runs:
        operator.cancel(run)
    eventually(lambda: told(operator)[-1:] == [2])
    go.set()
    eventually(lambda: told(operator)[-1:] == [0])


@pytest.mark.parametrize("pace", [Pace(heartbeat=0.05)], ids=["many heartbeats"])
def test_a_step_that_ends_when_told_is_none_of_them(working: Working, operator: FakeOperator) -> None:
    waiting: list[bool] = []

    def wait(context: Context) -> None:
        waiting.append(True)
        context.wait_until_stopping()

    working(make_workflow(wait))
    run = operator.run("W")
    eventually(lambda: waiting)
    operator.cancel(run)
    eventually(lambda: operator.requests("SendStepActionEvent"))
    beats = len(operator.requests("Heartbeat"))
    eventually(lambda: len(operator.requests("Heartbeat")) > beats + 20)
    assert told(operator) == [0]


def test_a_sync_step_that_waits_for_a_child_ends_with_its_grace(working: Working, operator: FakeOperator) -> None:
    ended: list[BaseException] = []
    go = threading.Event()

    def wait(context: Context) -> None:
        if context.parent_workflow_run_id():
            go.wait(PATIENCE_SECONDS)
            return
        ref = context.spawn_workflow("W", {})
        for _ in range(2):
            try:
                ref.sync_result(PATIENCE_SECONDS)
            except AttemptCancelled as error:
                ended.append(error)

    working(make_workflow(wait))
    run = operator.run("W")
    eventually(lambda: ("subscribed", "run-1") in operator.calls)
    operator.cancel(run)
    eventually(lambda: len(ended) == 2)
    assert str(ended[0]) == 'step "s" was cancelled and waits no more'
    go.set()


@pytest.mark.parametrize("pace", [Pace(overrun=1.2)], ids=["soon"])
def test_at_the_bound_the_worker_finishes_what_it_has_and_says_why_it_ends(
    hatchet: Hatchet, operator: FakeOperator
) -> None:
    gates = {name: threading.Event() for name in ("stuck", "good")}
    started: list[str] = []
    ended: list[BaseException] = []

    def wait(context: Context) -> dict[str, bool]:
        started.append(context.workflow_run_id())
        gates[context.workflow_input()["gate"]].wait(PATIENCE_SECONDS)
        return {"stopping": context.stopping}

    def start() -> None:
        try:
            worker.start()
        except StepsOverran as error:
            ended.append(error)

    worker = hatchet.worker("w", max_overruns=2)
    worker.register_workflow(make_workflow(wait))
    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    eventually(lambda: operator.streams)
    good, *stuck = [operator.run("W", gate=gate) for gate in ("good", "stuck", "stuck")]
    eventually(lambda: len(started) == 3)
    for run in stuck:
        assert not operator.requests("Unsubscribe")
        operator.cancel(run)
    eventually(lambda: operator.requests("Unsubscribe"))
    assert thread.is_alive()
    gates["good"].set()
    assert operator.finished(good).outputs == {"s": '{"stopping":true}'}
    thread.join(PATIENCE_SECONDS)
    gates["stuck"].set()
    (error,) = ended
    assert 'worker "w" has as many steps that go on though they were cancelled or timed out as it may' in str(error)
    assert "max_overruns=2" in str(error)
    assert all(f"s of {run}" in str(error) for run in stuck)


@pytest.mark.parametrize("pace", [Pace(overrun=1.2)], ids=["soon"])
def test_without_a_bound_it_is_the_slots_that_the_operator_gave(hatchet: Hatchet, operator: FakeOperator) -> None:
    operator.slots = 1
    go, started = threading.Event(), threading.Event()

    def wait(context: Context) -> None:
        started.set()
        go.wait(PATIENCE_SECONDS)

    worker = hatchet.worker("w", max_runs=50)
    worker.register_workflow(make_workflow(wait))

    def start() -> None:
        with pytest.raises(StepsOverran):
            worker.start()

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    eventually(lambda: operator.streams)
    run = operator.run("W")
    assert started.wait(PATIENCE_SECONDS)
    operator.cancel(run)
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    go.set()


PROGRAM = """
import concurrent.futures, pathlib, time
from hatchet_sdk import Context
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced

hatchet = paced(Pace(overrun=1.2, close=0.5))
pool = concurrent.futures.ThreadPoolExecutor()

@hatchet.workflow()
class W:
    @hatchet.step()
    def s(self, context: Context):
        pathlib.Path(__file__).with_name("started").touch()
        pool.submit(time.sleep, 600).result()  # which the interpreter would wait for at its end

worker = hatchet.worker("w", max_overruns=1)
worker.register_workflow(W())
worker.start()
"""


def test_the_process_ends_though_threads_hold_it(tmp_path: Path, operator: FakeOperator) -> None:
    script = tmp_path / "worker.py"
    script.write_text(PROGRAM)
    with worker_process(script, operator) as process:
        eventually(lambda: operator.streams)
        run = operator.run("W")
        eventually((tmp_path / "started").exists)
        operator.cancel(run)
        _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "hatchet_sdk.errors.StepsOverran: worker" in stderr


def test_a_bound_of_nothing_is_refused(hatchet: Hatchet) -> None:
    with pytest.raises(ValueError, match=r"max_overruns is 0 \(expected 1 or more\)"):
        hatchet.worker("w", max_overruns=0)
