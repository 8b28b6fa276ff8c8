"""Signals, with real worker processes."""

import signal
import time
from pathlib import Path

import pytest

from tests.unit.sdk.conftest import worker_process
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually

PROGRAM = """
import asyncio, pathlib, time
from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()

@hatchet.workflow()
class W:
    @hatchet.step()
    async def s(self, context: Context):
        pathlib.Path(__file__).with_name("started").touch()
        %s
        return {"finished": True}

worker = hatchet.worker("w")
worker.register_workflow(W())
worker.start()
print("start returned", flush=True)
"""


# a step goes on until the test has made the file "go"
AWAIT_GO = "while not pathlib.Path(__file__).with_name('go').exists(): await asyncio.sleep(0.01)"
BLOCK_UNTIL_GO = "while not pathlib.Path(__file__).with_name('go').exists(): time.sleep(0.01)"


def write_program(folder: Path, body: str) -> Path:
    script = folder / "worker.py"
    script.write_text(PROGRAM % body)
    return script


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("body", [AWAIT_GO, BLOCK_UNTIL_GO], ids=["awaiting", "blocking"])
def test_a_signal_lets_the_worker_finish(
    body: str, number: signal.Signals, tmp_path: Path, operator: FakeOperator
) -> None:
    with worker_process(write_program(tmp_path, body), operator) as process:
        eventually(lambda: operator.streams)
        (registered,) = operator.workers.values()
        assert (registered.pod_name, registered.pod_uid) == ("pod-1", "uid-1")
        run = operator.run("W")
        eventually((tmp_path / "started").exists)
        process.send_signal(number)
        eventually(lambda: operator.requests("Unsubscribe"))
        (tmp_path / "go").touch()
        assert operator.finished(run).outputs == {"s": '{"finished":true}'}
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, stdout + stderr
    assert stdout.endswith("start returned\n")
    assert "Traceback" not in stdout + stderr
    names = [name for name, _ in operator.calls]
    assert names.index("Unsubscribe") < names.index("SendStepActionEvent")
    ended = [request.has_ended for request in operator.requests("Unsubscribe")]
    assert ended == [False, True], "what else it was given goes to another once it has finished, and not before"


def test_a_result_is_delivered_though_the_operator_restarts_during_the_shutdown(
    tmp_path: Path, operator: FakeOperator
) -> None:
    with worker_process(write_program(tmp_path, AWAIT_GO), operator) as process:
        eventually(lambda: operator.streams)
        run = operator.run("W")
        eventually((tmp_path / "started").exists)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: operator.requests("Unsubscribe"))
        operator.stop()
        (tmp_path / "go").touch()
        operator.start()
        assert operator.finished(run).phase == "Succeeded"
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, operator: FakeOperator) -> None:
    with worker_process(write_program(tmp_path, "time.sleep(60)"), operator) as process:
        eventually(lambda: operator.streams)
        operator.run("W")
        eventually((tmp_path / "started").exists)
        process.send_signal(signal.SIGINT)
        eventually(lambda: operator.requests("Unsubscribe"))
        asked_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
        assert time.monotonic() - asked_at < 30, "the step would take twice as long"


def test_user_code_that_blocks_its_loop_does_not_stop_heartbeats(tmp_path: Path, operator: FakeOperator) -> None:
    with worker_process(write_program(tmp_path, "time.sleep(60)"), operator):
        eventually(lambda: operator.streams)
        operator.run("W")
        eventually((tmp_path / "started").exists)
        eventually(lambda: operator.requests("Heartbeat"))
