"""From the options of ``dev`` to an exit code: signals, the state directory, and errors in words."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from rich.console import Console
from rich.text import Text

from hatchet_operator.dev.errors import DevError
from hatchet_operator.dev.screen import Screen
from hatchet_operator.logs import TextFormatter

Output = Literal["text", "json"]


@dataclass(frozen=True, kw_only=True)
class DevOptions:
    """What was asked for on the command line.

    Attributes:
        worker: The Python file that starts a worker.
        run: Name of the workflow to run once; None: stay up.
        input_text: Input of that run, as JSON text.
        workers: How many processes run the file.
        port: For workers and clients; 0: a free one.
        kubeconfig: Where to write it; None: into the state directory.
        output: "json" writes nothing but the result, and errors.
    """

    worker: Path
    run: str | None = None
    input_text: str = "{}"
    workers: int = 1
    port: int = 0
    kubeconfig: Path | None = None
    output: Output = "text"


def run_dev(options: DevOptions) -> int:
    """Run the command and return its exit code."""
    screen = Screen(quiet=options.output == "json")
    directory = Path(tempfile.mkdtemp(prefix="hatchet-dev-"))
    try:
        check_input(options.input_text)
        worker = find_worker(options.worker)
        kubeconfig = _kubeconfig_path(options.kubeconfig, directory)
        _check_port(options.port)
        _log_to(directory / "operator.log")
        exit_code = _run_until_signalled(options, worker, directory, kubeconfig, screen)
    except DevError as error:
        if options.output == "json":
            sys.stdout.write(
                json.dumps({"error": {"message": error.message, **error.report}}, ensure_ascii=False) + "\n"
            )
            sys.stdout.flush()
        _print_error(error)
        exit_code = error.exit_code
    # Not in a `finally`: after an error that nobody expected the log is wanted.
    shutil.rmtree(directory, ignore_errors=True)
    return exit_code


def _log_to(file: Path) -> None:
    """Keep the log of operator and node off the screen."""
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _print_error(error: DevError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if error.details:
        console.print(Text.from_ansi(error.details.rstrip("\n")), "")
    console.print(Text.assemble(("error: ", "bold red"), error.message))


def check_input(text: str) -> None:
    """Raise unless the text is a JSON object.

    Raises:
        DevError: It is not; the message shows where.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1] if text else ""
        where = f"line {error.lineno}, column {error.colno}"
        pointer = f"  {line}\n  {' ' * (error.colno - 1)}^"
        raise DevError(f"--input is not JSON: {error.msg} at {where}\n{pointer}", exit_code=2) from error
    if not isinstance(value, dict):
        raise DevError("--input must be a JSON object, as in --input '{\"k\": 1}'", exit_code=2)


def _refuse_constant(name: str) -> NoReturn:
    raise DevError(f"--input is not JSON: {name} is not a JSON number", exit_code=2)


def find_worker(path: Path) -> Path:
    """Return the absolute path of the worker's file.

    Raises:
        DevError: There is no such file.
    """
    if path.is_dir():
        raise DevError(f"{path} is a folder; name the Python file in it that starts a worker")
    if not path.is_file():
        raise DevError(f"there is no file {path}; name a Python file that starts a worker")
    return path.resolve()


def _kubeconfig_path(chosen: Path | None, directory: Path) -> Path:
    if chosen is None:
        return directory / "kubeconfig"
    if chosen.exists() and "current-context: hatchet-dev" not in chosen.read_text(errors="replace"):
        raise DevError(f"{chosen} was not written by hatchet-operator dev; choose another --kubeconfig", exit_code=2)
    return chosen.resolve()


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DevError(f"port {port}: {error.strerror}; choose another --port, or none", exit_code=2) from error


def _run_until_signalled(options: DevOptions, worker: Path, directory: Path, kubeconfig: Path, screen: Screen) -> int:
    import uvloop

    # Pods are started from this process, where gRPC has threads: without this it warns at every fork.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    received: list[signal.Signals] = []

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def on_signal(number: signal.Signals) -> None:
            if received:
                _leave_at_once(number, directory)
            received.append(number)
            task.cancel()

        def install_signal_handlers() -> None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, on_signal, number)

        install_signal_handlers()
        await _main(options, worker, directory, kubeconfig, screen, install_signal_handlers)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main())
        except asyncio.CancelledError:
            if not received:
                raise
            return 128 + received[0] if options.run is not None else 0
    return 0


def _leave_at_once(number: signal.Signals, directory: Path) -> NoReturn:
    """The second Ctrl-C: the shims end all processes when this one is gone."""
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(128 + number)


async def _main(
    options: DevOptions,
    worker: Path,
    directory: Path,
    kubeconfig: Path,
    screen: Screen,
    install_signal_handlers: Callable[[], None],
) -> None:
    async with screen.live():
        screen.show_status("starting the API server and the operator")
        await asyncio.sleep(0)  # so that the status is on the screen while the imports below take their half second
        from hatchet_operator.cluster.kinds import POOLS
        from hatchet_operator.dev.local_cluster import local_cluster
        from hatchet_operator.dev.one_run import run_once
        from hatchet_operator.dev.output import WorkerOutput
        from hatchet_operator.dev.staying_up import stay_up
        from hatchet_operator.dev.worker_pool import NAMESPACE, make_pool, worker_environment

        output = WorkerOutput(screen, held_back=options.run is not None)
        async with local_cluster(
            directory,
            kubeconfig=kubeconfig,
            grpc_port=options.port,
            environment=worker_environment(),
            on_output=output.add,
            install_signal_handlers=install_signal_handlers,
        ) as cluster:
            await cluster.api.create(POOLS, NAMESPACE, make_pool(worker, replicas=options.workers))
            shown = str(options.worker)
            if options.run is not None:
                await run_once(cluster, options.run, options.input_text, worker=shown, output=output, screen=screen)
            else:
                await stay_up(
                    cluster,
                    worker=worker,
                    shown=shown,
                    directory=directory,
                    kubeconfig=kubeconfig,
                    screen=screen,
                    output=output,
                )
