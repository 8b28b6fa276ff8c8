"""From the options of ``dev`` to an exit code: signals, the state directory, and errors in words."""

import asyncio
import importlib.util
import json
import logging
import os
import resource
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from rich.console import Console
from rich.text import Text

from hatchet_cli.screen import Screen
from hatchet_operator import garbage
from hatchet_operator.command_line import file_problem
from hatchet_operator.decisions.given_json import object_problem
from hatchet_operator.given_text import UnreadableError, read_given
from hatchet_operator.logs import TextFormatter
from hatchet_operator.terminal import lines
from hatchet_operator_dev.errors import DevError
from hatchet_operator_dev.program import Program, find_program
from hatchet_operator_dev.traces import ENDPOINT, Traces, find_traces

if TYPE_CHECKING:  # importing them takes half a second, in which the screen would be empty
    from hatchet_operator_dev.local import Local
    from hatchet_operator_dev.local_cluster import LocalCluster
    from hatchet_operator_dev.output import WorkerOutput

Output = Literal["text", "json"]

_NAMED_RUNS = 3
_FEW_FILES, _MANY_FILES = 128, 4096
_DEBUGGED_WORKER_SILENT = timedelta(days=1)  # a debugger stops all its threads
_NO_COMMAND = ("false",)  # of the pool that workers from outside belong to; it has no pods


@dataclass(frozen=True, kw_only=True)
class DevOptions:
    """What was asked for on the command line.

    Attributes:
        worker: The Python file that starts a worker; None: `module` does, or no process of ours.
        module: The same as a module.
        run: Name of the workflow to run once; None: stay up.
        input_text: Input of that run: JSON text, "@" and the name of a file, or "-" for stdin; None: {}.
        workers: How many processes run the program; 0: it is started elsewhere.
        debug_port: The worker waits for a debugger at this port.
        port: For workers and clients; 0: a free one.
        kubeconfig: Where to write it; None: into the state directory.
        output: "json" writes nothing but the result, and errors.
        payloads: Folder for large inputs and outputs; None: they are refused.
        otlp: URL of the collector for traces; None: what OpenTelemetry's variables say, if anything.
    """

    worker: Path | None = None
    module: str | None = None
    run: str | None = None
    input_text: str | None = None
    workers: int = 1
    debug_port: int | None = None
    port: int = 0
    kubeconfig: Path | None = None
    output: Output = "text"
    payloads: Path | None = None
    otlp: str | None = None


def run_dev(options: DevOptions) -> int:
    """Run the command and return its exit code."""
    directory = Path(tempfile.mkdtemp(prefix="hatchet-dev-"))
    try:
        exit_code = _run_in(directory, options)
    except BrokenPipeError:  # the reader of the result has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_code = 128 + signal.SIGPIPE
    # Not in a `finally`: after an unexpected error the log is wanted.
    shutil.rmtree(directory, ignore_errors=True)
    return exit_code


def _run_in(directory: Path, options: DevOptions) -> int:
    screen = Screen(quiet=options.output == "json")
    try:
        _allow_open_files()
        input_text = _read_input(options)
        with _named_files():
            program = find_program(options.worker, options.module)
            kubeconfig = _kubeconfig_path(options.kubeconfig, directory)
        _check_debugger(options, program)
        _check_port(options.port)
        if options.payloads is not None:
            _check_folder(options.payloads, "--payloads")
        traces = find_traces(options.otlp, os.environ)
        if options.otlp is not None:
            os.environ[ENDPOINT] = options.otlp  # where the operator looks, which runs in this process
        _log_to(directory / "operator.log")
        job = _Job(
            program=program,
            input_text=input_text,
            workers=options.workers if program is not None else 0,
            directory=directory,
            kubeconfig=kubeconfig,
            traces=traces,
        )
        return _run_until_signalled(options, job, screen)
    except DevError as error:
        if options.output == "json":
            sys.stdout.write(
                json.dumps({"error": {"message": error.message, **error.report}}, ensure_ascii=False) + "\n"
            )
            sys.stdout.flush()
        _print_error(error)
        return error.exit_code


@dataclass(frozen=True, kw_only=True)
class _Job:
    """The options, checked."""

    program: Program | None
    input_text: str
    workers: int
    directory: Path
    kubeconfig: Path
    traces: Traces | None


def _read_input(options: DevOptions) -> str:
    text = options.input_text
    if text is None:
        return "{}"
    if options.run is None:
        raise DevError(
            "--input is for --run, which is not given; runs that you start otherwise bring theirs", exit_code=2
        )
    where = {"-": "--input - (stdin)"}.get(text, f"--input {text}" if text.startswith("@") else "--input")
    try:
        text = read_given(text)
    except UnreadableError as error:
        raise DevError(f"{where}: cannot be read: {error}", exit_code=2) from error
    if (problem := object_problem(text, where)) is not None:
        raise DevError(problem, exit_code=2)
    return text


def _check_debugger(options: DevOptions, program: Program | None) -> None:
    if options.debug_port is None:
        return
    if program is None or options.workers != 1:
        raise DevError("--debug waits in the one worker of a program; give a FILE or -m, and no --workers", exit_code=2)
    if importlib.util.find_spec("debugpy") is None:
        raise DevError(
            f"--debug needs debugpy, which is not installed in hatchet-operator's environment; "
            f"run {shlex.quote(sys.executable)} -m pip install debugpy",
            exit_code=2,
        )
    _check_port(options.debug_port, "--debug")


def _allow_open_files() -> None:
    """Raise this process's limit of open files as far as it may: API server, operator and their clients are all here.

    Raises:
        DevError: It is so low that gRPC would abort the process, without a word that helps.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < _FEW_FILES:
        raise DevError(
            f"a process of this shell may open {most} files, and dev needs {_FEW_FILES}; "
            f'run "ulimit -n {_MANY_FILES}", in a new shell if this one refuses it',
            exit_code=2,
        )


@contextmanager
def _named_files() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if (problem := file_problem(error)) is None:
            raise
        raise DevError(problem, exit_code=2) from error


def _check_folder(folder: Path, option: str) -> None:
    with _named_files():
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DevError(f"{option} {folder}: no right to write there; choose another folder", exit_code=2)


def _log_to(file: Path) -> None:
    """Keep the log of operator and node off the screen."""
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _print_error(error: DevError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if error.details:
        from hatchet_operator.run_logs.lines import with_colours  # which takes a while to import

        details = "\n".join(map(with_colours, error.details.rstrip("\n").split("\n")))
        console.print(Text.from_ansi(details), "")
    console.print(Text.assemble(("error: ", "bold red"), lines(error.message)))


def _kubeconfig_path(chosen: Path | None, directory: Path) -> Path:
    if chosen is None:
        return directory / "kubeconfig"
    if chosen.exists() and "current-context: hatchet-dev" not in chosen.read_text(errors="replace"):
        raise DevError(f"{chosen} was not written by hatchet-operator dev; choose another --kubeconfig", exit_code=2)
    return chosen.resolve()


def _check_port(port: int, option: str = "--port") -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DevError(f"port {port}: {error.strerror}; choose another {option}, or none", exit_code=2) from error


def _run_until_signalled(options: DevOptions, job: _Job, screen: Screen) -> int:
    import uvloop

    # Pods are started from this process, where gRPC has threads: without this it warns at every fork.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    received: list[signal.Signals] = []
    ending = Ending(screen)

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def on_signal(number: signal.Signals) -> None:
            if received:
                _leave_at_once(number, job.directory)
            received.append(number)
            ending.begin()
            task.cancel()

        def install_signal_handlers() -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, on_signal, number)

        install_signal_handlers()
        await _main(options, job, screen, ending, install_signal_handlers)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main())
        except asyncio.CancelledError:
            if not received:
                raise
            return 128 + received[0] if options.run is not None else 0
    return 0


def _leave_at_once(number: signal.Signals, directory: Path) -> NoReturn:
    """Handle the second Ctrl-C: the shims end all processes when this one has ended."""
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(128 + number)


class Ending:
    """Says what shutdown is waiting for, once it was asked for."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.unfinished: Callable[[], list[str]] = list
        """Names the runs that have not ended, and draws them if they are to be seen."""

    def begin(self) -> None:
        """Say it at once."""
        if names := self.unfinished():
            shown = ", ".join(names[:_NAMED_RUNS]) + (", …" if len(names) > _NAMED_RUNS else "")
            runs = f"{len(names)} unfinished {'run' if len(names) == 1 else 'runs'}"
            words = f"ending: steps of {runs} ({shown}) have a few seconds to finish; Ctrl-C again ends them at once"
            self._screen.print(Text(words, "yellow"))
            self._screen.show_status(words)


async def _main(
    options: DevOptions, job: _Job, screen: Screen, ending: Ending, install_signal_handlers: Callable[[], None]
) -> None:
    async with screen.live():
        screen.show_status("starting the API server and the operator")
        await asyncio.sleep(0)  # so that the status is on the screen while the imports below take their half second
        with garbage.while_importing():
            from hatchet_operator.cluster.kinds import POOLS
            from hatchet_operator_dev.debugging import Debugging
            from hatchet_operator_dev.local_cluster import local_cluster
            from hatchet_operator_dev.one_run import run_once, unfinished_runs
            from hatchet_operator_dev.output import WorkerOutput
            from hatchet_operator_dev.worker_pool import NAMESPACE, make_pool, worker_environment

        output = WorkerOutput(screen)
        tracing = job.traces is not None and job.traces.lacking is None
        traced = job.traces.worker_variables(os.environ) if job.traces is not None else {}
        if job.traces is not None:
            screen.print(Text(job.traces.shown, "dim" if tracing else "yellow"))
        debugging = Debugging(screen, always=options.debug_port is not None)
        async with (
            debugging.serving(),
            local_cluster(
                job.directory,
                kubeconfig=job.kubeconfig,
                grpc_port=options.port,
                environment=worker_environment() | traced | debugging.environment(),
                tracing=tracing,
                on_output=output.add,
                install_signal_handlers=install_signal_handlers,
                payloads=options.payloads.resolve() if options.payloads is not None else None,
                worker_silent=_DEBUGGED_WORKER_SILENT if options.debug_port is not None else None,
            ) as cluster,
            _beside(debugging.hold_clocks(cluster.let_run_longer)),
        ):
            ending.unfinished = lambda: unfinished_runs(cluster.view)
            command = job.program.command(debug_port=options.debug_port) if job.program else _NO_COMMAND
            await cluster.api.create(POOLS, NAMESPACE, make_pool(command, replicas=job.workers))
            local = _make_local(options, job, cluster, screen, output)
            if options.run is not None:
                await run_once(local, options.run, job.input_text)
            else:
                from hatchet_operator_dev.staying_up import stay_up  # it watches files, which takes a while to import

                await stay_up(local)


def _make_local(
    options: DevOptions, job: _Job, cluster: "LocalCluster", screen: Screen, output: "WorkerOutput"
) -> "Local":
    from hatchet_operator_dev.local import Local

    return Local(
        cluster=cluster,
        program=job.program,
        workers=job.workers,
        waits_for_debugger=options.debug_port,
        directory=job.directory,
        kubeconfig=job.kubeconfig,
        screen=screen,
        output=output,
        traces=job.traces,
    )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
