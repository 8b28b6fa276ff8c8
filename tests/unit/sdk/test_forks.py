"""Steps that fork, with real worker processes: nothing of the worker lives on in a child."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sdk.conftest import worker_process
from tests.unit.sdk.fake_operator import FakeOperator, eventually

PROGRAM = """
import asyncio, multiprocessing, os, signal, subprocess, sys, time
from hatchet_sdk import Context, Hatchet

# whoever starts a program in the background may have it ignore SIGINT
BEFORE = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
hatchet = Hatchet()


def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pool_that_times_out(context):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        try:
            pool.apply_async(time.sleep, (600,)).get(timeout=0.1)
        except multiprocessing.TimeoutError:
            return "timed out"


def terminated_process(context):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


def terminated_many_times(context):
    return sorted({terminated_process(context) for _ in range(40)})


def preexec(context):
    return subprocess.run(["sh", "-c", "kill -TERM $$; echo survived"], preexec_fn=os.setsid).returncode


def loop_of_its_own(context):
    process = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(asyncio.sleep(0)))
    process.start()
    process.join()
    return process.exitcode


def handlers_of_before(context):
    if (pid := os.fork()) == 0:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        as_before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == BEFORE
        os._exit(0 if as_before and not mask and signal.set_wakeup_fd(-1) == -1 else 1)
    return exit_code(pid)


def refused_calls(context):
    if (pid := os.fork()) == 0:
        try:
            hatchet.admin.run_workflow("W", {})
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    return exit_code(pid)


def comes_back(context):
    return exit_code(pid) if (pid := os.fork()) else "a second result"


def exits(context):
    return exit_code(pid) if (pid := os.fork()) else sys.exit(3)


def raises(context):
    return exit_code(pid) if (pid := os.fork()) else 1 / 0


def spawned(context):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(abs, (-3,))


def served(context):
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        return pool.apply(abs, (-3,))


CASES = [pool_that_times_out, terminated_many_times, preexec, loop_of_its_own, handlers_of_before, refused_calls,
         comes_back, exits, raises, spawned, served]


@hatchet.workflow()
class W:
    @hatchet.step(name="s")
    IS_ASYNC def s(self, context: Context):
        return {case.__name__: case(context) for case in CASES}


@hatchet.workflow()
class Awaits:
    @hatchet.step(name="s")
    async def s(self, context: Context):
        other = asyncio.create_task(self.write(os.getpid()))
        if (pid := os.fork()) == 0:
            await asyncio.sleep(0)
        await other
        return {"code": exit_code(pid)}

    async def write(self, home):
        if os.getpid() != home:
            print("another task went on in the child", file=sys.stderr, flush=True)


if __name__ == "__main__":
    worker = hatchet.worker("w")
    worker.register_workflow(W())
    worker.register_workflow(Awaits())
    worker.start()
"""

WANT = {
    "pool_that_times_out": "timed out",
    "terminated_many_times": [-15],
    "preexec": -15,
    "loop_of_its_own": 0,
    "handlers_of_before": 0,
    "refused_calls": 0,
    "comes_back": 0,
    "exits": 3,
    "raises": 1,
    "spawned": 3,
    "served": 3,
}


def write_program(folder: Path, *, is_async: bool) -> Path:
    script = folder / "worker.py"
    script.write_text(PROGRAM.replace("IS_ASYNC ", "async " if is_async else ""))
    return script


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_children_of_a_step_are_ordinary_processes(is_async: bool, tmp_path: Path, operator: FakeOperator) -> None:
    with worker_process(write_program(tmp_path, is_async=is_async), operator) as process:
        eventually(lambda: operator.streams)
        run = operator.finished(operator.run("W"))
        process.terminate()
        said, _ = process.communicate()  # which are joined in a pod
    assert run.errors == {}
    assert json.loads(run.outputs["s"]) == WANT
    assert "skipping fork() handlers" not in said
    assert "ZeroDivisionError" in said
    assert [name for name, _ in operator.calls].count("SendStepActionEvent") == 1


def test_a_child_that_awaits_in_the_workers_loop_ends(tmp_path: Path, operator: FakeOperator) -> None:
    with worker_process(write_program(tmp_path, is_async=True), operator) as process:
        eventually(lambda: operator.streams)
        run = operator.finished(operator.run("Awaits"))
        process.terminate()
        said, _ = process.communicate()
    assert run.outputs == {"s": '{"code":70}'}
    assert "was forked by an async step and awaits something of the worker's event loop" in said
    assert "another task went on in the child" not in said


def test_a_process_that_imported_grpc_first_is_warned_when_it_forks(operator: FakeOperator) -> None:
    program = f"""
import os
os.environ.pop("GRPC_ENABLE_FORK_SUPPORT", None)
import grpc, logging
from hatchet_sdk import ClientConfig, Hatchet
logging.basicConfig()
hatchet = Hatchet(config=ClientConfig(host_port={operator.address!r}, token="secret", tls_strategy="none"))
hatchet.admin.get_workflow_run("r")
for _ in range(2):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr.count("gRPC was imported before hatchet_sdk: children may die of SIGSEGV") == 1
