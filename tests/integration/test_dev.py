"""``hatchet-operator dev`` as a person uses it: the real command, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import textwrap
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from hatchet_operator.dev.command import check_input
from hatchet_operator.dev.errors import DevError
from hatchet_operator.dev.one_run import format_json
from tests.integration.commands import running
from tests.kube.real_api import BinariesMissingError, find_binaries

EXAMPLES = Path(__file__).parents[2] / "examples"
FANOUT = EXAMPLES / "fanout" / "worker.py"
ENDS_WITHIN_SECONDS = 60.0

FAILING = """
    import asyncio
    from hatchet_sdk import Context, Hatchet

    hatchet = Hatchet()

    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context):
            print("about to spawn")
            refs = [await context.aio.spawn_workflow("Child", {"n": n}, key=f"child{n}") for n in range(3)]
            return {"results": await asyncio.gather(*(ref.result() for ref in refs))}

    @hatchet.workflow()
    class Child:
        @hatchet.step()
        async def process(self, context: Context):
            if context.workflow_input()["n"] == 1:
                raise ValueError("one is not allowed")
            return {}

    if __name__ == "__main__":
        worker = hatchet.worker("failing")
        worker.register_workflow(Parent())
        worker.register_workflow(Child())
        worker.start()
"""


@pytest.fixture(autouse=True)
def _state_directories_are_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of processes that are killed stay behind."""
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "state"))


@dataclass(frozen=True)
class Ended:
    exit_code: int
    stdout: str
    stderr: str


def running_dev(*arguments: str | Path) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return running("hatchet_operator", "dev", *arguments)


async def dev(*arguments: str | Path) -> Ended:
    async with running_dev(*arguments) as process, asyncio.timeout(ENDS_WITHIN_SECONDS):
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, stdout.decode(), stderr.decode())


def write(path: Path, program: str) -> Path:
    path.write_text(textwrap.dedent(program))
    return path


async def read_until(process: asyncio.subprocess.Process, wanted: str) -> str:
    """Return what the process writes to stderr, up to the line that holds the text."""
    assert process.stderr is not None
    seen = ""
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        while wanted not in seen.rpartition("\n")[0]:
            line = await process.stderr.readline()
            assert line, f"ended before it wrote {wanted!r}: {seen}"
            seen += line.decode()
    return seen


class Family:
    """A process with all its descendants, as they are now."""

    def __init__(self, pid: int) -> None:
        root = psutil.Process(pid)
        self.members = [root, *root.children(recursive=True)]

    async def until_gone(self) -> None:
        _, alive = await asyncio.to_thread(psutil.wait_procs, self.members, 20)
        assert [one.cmdline() for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


class TestRun:
    async def test_the_fan_out_prints_its_ten_results_and_its_tree(self) -> None:
        ended = await dev(FANOUT, "--run", "Parent")
        assert ended.exit_code == 0, ended.stderr
        want = [{"process": {"status": f"success {n}"}} for n in range(10)]
        assert json.loads(ended.stdout) == {"spawn": {"results": want}}
        tree = ended.stderr.splitlines()
        assert re.fullmatch(r"✔ Parent  parent-\w+  \S+", tree[0])
        assert [re.sub(r"  \S+s$", "", line) for line in tree[1:]] == [
            f"{'└' if n == 9 else '├'}── ✔ Child  child{n}" for n in range(10)
        ]

    async def test_json_output_is_quiet(self) -> None:
        ended = await dev(FANOUT, "--run", "parent", "--output", "json")
        assert (ended.exit_code, ended.stderr) == (0, "")
        assert len(json.loads(ended.stdout)["spawn"]["results"]) == 10

    @pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
    async def test_each_example_runs(self, example: str) -> None:
        spec = yaml.safe_load((EXAMPLES / example / "run.yaml").read_text())["spec"]
        given = json.dumps(spec.get("input", {}))
        ended = await dev(EXAMPLES / example / "worker.py", "--run", spec["workflow"], "--input", given)
        assert ended.exit_code == 0, ended.stderr
        assert json.loads(ended.stdout)

    async def test_input_and_environment_reach_the_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_SETTING", "mine")
        worker = write(
            tmp_path / "worker.py",
            """
            import os
            from hatchet_sdk import Context, Hatchet

            hatchet = Hatchet()

            @hatchet.workflow()
            class Echo:
                @hatchet.step()
                def echo(self, context: Context):
                    return {"input": context.workflow_input(), "setting": os.environ["MY_SETTING"], "in": os.getcwd()}

            worker = hatchet.worker("echo")
            worker.register_workflow(Echo())
            worker.start()
            """,
        )
        ended = await dev(worker, "--run", "Echo", "--input", '{"n": 12345678901234567890, "é": null}')
        assert json.loads(ended.stdout)["echo"] == {
            "input": {"n": 12345678901234567890, "é": None},
            "setting": "mine",
            "in": str(tmp_path),
        }

    @pytest.mark.parametrize("output", ["text", "json"])
    async def test_a_failure_shows_the_step_the_way_and_the_traceback(self, output: str, tmp_path: Path) -> None:
        ended = await dev(write(tmp_path / "worker.py", FAILING), "--run", "Parent", "--output", output)
        assert ended.exit_code == 1
        assert 'raise ValueError("one is not allowed")' in ended.stderr
        last = ended.stderr.splitlines()[-1]
        assert re.fullmatch(r"error: run parent-\w+ failed in step process of Child child1 \(parent-[\w-]+\)", last)
        if output == "json":
            error = json.loads(ended.stdout)["error"]
            assert (error["workflow"], error["step"], error["attempt"]) == ("Parent", "spawn", 1)
            assert error["cause"]["error"] == "ValueError: one is not allowed"
        else:
            assert ended.stdout == ""
            assert "│ about to spawn" in ended.stderr
            want = r"✘ Child  child1  \S+  parent-[\w-]+  process: ValueError: one is not allowed"
            assert re.search(want, ended.stderr)
            assert re.search(r"✘ Parent parent-\w+ failed in step spawn\n└─ ✘ Child child1 \(parent-", ended.stderr)

    async def test_a_tolerated_failure_is_not_blamed(self, tmp_path: Path) -> None:
        tolerant = FAILING.replace(
            'return {"results": await asyncio.gather(*(ref.result() for ref in refs))}',
            'await asyncio.gather(*(ref.result() for ref in refs), return_exceptions=True); {}["missing_key"]',
        )
        ended = await dev(write(tmp_path / "worker.py", tolerant), "--run", "Parent")
        assert re.search(r"✘ Parent parent-\w+ failed in step spawn\n\n  Traceback .*\n", ended.stderr)
        assert "\n  KeyError: 'missing_key'\n" in ended.stderr
        also = (
            r"\n1 run also failed, tolerated:\n  ✘ Child child1 \(parent-[\w-]+\) in step process: ValueError: one is"
        )
        assert re.search(also, ended.stderr)
        assert re.fullmatch(r"error: run parent-\w+ failed in step spawn of Parent \S+", ended.stderr.splitlines()[-1])

    @pytest.mark.parametrize(
        ("name", "program", "want_exit_code", "want"),
        [
            pytest.param(
                "worker.py",
                "import no_such_module",
                1,
                [
                    "ModuleNotFoundError: No module named 'no_such_module'",
                    "error: {worker} failed before it was registered (exit code 1)",
                ],
                id="a worker that raises at import",
            ),
            pytest.param(
                "worker.py",
                "def :",
                1,
                ["SyntaxError: invalid syntax", "error: {worker} failed before"],
                id="a worker that is no Python",
            ),
            pytest.param(
                "worker.py",
                "print('hello')",
                1,
                ["hello", "error: {worker} ended without registering a workflow; call worker.start()"],
                id="a worker that ends at once",
            ),
            pytest.param(
                "worker.py",
                FAILING,
                2,
                ['error: {worker} has no workflow "Parnt" (it registers: Child, Parent); did you mean "Parent"?'],
                id="an unknown workflow",
            ),
            pytest.param("other.py", "", 1, ["error: there is no file {worker}"], id="a file that is not there"),
        ],
    )
    async def test_what_is_wrong_is_said_at_once(
        self, name: str, program: str, want_exit_code: int, want: list[str], tmp_path: Path
    ) -> None:
        write(tmp_path / name, program)
        worker = tmp_path / "worker.py"
        ended = await dev(worker, "--run", "Parnt")
        assert (ended.exit_code, ended.stdout) == (want_exit_code, "")
        for text in want:
            assert text.format(worker=worker) in ended.stderr

    @pytest.mark.parametrize(("number", "want"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    async def test_an_interrupted_run_says_so_by_its_exit_code(
        self, number: signal.Signals, want: int, tmp_path: Path
    ) -> None:
        slow = FAILING.replace('print("about to spawn")', 'print("about to spawn"); await asyncio.sleep(600)')
        async with running_dev(write(tmp_path / "worker.py", slow), "--run", "Parent") as process:
            await read_until(process, "about to spawn")
            family = Family(process.pid)
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), ENDS_WITHIN_SECONDS) == want
            await family.until_gone()

    async def test_a_worker_one_of_whose_workflows_is_refused_runs_none(self, tmp_path: Path) -> None:
        clash = FAILING.replace("@hatchet.workflow()", '@hatchet.workflow(name="A-b")', 1).replace(
            "class Child", "class a_b"
        )
        worker = write(tmp_path / "worker.py", clash.replace("Child()", "a_b()"))
        ended = await dev(worker, "--run", "A-b")
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert f"error: {worker} failed before it was registered (exit code 1)" in ended.stderr
        assert "a-b" in ended.stderr

    async def test_who_is_interrupted_twice_ends_at_once_and_leaves_nothing(self, tmp_path: Path) -> None:
        deaf = FAILING.replace('print("about to spawn")', 'print("about to spawn"); import time; time.sleep(600)')
        async with running_dev(write(tmp_path / "worker.py", deaf), "--run", "Parent") as process:
            await read_until(process, "about to spawn")
            family = Family(process.pid)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), ENDS_WITHIN_SECONDS) in (
                128 + signal.SIGINT,
                128 + signal.SIGTERM,
            )
            await family.until_gone()
        assert list((tmp_path / "state").iterdir()) == []


class TestStayingUp:
    @pytest.mark.parametrize(
        ("number", "want"),
        [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGKILL, -signal.SIGKILL)],
    )
    async def test_no_process_is_left(self, number: signal.Signals, want: int) -> None:
        async with running_dev(FANOUT, "--workers", "2") as process:
            await read_until(process, "Ctrl-C ends everything")
            family = Family(process.pid)
            assert len(family.members) >= 3
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), ENDS_WITHIN_SECONDS) == want
            await family.until_gone()

    async def test_a_changed_file_is_reloaded_and_a_broken_one_waits_for_its_repair(self, tmp_path: Path) -> None:
        worker = write(tmp_path / "worker.py", FAILING)
        async with running_dev(worker) as process:
            assert "is ready: Child, Parent" in await read_until(process, "Ctrl-C ends everything")
            write(worker, "raise RuntimeError('broken now')")
            seen = await read_until(process, "is tried again now and then")
            assert "↻ worker.py changed" in seen
            assert "RuntimeError: broken now" in seen
            write(worker, FAILING.replace("Parent", "Mother"))
            await read_until(process, "Mother")

    async def test_what_it_says_about_starting_a_run_with_python_works(self) -> None:
        async with running_dev(FANOUT) as process:
            usage = await read_until(process, "Ctrl-C ends everything")
            commands = [line.strip() for line in usage.splitlines() if line.startswith("    ")]
            source, python = commands[-2:]
            script = f"{source}\n{python.replace('python', sys.executable, 1)}"
            client = await asyncio.create_subprocess_exec("bash", "-ec", script, stdout=asyncio.subprocess.PIPE)
            stdout, _ = await asyncio.wait_for(client.communicate(), ENDS_WITHIN_SECONDS)
            assert "success 9" in stdout.decode()
            assert "✔ Parent" in await read_until(process, "✔ Parent  parent-")

    async def test_kubectl_works_against_it(self, tmp_path: Path) -> None:
        try:
            kubectl = find_binaries() / "kubectl"
        except BinariesMissingError as missing:
            pytest.skip(str(missing))
        kubeconfig = tmp_path / "kubeconfig"

        async def run(*arguments: str) -> str:
            process = await asyncio.create_subprocess_exec(
                *(str(kubectl), "--kubeconfig", str(kubeconfig), *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"HOME": str(tmp_path)},
            )
            stdout, _ = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
            assert process.returncode == 0, stdout.decode()
            return stdout.decode()

        run_file = write(
            tmp_path / "run.yaml",
            """
            apiVersion: hatchet-operator.dev/v1alpha1
            kind: WorkflowRun
            metadata: {name: by-hand}
            spec: {workflow: child, input: {a: x}}
            """,
        )
        async with running_dev(FANOUT, "--kubeconfig", kubeconfig) as process:
            await read_until(process, "Ctrl-C ends everything")
            assert "created" in await run("apply", "-f", str(run_file))
            await run("wait", "--for=condition=Succeeded", "wfr/by-hand", "--timeout=50s")
            assert re.search(r"by-hand +child +Succeeded", await run("get", "wfr"))
            assert "success x" in await run("describe", "wfr", "by-hand")
            assert "registered at" in await run("logs", "--selector", "hatchet-operator.dev/pool=dev")
            await run("delete", "wfr", "by-hand")
            assert "No resources found" in await run("get", "wfr")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param('{"a": 1 "b"}', 'line 1, column 9\n  {"a": 1 "b"}\n          ^', id="the place is pointed at"),
        pytest.param("", "Expecting value at line 1, column 1", id="nothing at all"),
        pytest.param("[1]", "must be a JSON object", id="no object"),
        pytest.param('{"a": NaN}', "NaN", id="what is not JSON though Python reads it"),
    ],
)
def test_bad_input_is_refused(text: str, want: str) -> None:
    with pytest.raises(DevError) as caught:
        check_input(text)
    assert want in caught.value.message
    assert caught.value.exit_code == 2


async def test_a_foreign_kubeconfig_is_not_overwritten(tmp_path: Path) -> None:
    kubeconfig = write(tmp_path / "config", "current-context: production")
    ended = await dev(FANOUT, "--run", "Parent", "--kubeconfig", kubeconfig)
    assert ended.exit_code == 2
    assert "was not written by hatchet-operator dev" in ended.stderr
    assert kubeconfig.read_text() == "current-context: production"


def test_json_for_people_keeps_short_things_on_one_line() -> None:
    value = {"short": [1, {"a": None}], "long": ["x" * 50, "é" * 50], "empty": {}}
    assert format_json(value).splitlines() == [
        "{",
        '  "short": [1, {"a": null}],',
        '  "long": [',
        f'    "{"x" * 50}",',
        f'    "{"é" * 50}"',
        "  ],",
        '  "empty": {}',
        "}",
    ]
    assert json.loads(format_json(value)) == value
