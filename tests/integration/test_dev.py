"""``hatchet-operator dev`` as a person uses it: the real command, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import textwrap
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from hatchet_operator_dev.one_run import format_json
from tests.integration.commands import running
from tests.integration.otlp_receiver import receiving
from tests.kube.real_api import BinariesMissingError, find_binaries

EXAMPLES = Path(__file__).parents[2] / "examples"
FANOUT = EXAMPLES / "fanout" / "worker.py"
ENDS_WITHIN_SECONDS = 120.0

FAILING = """
    import asyncio
    print("at import")
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


def running_dev(
    *arguments: str | Path, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return running("hatchet_operator", "dev", *arguments, directory=directory, environment=environment)


async def dev(
    *arguments: str | Path, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> Ended:
    async with (
        running_dev(*arguments, directory=directory, environment=environment) as process,
        asyncio.timeout(ENDS_WITHIN_SECONDS),
    ):
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


def write_package(folder: Path) -> None:
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").touch()
    (folder / "pkg" / "helpers.py").write_text("helped = True")
    write(
        folder / "pkg" / "worker.py",
        """
        import os
        from hatchet_sdk import Context, Hatchet
        from .helpers import helped

        hatchet = Hatchet()

        @hatchet.workflow()
        class Echo:
            @hatchet.step()
            def echo(self, context: Context):
                return {"helped": helped, "in": os.getcwd(), "name": __name__}

        worker = hatchet.worker("echo")
        worker.register_workflow(Echo())
        worker.start()
        """,
    )


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
        tree = [line for line in ended.stderr.splitlines() if not line.startswith("… ")]  # said on a slow machine
        assert re.fullmatch(r"✔ Parent  parent-\w+  \S+", tree[0])
        assert [re.sub(r"  \S+s$", "", line) for line in tree[1:]] == [
            f"{'└' if n == 9 else '├'}── ✔ Child  child{n}" for n in range(10)
        ]

    async def test_traces_of_the_run_and_of_the_program_go_to_the_collector(self, tmp_path: Path) -> None:
        program = """
            from opentelemetry import trace
            from hatchet_sdk import Context, Hatchet

            hatchet = Hatchet()

            @hatchet.workflow()
            class Etl:
                @hatchet.step()
                def load(self, context: Context):
                    with trace.get_tracer("etl").start_as_current_span("download"):
                        print("at work")

            worker = hatchet.worker("etl")
            worker.register_workflow(Etl())
            worker.start()
        """
        with receiving() as receiver:
            ended = await dev(write(tmp_path / "worker.py", program), "--run", "Etl", "--otlp", receiver.endpoint)
        assert ended.exit_code == 0, ended.stderr
        assert f"Traces go to {receiver.endpoint}." in ended.stderr
        run, attempt, download = (receiver.one(name) for name in ("run etl", "attempt load", "download"))
        assert (attempt.parent_id, download.parent_id) == (run.span_id, attempt.span_id)
        assert (run.service, download.service) == ("hatchet-operator", "worker")

    async def test_json_output_is_quiet(self) -> None:
        ended = await dev(FANOUT, "--run", "parent", "--output", "json")
        assert (ended.exit_code, ended.stderr) == (0, "")
        assert len(json.loads(ended.stdout)["spawn"]["results"]) == 10

    # What needs an object applied before it has a test of its own: test_rate_limits.py.
    @pytest.mark.parametrize(
        "example",
        sorted(path.parent.name for path in EXAMPLES.glob("*/run.yaml") if path.parent.name != "rate_limits"),
    )
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
            "in": str(Path.cwd()),
        }

    async def test_a_package_runs_in_its_parent_folder(self, tmp_path: Path) -> None:
        write_package(tmp_path)
        ended = await dev("-m", "pkg.worker", "--run", "Echo", directory=tmp_path)
        assert ended.exit_code == 0, ended.stderr
        want = {"helped": True, "in": str(tmp_path), "name": "__main__"}
        assert json.loads(ended.stdout)["echo"] == want

    async def test_a_file_of_a_package_is_told_how_to_run(self, tmp_path: Path) -> None:
        write_package(tmp_path)
        ended = await dev("pkg/worker.py", "--run", "Echo", directory=tmp_path)
        assert "ImportError: attempted relative import" in ended.stderr
        hint = f"in a package, run it as a module: cd {tmp_path} && hatchet-operator dev -m pkg.worker"
        assert ended.stderr.splitlines()[-1].endswith(hint)

    async def test_pythonpath_means_what_it_meant(self, tmp_path: Path) -> None:
        write_package(tmp_path)
        program = (tmp_path / "pkg" / "worker.py").read_text().replace("from .helpers", "from pkg.helpers")
        (tmp_path / "apps").mkdir()
        (tmp_path / "apps" / "worker.py").write_text(program)
        ended = await dev("apps/worker.py", "--run", "Echo", directory=tmp_path, environment={"PYTHONPATH": "."})
        assert json.loads(ended.stdout)["echo"]["in"] == str(tmp_path), ended.stderr

    async def test_a_proxy_for_the_web_is_not_asked(self) -> None:
        names = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        proxies = dict.fromkeys(names, "http://127.0.0.1:9")
        ended = await dev(FANOUT, "--run", "Child", "--input", '{"a": "b"}', environment=proxies)
        assert ended.exit_code == 0, ended.stderr

    @pytest.mark.parametrize(("given", "stdin"), [("@in.json", b""), ("-", b'{"a": "x"}')])
    async def test_input_comes_from_a_file_or_stdin(self, given: str, stdin: bytes, tmp_path: Path) -> None:
        (tmp_path / "in.json").write_text('{"a": "x"}')
        arguments = ("hatchet_operator", "dev", str(FANOUT), "--run", "Child", "--input", given)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *arguments),
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        stdout, _ = await asyncio.wait_for(process.communicate(stdin), ENDS_WITHIN_SECONDS)
        assert json.loads(stdout) == {"process": {"status": "success x"}}

    async def test_what_is_waited_for_is_named(self, tmp_path: Path) -> None:
        idle = write(tmp_path / "worker.py", "print('loading a model'); import time; time.sleep(600)")
        async with running_dev(idle, "--run", "Any") as process:
            seen = await read_until(process, "it wrote last: loading a model")
            assert "… " in seen
            assert f"{idle} runs, but has not registered yet; does it call worker.start()?" in seen

    async def test_why_a_run_waits_is_named(self) -> None:
        async with running_dev("--run", "Child", "--output", "text") as process:
            seen = await read_until(process, 'waiting for a worker that registers "Child"')
            assert "… waiting for a worker" in seen

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
            assert "worker | at import" in ended.stderr.splitlines(), "what comes before the registration is shown too"
            assert re.search(r"^parent-\w+ spawn#1 \| about to spawn$", ended.stderr, re.MULTILINE)
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
                    "error: {worker} failed before it registered a workflow (exit code 1)",
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
        assert f"error: {worker} failed before it registered a workflow (exit code 1)" in ended.stderr
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
            usage = await read_until(process, "Ctrl-C ends everything")
            assert "is ready: Child, Parent" in usage
            source, python = [line.strip() for line in usage.splitlines() if line.startswith("    ")][-2:]
            python = python.replace('"Child"', '"Parent"').replace("python", sys.executable, 1)
            client = await asyncio.create_subprocess_exec(
                "bash", "-ec", f"{source}\n{python}", stderr=asyncio.subprocess.DEVNULL
            )
            await asyncio.wait_for(client.wait(), ENDS_WITHIN_SECONDS)
            (run,) = re.findall(r"✘ Parent  (parent-\w+)", await read_until(process, "✘ Parent  parent-"))
            write(worker, "raise RuntimeError('broken now')")
            seen = await read_until(process, "is tried again now and then")
            assert "↻ worker.py changed" in seen
            assert "RuntimeError: broken now" in seen
            (kubeconfig,) = re.findall(r"export KUBECONFIG=(\S+)", usage)
            async with running("hatchet_operator", "logs", run, "--kubeconfig", kubeconfig) as reader:
                stdout, stderr = await asyncio.wait_for(reader.communicate(), ENDS_WITHIN_SECONDS)
            lines = stdout.decode().splitlines()
            assert lines[0] == "spawn#1 | about to spawn", f"of a pod that the reload has ended: {stderr.decode()}"
            assert lines[-1].startswith("spawn#1 ! hatchet_sdk.errors.WorkflowRunFailed: ")
            write(worker, FAILING.replace("Parent", "Mother"))
            renamed = await read_until(process, "Mother")
            assert re.search(r"is ready: Child, Mother\s*$", renamed, re.M), (
                "and no Parent, which the new worker does not have"
            )

    async def test_a_cron_that_makes_no_sense_is_told_to_its_author(self, tmp_path: Path) -> None:
        bad = FAILING.replace("@hatchet.workflow()", '@hatchet.workflow(on_crons=["61 6 * * *"])', 1)
        async with running_dev(write(tmp_path / "worker.py", bad)) as process:
            await read_until(process, '": "61 6 * * *" is not a schedule: Bad minute')

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

    @pytest.mark.parametrize("arguments", [pytest.param((), id="no file"), pytest.param(("0",), id="--workers 0")])
    async def test_a_worker_from_another_terminal_is_all_it_needs(
        self, arguments: tuple[str, ...], tmp_path: Path
    ) -> None:
        worker = write(tmp_path / "mine.py", FAILING.replace("Parent", "Mother"))
        options: tuple[str | Path, ...] = (worker, "--workers", *arguments) if arguments else ()
        async with running_dev(*options, directory=tmp_path) as process:
            usage = await read_until(process, "Ctrl-C ends everything")
            assert "Start a run" not in usage
            source, python = [line.strip() for line in usage.splitlines() if line.startswith("    ")][-2:]
            assert python == f"python {worker if arguments else 'worker.py'}"
            script = f"{source}\nexec {sys.executable} {worker}"
            mine = await asyncio.create_subprocess_exec("bash", "-ec", script, stderr=asyncio.subprocess.DEVNULL)
            try:
                seen = await read_until(process, "Ctrl-C ends everything")
                assert "✔ registered: " in seen
                assert '.admin.run_workflow("Mother", {})' in seen, "the first that was registered"
                if "registered: Child, Mother" not in seen:
                    await read_until(process, "registered: Child, Mother")
            finally:
                mine.terminate()
                await asyncio.wait_for(mine.wait(), ENDS_WITHIN_SECONDS)

    async def test_a_reader_who_leaves_ends_it_and_nothing_is_left(self, tmp_path: Path) -> None:
        script = (
            f"{sys.executable} -m hatchet_operator dev {FANOUT} --run Parent 2>&1 | head -2; exit ${{PIPESTATUS[0]}}"
        )
        bash = await asyncio.create_subprocess_exec("bash", "-c", script, stdout=asyncio.subprocess.PIPE)
        stdout, _ = await asyncio.wait_for(bash.communicate(), ENDS_WITHIN_SECONDS)
        assert len(stdout.splitlines()) == 2
        assert list((tmp_path / "state").iterdir()) == []

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
            assert "by-hand" in await run("get", "wfr", "--sort-by=.status.durationMilliseconds")
            assert "registered at" in await run("logs", "--selector", "hatchet-operator.dev/pool=dev")
            await run("delete", "wfr", "by-hand")
            assert "No resources found" in await run("get", "wfr")


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        pytest.param((FANOUT, "--input", "{}"), "--input is for --run, which is not given", id="input of no run"),
        pytest.param((FANOUT, "-m", "pkg", "--run", "X"), "not both", id="a file and a module"),
        pytest.param(("-m", "no_such_pkg.worker"), 'there is no module "no_such_pkg" in', id="no module"),
        pytest.param(("-m", "pkg/worker.py"), "cannot be the name of a module", id="a path for a module"),
        pytest.param(("pkg.worker",), "a module is run with -m pkg.worker", id="a module for a path"),
        pytest.param((FANOUT, "--run", "X", "--input", "@no.json"), "--input @no.json: cannot be read", id="no input"),
        pytest.param((FANOUT, "--run", "X", "--input", "[]"), "it is a list", id="an input that is no object"),
        pytest.param(("--debug", "5678"), "--debug waits in the one worker", id="a debugger without a worker"),
    ],
)
async def test_what_makes_no_sense_is_refused(arguments: tuple[str | Path, ...], want: str, tmp_path: Path) -> None:
    ended = await dev(*arguments, directory=tmp_path)
    assert ended.exit_code in (1, 2)
    assert want in ended.stderr.splitlines()[-1]


async def test_help_has_a_short_name() -> None:
    ended = await dev("-h")
    assert ended.exit_code == 0
    for said in ("-m MODULE", "--debug PORT", "The program runs in the folder that you are in"):
        assert said in ended.stdout


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


async def test_large_inputs_and_outputs_are_in_a_folder_if_one_is_given(tmp_path: Path) -> None:
    program = """
        from hatchet_sdk import Context, Hatchet

        hatchet = Hatchet()

        @hatchet.workflow()
        class Double:
            @hatchet.step()
            def double(self, context: Context):
                return {"text": context.workflow_input()["text"] * 2}

        if __name__ == "__main__":
            worker = hatchet.worker("double")
            worker.register_workflow(Double())
            worker.start()
    """
    worker = write(tmp_path / "worker.py", program)
    given = write(tmp_path / "input.json", json.dumps({"text": "x" * 300_000}))
    folder = tmp_path / "payloads"
    ended = await dev(worker, "--run", "Double", "--input", f"@{given}", "--payloads", folder)
    assert ended.exit_code == 0, ended.stderr
    assert json.loads(ended.stdout) == {"double": {"text": "x" * 600_000}}
    assert sorted(file.stat().st_size for file in folder.rglob("*") if file.is_file()) == [300_012, 600_011]
    refused = await dev(worker, "--run", "Double", "--input", f"@{given}")
    assert refused.exit_code == 2
