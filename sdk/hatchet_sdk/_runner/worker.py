"""A process that runs steps: user code in its own or the host's loop and in threads, the operator in the I/O thread."""

import asyncio
import atexit
import contextvars
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from hatchet_sdk._client import forks, tracing
from hatchet_sdk._client.arguments import LONGEST_NAME, checked_number, checked_text
from hatchet_sdk._client.config import ClientConfig, prefix_of, prefixed
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._runner import installation, output
from hatchet_sdk._runner.definition import WorkflowDefinition, check_distinct, definition_of
from hatchet_sdk._runner.failures import class_name
from hatchet_sdk.errors import InvalidDefinition, RequestRefused, StepsOverran

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client

log = logging.getLogger("hatchet_sdk")

DESCRIPTIONS_FILE = "HATCHET_DESCRIPTIONS_FILE"
"""Environment variable: a worker that starts only appends to this file what it would register."""

_MOST_RUNS = 10_000  # the operator's limit


class Worker:
    """Runs steps of its workflows. Create it with ``hatchet.worker(name)``."""

    def __init__(
        self,
        name: str,
        client: "Callable[[], Client]",
        *,
        config: ClientConfig,
        max_runs: int | None,
        max_overruns: int | None,
        labels: Mapping[str, str | int],
        debug: bool,
        pace: Pace,
    ) -> None:
        checked_text(name, what="worker(): the name", longest=LONGEST_NAME)
        where = f'worker "{name}"'
        if max_runs is not None:
            most = _MOST_RUNS
            checked_number(max_runs, what=f"{where}: max_runs", expected=f"1 to {most}", least=1, most=most)
        if max_overruns is not None:
            checked_number(max_overruns, what=f"{where}: max_overruns", expected="1 or more", least=1)
        self._name = name
        self._client = client
        self._config = config
        self._max_runs = max_runs
        self._max_overruns = max_overruns
        self._labels = labels
        self._debug = debug
        self._pace = pace
        self._workflows: list[tuple[WorkflowDefinition, object]] = []
        self._stop_asked = False
        self._stop: Callable[[], None] | None = None
        self._serving: Future[None] | None = None
        self._registered = threading.Event()
        self._when_registered: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        return self._name

    def register_workflow(self, workflow: object) -> None:
        """Add an instance of a class decorated with ``@hatchet.workflow()``; it is sent when the worker starts."""
        definition = definition_of(workflow)
        prefix = prefix_of(self._config, os.environ)
        known = [*(known for known, _ in self._workflows), definition]
        check_distinct([(prefixed(each.name, prefix), each) for each in known])
        self._workflows.append((definition, workflow))

    def start(self) -> None:
        """Register, then run attempts until SIGTERM or SIGINT; what is running then is finished first.

        Waits as long as the operator is down. A second signal ends the process at once. Outside the main thread,
        signals are not handled; use `stop`. If an event loop is already running, use `async_start`.

        If the variable HATCHET_DESCRIPTIONS_FILE names a file, it only appends to it, as a line of JSON, what would be
        registered: this is how ``hatchet-operator manifests`` queries programs.

        Raises:
            NotConfigured: No operator's address is known.
            RequestRefused: The operator refused the registration.
            StepsOverran: The limit of steps that keep running after cancellation was reached; the process ends soon.
            RuntimeError: An event loop is running in this thread, or this worker is already running.
        """
        if _is_in_a_loop():
            raise RuntimeError(
                f'worker "{self.name}": start() would block the event loop that runs here (write "await '
                'worker.async_start()", or keep asyncio.create_task(worker.async_start()) and end it with "await '
                'worker.exit_gracefully()")'
            )
        if self._only_describes():
            return
        client = self._client()
        _log_to_stderr(debug=self._debug)
        with self._signals_handled():
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            try:
                with _steps_run_in(loop):
                    _run(loop, asyncio.wrap_future(self._serve(client, loop), loop=loop))
            except StepsOverran:
                _end_after_main(self._pace.close)
                raise
            except RequestRefused as refused:  # above the traceback that Python writes of it
                log.error("worker %s can't start: %s", self.name, refused)
                raise
            finally:
                self._is_over()
                _close(loop, within_seconds=self._pace.close)

    async def async_start(self) -> None:
        """Register, then run attempts beside whatever else this event loop does, until `exit_gracefully` or `stop`.

        Async steps run in this event loop, sync steps in threads. No signals are handled. If it is cancelled, it ends
        without waiting for steps: async ones are cancelled, sync ones have `Context.exit_flag` set, and the operator
        assigns them to another worker.

        Raises:
            NotConfigured: No operator's address is known.
            RequestRefused: The operator refused the registration.
            StepsOverran: The limit of steps that keep running after cancellation was reached; end the process.
            RuntimeError: This worker is already running.
        """
        if self._only_describes():
            return
        loop = asyncio.get_running_loop()
        client = await loop.run_in_executor(None, self._client)  # which imports gRPC
        try:
            with _steps_run_in(loop):
                await asyncio.wrap_future(self._serve(client, loop))
        finally:
            self._is_over()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the worker during the block, in this event loop: ``async with worker.running():``, as in a lifespan.

        The block begins when the worker is registered, so that it may start runs of its workflows at once; this waits
        as long as the operator is down. At the block's end, `exit_gracefully` is awaited.

        Raises:
            NotConfigured, RequestRefused, StepsOverran, RuntimeError: See `async_start`.
        """
        loop = asyncio.get_running_loop()
        registered = asyncio.Event()
        self._when_registered = lambda: _call_in(loop, registered.set)
        serving = asyncio.create_task(self.async_start())
        waiting = asyncio.create_task(registered.wait())
        try:
            await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the host gave up before the operator was there
            serving.cancel()
            await asyncio.wait((serving,))
            raise
        finally:
            self._when_registered = None
            waiting.cancel()
        if serving.done():
            serving.result()
        try:
            yield
        finally:
            if not serving.done():
                await self.exit_gracefully()
            await serving

    async def exit_gracefully(self) -> None:
        """Take nothing new, and wait until what is running is finished; `async_start` returns then."""
        self.stop()
        if self._serving is not None:
            ended = asyncio.wrap_future(self._serving)
            await asyncio.wait([ended])
            if not ended.cancelled():
                ended.exception()  # seen, and none of ours: async_start raises it

    def stop(self) -> None:
        """Take nothing new, finish what is running, then let `start` return. From any thread or signal handler."""
        self._stop_asked = True
        if self._stop is not None:
            self._stop()

    def _serve(self, client: "Client", step_loop: asyncio.AbstractEventLoop) -> "Future[None]":
        # In the I/O loop, and no task here: a step that cancels all tasks of its loop must not end the worker.
        self._serving = client.io.submit(self._hold_session(client, step_loop, contextvars.copy_context()))
        return self._serving

    async def _hold_session(
        self, client: "Client", step_loop: asyncio.AbstractEventLoop, variables: contextvars.Context
    ) -> None:
        from hatchet_sdk._runner.health import HealthOptions, HealthServer
        from hatchet_sdk._runner.session import Session, WorkerOptions

        options = WorkerOptions(
            name=self.name, max_runs=self._max_runs, max_overruns=self._max_overruns, labels=self._labels
        )
        session = Session(client, options, self._workflows, step_loop, variables, when_registered=self._tell)
        self._stop = lambda: _call_in(client.io.loop, session.stop)
        if self._stop_asked:
            session.stop()
        asked = HealthOptions.read(os.environ)
        health = HealthServer(asked, session.state, session.tally) if asked is not None else None
        if health is not None:
            log.info("worker %s tells its health and metrics at port %d", self.name, health.port)
        try:
            await session.run()
        finally:
            if health is not None:
                await asyncio.get_running_loop().run_in_executor(None, health.close)

    def _tell(self) -> None:
        self._registered.set()
        if (tell := self._when_registered) is not None:
            tell()

    def _is_over(self) -> None:
        self._serving = self._stop = None
        self._registered.clear()
        self._stop_asked = False

    def _only_describes(self) -> bool:
        if self._serving is not None:
            raise RuntimeError(f'worker "{self.name}" runs already')
        if not self._workflows:
            raise InvalidDefinition(f'worker "{self.name}" has no workflows; call register_workflow() before start()')
        if not (file := os.environ.get(DESCRIPTIONS_FILE)):
            return False
        self._describe_to(file)
        return True

    def _describe_to(self, file: str) -> None:
        from hatchet_sdk._runner.registration import description

        definitions = [definition for definition, _ in self._workflows]
        prefix = prefix_of(self._config, os.environ)
        line = description(self.name, definitions, max_runs=self._max_runs, prefix=prefix)
        with open(file, "a", encoding="utf-8") as descriptions:
            descriptions.write(line + "\n")

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        """Install handlers that work even while a step blocks the loop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._stop_asked:
                os._exit(128 + number)
            self.stop()

        forks.install_handlers(handle, (signal.SIGTERM, signal.SIGINT))
        try:
            yield
        finally:
            forks.restore_handlers()


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _steps_run_in(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    tracing.set_up()
    forks.note_step_loop(loop)
    stop_marking = output.install()
    try:
        yield
    finally:
        stop_marking()
        forks.forget_step_loop(loop)


def _run(loop: asyncio.AbstractEventLoop, served: "asyncio.Future[None]") -> None:
    """Run the loop until the worker's life is over, whatever steps throw into the loop."""
    while True:
        try:
            return loop.run_until_complete(served)
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio lets these two out of the loop when a task or callback raises them, here one that a step made.
            # Code that awaits that task gets the error as well.
            log.warning("code of a step raised %s in a task of its own; the worker goes on", class_name(error))
        except RuntimeError:
            if served.done() or loop.is_closed():
                raise
            log.warning("code of a step stopped the event loop of all steps; the worker goes on")


def _end_after_main(after_seconds: float) -> None:
    """Have this process end when its program has, though threads that overran hold an executor or the like."""
    over = threading.Event()
    # Private, and the one hook that comes before executors' threads are joined; atexit comes after.
    getattr(threading, "_register_atexit", atexit.register)(over.set)

    def end() -> None:
        over.wait()
        time.sleep(after_seconds)
        os._exit(1)

    threading.Thread(target=end, name="hatchet-end", daemon=True).start()


def _close(loop: asyncio.AbstractEventLoop, *, within_seconds: float) -> None:
    """End what steps left in the loop; without waiting forever, as asyncio.run would."""
    with suppress(SystemExit, KeyboardInterrupt):
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=within_seconds))
        loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)


def _log_to_stderr(*, debug: bool) -> None:
    """Show log lines, its own from INFO on, in a program that configured no logging."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        if root.level == logging.WARNING:  # as Python has it
            root.setLevel(logging.INFO)
        log.setLevel(logging.INFO)
    if debug:
        log.setLevel(logging.DEBUG)
    if problem := installation.conflict():
        log.warning("%s", problem)
