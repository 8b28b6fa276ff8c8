"""What steps print and log is marked, whoever writes it and however; what nobody of a step wrote is not."""

import asyncio
import functools
import io
import json
import logging
import logging.handlers
import multiprocessing
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from hatchet_sdk._runner import output
from hatchet_sdk._runner.output import StepOutput
from hatchet_sdk.contracts.step_lines import StepLine, mark_of, read_line
from tests.unit.sdk.conftest import worker_process
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually


class Said:
    """Standard output and error as one file, from `begin` on: pytest has its own streams there before a test's call."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._undo: list[Callable[[], None]] = []

    def begin(self) -> None:
        for name, buffering in (("stdout", -1), ("stderr", 1)):
            stream = open(self._file, "a", encoding="utf-8", buffering=buffering)  # noqa: SIM115  # until `end`
            self._undo += [stream.close, functools.partial(setattr, sys, name, getattr(sys, name))]
            setattr(sys, name, stream)
        self._undo.append(output.install())

    def end(self) -> None:
        while self._undo:
            self._undo.pop()()

    def __call__(self) -> list[str]:
        """Return the lines up to now; what has no end is none."""
        return self._file.read_bytes().decode("utf-8", "replace").split("\n")[:-1]


@pytest.fixture
def said(tmp_path: Path) -> Iterator[Said]:
    said = Said(tmp_path / "said")
    yield said
    said.end()


@contextmanager
def one(step: str = "s", attempt: int = 1, *, run: str = "run", **paced: float) -> Iterator[StepOutput]:
    """Be a step. `Execution` does it in a copy of the context, which is left behind; here it is as if it had ended."""
    said = StepOutput(run, step, attempt, **paced)
    said.begin()
    try:
        yield said
    finally:
        said.end()


# Marks


@pytest.mark.parametrize(
    "step", ["load", "a b", "x]#1[", 'quo"te', "back\\slash", "per%cent", "ü", "new\nline", "\x1b"]
)
@pytest.mark.parametrize("text", ["", "said", " indented", '{"a": 1}', "{}", "[other/load#7] said"])
def test_a_mark_is_read_as_it_was_written(step: str, text: str, said: Said) -> None:
    said.begin()
    with one(step, 3, run="etl-7"):
        print(text)
    (line,) = said()
    assert line.isprintable(), "a name ends no line and moves no cursor"
    found = read_line(line)
    assert found is not None
    assert (found.run, found.step, found.attempt, found.before) == ("etl-7", step, 3, "")
    assert found.text == text or json.loads(found.text) == json.loads(text)


@pytest.mark.parametrize(
    "line", ["", "said", "[run] said", "[run/step] said", "[run/step#x] said", '{"hatchet": 1}', "[run/step#1]said"]
)
def test_a_line_of_no_step(line: str) -> None:
    assert read_line(line) is None


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("said", f"[run/s#1 trace={TRACE}] said", id="text"),
        pytest.param(
            '{"a": 1}', f'{{"hatchet": "run/s#1", "trace_id": "{TRACE}", "span_id": "{SPAN}", "a": 1}}', id="JSON"
        ),
        pytest.param(
            "{}", f'{{"hatchet": "run/s#1", "trace_id": "{TRACE}", "span_id": "{SPAN}"}}', id="an empty object"
        ),
    ],
)
def test_a_line_within_a_trace_names_it(text: str, want: str, said: Said) -> None:
    said.begin()
    with one() as step:
        step.traceparent = f"00-{TRACE}-{SPAN}-01"
        print(text)
    (line,) = said()
    assert line == want
    found = read_line(line)
    assert found is not None
    assert (found.text, found.trace_id) == (text, TRACE)
    assert found.span_id == (SPAN if text[0] == "{" else None)


def test_a_record_that_another_thread_writes_later_is_of_its_own_trace(said: Said) -> None:
    """As of a QueueListener."""
    said.begin()
    handler = logging.StreamHandler(sys.stdout)
    with one() as step:
        step.traceparent = f"00-{TRACE}-{SPAN}-01"
        record = logging.getLogRecordFactory()("app", logging.INFO, "", 0, "later", (), None)
    handler.handle(record)
    assert said() == [f"[run/s#1 trace={TRACE}] later"]


@pytest.mark.parametrize("traceparent", ["", "00-x-y-01", f"00-{TRACE}-01", f"00-{TRACE}]-{SPAN}-01"])
def test_what_is_no_trace_is_not_named(traceparent: str, said: Said) -> None:
    said.begin()
    with one() as step:
        step.traceparent = traceparent
        print("said")
    assert said() == ["[run/s#1] said"]


def test_what_something_else_left_on_the_line_is_kept_apart() -> None:
    want = StepLine(run="run", step="s", attempt=1, text="said", before="half a li")
    assert read_line(f"half a li[{mark_of('run', 's', 1)}] said") == want


# Printing


@pytest.mark.parametrize(
    ("parts", "want"),
    [
        pytest.param(["a\n"], ["a"], id="a line"),
        pytest.param(["a", " ", "b", "\n"], ["a b"], id="a line in parts, as print writes it"),
        pytest.param(["a\nb\n\nc\n"], ["a", "b", "", "c"], id="several lines at once"),
        pytest.param(["a\nb"], ["a", "b"], id="no newline at the step's end"),
        pytest.param(["a\r\nb\r\n"], ["a", "b"], id="the line's end of Windows"),
        pytest.param(["\r 1%", "\r 50%", "\r100%", "\n"], ["100%"], id="a progress bar"),
        pytest.param(["\r 1%", "\r 50%"], [" 50%"], id="a progress bar that was not finished"),
        pytest.param(["\r 1%", "\r     \r", "note\n", "\r 2%", "\n"], ["note", " 2%"], id="a note between, as tqdm's"),
        pytest.param(["50%\r", "99%\r", "\n"], ["99%"], id="returns at the end"),
        pytest.param(["50%\r", "     \r"], [], id="a bar that wipes itself away"),
        pytest.param(["x" * 200_000 + "\n"], ["x" * 200_000], id="a very long line"),
        pytest.param(["half \ud800\n"], ["half \\ud800"], id="a lone surrogate"),
        pytest.param(["a\x0bb\x0cc\u2028d\n"], ["a\x0bb\x0cc\u2028d"], id="what only Unicode takes for a line's end"),
    ],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_lines(parts: list[str], want: list[str], name: str, said: Said) -> None:
    said.begin()
    with one():
        for part in parts:
            assert getattr(sys, name).write(part) == len(part)
    assert said() == [f"[run/s#1] {line}" for line in want]


def test_a_line_without_an_end_is_not_kept_for_ever(said: Said) -> None:
    said.begin()
    with one():
        for _ in range(3):
            sys.stdout.write("x" * (output.LONGEST_PART // 2))
        assert len(said()) == 1, "it waits for no end of the step"


def test_a_progress_bar_is_seen_now_and_then(said: Said) -> None:
    said.begin()
    with one(redrawn_seconds=0.0):
        sys.stderr.write("\r 1%")
        sys.stderr.write("\r 2%")
        assert said()[-1] == "[run/s#1]  2%"


def test_what_no_step_writes_stays_as_it_is_and_in_its_place(said: Said) -> None:
    said.begin()
    print("before")  # not flushed
    with one():
        print("within")
    print("after", "\r", "glued", flush=True)
    assert said() == ["before", "[run/s#1] within", "after \r glued"]


def test_a_json_line_stays_one_json_object(said: Said) -> None:
    said.begin()
    with one():
        print('{"level": "info", "hatchet": "mine"}')
        print("{ }")
        print("{'level': 1}")
        print('{"level": }')
    lines = said()
    pairs = [("hatchet", "run/s#1"), ("level", "info"), ("hatchet", "mine")]
    assert json.loads(lines[0], object_pairs_hook=list) == pairs
    assert json.loads(lines[1]) == {"hatchet": "run/s#1"}
    assert lines[2:] == ["[run/s#1] {'level': 1}", '[run/s#1] {"level": }']


def test_a_stream_that_was_replaced_meanwhile_gets_its_own_text(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said.begin()
    mine = io.StringIO()
    with one():
        monkeypatch.setattr(sys, "stdout", mine)
        print("captured")
    assert mine.getvalue() == "captured\n"
    assert said() == []


def test_a_stream_of_the_programs_own_gets_each_line_with_its_mark_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, copy = Said(tmp_path / "said"), list[str]()

    class Tee:  # with neither flush() nor closed
        def write(self, text: str) -> int:
            copy.append(text)
            return sys.__stdout__.write(text)  # type: ignore[union-attr]  # there is one

        def fileno(self) -> int:
            return 1

    stream = open(tmp_path / "said", "a", encoding="utf-8", buffering=1)  # noqa: SIM115  # until the end
    monkeypatch.setattr(sys, "__stdout__", stream)
    monkeypatch.setattr(sys, "stdout", Tee())
    uninstall = output.install()
    with one():
        print("said")
    uninstall()
    stream.close()
    assert copy == ["[run/s#1] said\n"]
    assert below() == ["[run/s#1] said"]


# Who writes


def test_threads_and_tasks_of_a_step_are_of_the_step_and_nobody_else_is(said: Said) -> None:
    said.begin()
    pool = ThreadPoolExecutor(1)
    pool.submit(print, "nobody's").result()

    async def step(name: str) -> None:
        with one(name):
            await asyncio.gather(asyncio.to_thread(print, "to_thread"), asyncio.sleep(0))
            await asyncio.get_running_loop().run_in_executor(pool, print, "executor")
            thread = threading.Thread(target=print, args=("thread",))
            thread.start()
            thread.join()
            print("itself")

    async def both() -> None:
        await asyncio.gather(step("a"), step("b"))

    asyncio.run(both())
    pool.submit(print, "nobody's again", flush=True).result()
    pool.shutdown()
    lines = said()
    for name in ("a", "b"):
        mine = [line for line in lines if line.startswith(f"[run/{name}#1] ")]
        assert [line.partition("] ")[2] for line in mine] == ["to_thread", "executor", "thread", "itself"]
    assert [line for line in lines if not line.startswith("[")] == ["nobody's", "nobody's again"]


def test_a_thread_that_outlives_its_step_is_nobodys(said: Said) -> None:
    said.begin()
    go = threading.Event()

    def late() -> None:
        go.wait(PATIENCE_SECONDS)
        print("late", flush=True)

    with one():
        thread = threading.Thread(target=late)
        thread.start()
    go.set()
    thread.join()
    assert said() == ["late"]


def test_forty_steps_at_once_do_not_mix_their_lines(said: Said) -> None:
    said.begin()

    def step(number: int) -> None:
        with one(f"s{number}"):
            for count in range(100):
                print(number, count, "x" * 50)

    threads = [threading.Thread(target=step, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = said()
    for number in range(40):
        mine = [line for line in lines if line.startswith(f"[run/s{number}#1] ")]
        assert mine == [f"[run/s{number}#1] {number} {count} {'x' * 50}" for count in range(100)]
    assert len(lines) == 4000


def test_a_forked_process_is_of_its_step_and_writes_nothing_twice(said: Said) -> None:
    said.begin()
    with one():
        print("begun ", end="")
        child = multiprocessing.get_context("fork").Process(target=print, args=("in the fork",), kwargs={"end": ""})
        child.start()
        child.join(PATIENCE_SECONDS)
        print("and ended")
    assert child.exitcode == 0
    assert said() == ["[run/s#1] in the fork", "[run/s#1] begun and ended"]


# logging


def test_records_say_of_which_attempt_they_are(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    said.begin()
    with one(attempt=2):
        logging.error("in a step")
    logging.error("in none")
    names = ("hatchet_run", "hatchet_step", "hatchet_attempt")
    said_of = [tuple(vars(record)[name] for name in names) for record in caplog.records]
    assert said_of == [("run", "s", 2), (None, None, None)]


def test_a_record_that_waited_in_a_queue_is_its_steps(said: Said) -> None:
    said.begin()
    waiting: queue.SimpleQueue[object] = queue.SimpleQueue()
    logger = logging.Logger("app")
    logger.addHandler(logging.handlers.QueueHandler(waiting))
    listener = logging.handlers.QueueListener(waiting, logging.StreamHandler(sys.stderr))
    listener.start()
    with one():
        logger.warning("of the step")
    logger.warning("of nobody")
    listener.stop()
    assert said() == ["[run/s#1] of the step", "of nobody"]


def test_each_line_of_a_traceback_is_marked(said: Said) -> None:
    said.begin()
    logger = logging.Logger("app")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    with one():
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")
    assert all(line.startswith("[run/s#1] ") for line in said())
    assert said()[-1] == "[run/s#1] ValueError: no"


def test_nothing_is_left_in_a_process_whose_worker_has_ended() -> None:
    before = (threading.Thread.start, ThreadPoolExecutor.submit, logging.Handler.handle, logging.getLogRecordFactory())
    first, second = output.install(), output.install()
    first()
    with one():
        assert logging.getLogRecordFactory() is not before[3], "another worker is still there"
    second()
    assert before == (
        threading.Thread.start,
        ThreadPoolExecutor.submit,
        logging.Handler.handle,
        logging.getLogRecordFactory(),
    )
    assert {"write", "flush"}.isdisjoint(vars(sys.stdout))


# context.log

SET_UPS = {
    "basic": "logging.basicConfig(level=logging.WARNING, force=True)",
    "dict": "logging.config.dictConfig({'version': 1})",
    "disabled": "logging.disable(logging.CRITICAL)",
    "handlers": "logging.getLogger().handlers[:] = [logging.NullHandler()]",
    "stdout": "sys.stdout = io.StringIO()",
    "descriptor": "os.dup2(os.open(os.devnull, os.O_WRONLY), 1)",
    "closed": "sys.stdout = sys.__stdout__; sys.stdout.close()",
}

PROGRAM = """
import io, logging, logging.config, os, sys
from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()

@hatchet.workflow()
class W:
    @hatchet.step()
    def s(self, context: Context):
        exec(context.workflow_input()["set_up"])
        context.log("first\\nsecond")
        context.log({"any": 1})
        context.log("")

worker = hatchet.worker("w")
worker.register_workflow(W())
sys.stdout = io.StringIO()  # before the worker knows of it
worker.start()
"""


def test_no_set_up_of_the_program_hides_context_log(tmp_path: Path, operator: FakeOperator) -> None:
    script = tmp_path / "worker.py"
    script.write_text(PROGRAM)
    with worker_process(script, operator) as process:
        eventually(lambda: operator.streams)
        runs = {name: operator.finished(operator.run("W", set_up=set_up)) for name, set_up in SET_UPS.items()}
        process.terminate()
        stdout, _ = process.communicate(timeout=PATIENCE_SECONDS)
    lines = stdout.split("\n")
    for name, run in runs.items():
        assert run.phase == "Succeeded", (name, run.errors)
        mine = [line for line in lines if line.startswith(f"[{run.id}/s#1] ")]
        assert [line.partition("] ")[2] for line in mine] == ["first", "second", "{'any': 1}", ""], name
    assert operator.requests("PutLog") == [], "it is in a pod, whose log Kubernetes keeps"


ORDERED = """
import logging, os, sys
from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()

@hatchet.workflow()
class W:
    @hatchet.step()
    async def s(self, context: Context):
        for number in range(200):
            print("print", number)
            logging.info("logging %d", number)
            context.log(f"log {number}")
        os.write(2, b"\\xff from below\\n")
        return {}

worker = hatchet.worker("w")
worker.register_workflow(W())
worker.start()
"""


def test_in_a_pod_all_that_a_step_says_comes_in_order(tmp_path: Path, operator: FakeOperator) -> None:
    script = tmp_path / "worker.py"
    script.write_text(ORDERED)
    with worker_process(script, operator) as process:
        eventually(lambda: operator.streams)
        run = operator.finished(operator.run("W"))
        process.terminate()
        assert process.stdout is not None
        data = process.stdout.buffer.read()  # type: ignore[attr-defined]  # of a text stream
    found = [line for text in data.decode("utf-8", "replace").split("\n") if (line := read_line(text)) is not None]
    assert {line.run for line in found} == {run.id}
    assert [" ".join(line.text.split(" ")[-2:]) for line in found] == [
        f"{how} {number}" for number in range(200) for how in ("print", "logging", "log")
    ]
    assert "\ufffd from below" in data.decode("utf-8", "replace")
