"""A process that runs steps: user code in the main thread's loop and in threads, the operator in the I/O thread."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING

from hatchet_sdk._client.config import ClientConfig, prefix_of
from hatchet_sdk._runner.definition import WorkflowDefinition, definition_of
from hatchet_sdk.errors import InvalidDefinition

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk._runner.session import Session

log = logging.getLogger("hatchet_sdk")

DESCRIPTIONS_FILE = "HATCHET_DESCRIPTIONS_FILE"
"""Environment variable: a worker that starts only appends to this file what it would register."""


class Worker:
    """Takes attempts of the steps of its workflows. Made by ``hatchet.worker(name)``."""

    def __init__(
        self,
        name: str,
        client: "Callable[[], Client]",
        *,
        config: ClientConfig,
        max_runs: int | None,
        labels: Mapping[str, str | int],
        debug: bool,
    ) -> None:
        if not name:
            raise ValueError("the worker's name is empty")
        if max_runs is not None and max_runs < 1:
            raise ValueError(f'worker "{name}": max_runs is {max_runs} (expected 1 or more)')
        self.name = name
        self._client = client
        self._config = config
        self._max_runs = max_runs
        self._labels = labels
        self._debug = debug
        self._workflows: list[tuple[WorkflowDefinition, object]] = []
        self._stop_asked = False
        self._stop: Callable[[], None] | None = None

    def register_workflow(self, workflow: object) -> None:
        """Add an instance of a class decorated with ``@hatchet.workflow()``; it is sent when the worker starts."""
        definition = definition_of(workflow)
        for other, _ in self._workflows:
            if other.name.lower() == definition.name.lower():
                raise InvalidDefinition(
                    f'worker "{self.name}" has workflow "{other.name}" already; "{definition.name}" is the same name '
                    "(names are compared in lower case)"
                )
        self._workflows.append((definition, workflow))

    def start(self) -> None:
        """Register, then run attempts until SIGTERM or SIGINT; what runs then is finished first.

        Waits for the operator for as long as it is away. A second signal ends the process at once. In another thread
        than the main one signals are not handled; use `stop`.

        Where the variable HATCHET_DESCRIPTIONS_FILE names a file, it only appends to it what would be registered, as a
        line of JSON: ``hatchet-operator manifests`` asks programs so.

        Raises:
            NotConfigured: No operator's address is known.
            RequestRefused: The operator refused the registration.
        """
        if not self._workflows:
            raise InvalidDefinition(f'worker "{self.name}" has no workflows; call register_workflow() before start()')
        if file := os.environ.get(DESCRIPTIONS_FILE):
            self._describe_to(file)
            return
        client = self._client()
        _log_to_stderr(debug=self._debug)
        restore = self._handle_signals()
        try:
            asyncio.run(self._work(client))
        finally:
            restore()
            self._stop_asked = False

    def stop(self) -> None:
        """Take nothing new, finish what runs, then let `start` return. From any thread or signal handler."""
        self._stop_asked = True
        if self._stop is not None:
            self._stop()

    async def _work(self, client: "Client") -> None:
        loop = asyncio.get_running_loop()
        client.step_loop = loop
        session = await asyncio.wrap_future(client.io.submit(self._make_session(client, loop)))
        self._stop = lambda: _call_in(client.io.loop, session.stop)
        if self._stop_asked:
            session.stop()
        try:
            await asyncio.wrap_future(client.io.submit(session.run()))
        finally:
            client.step_loop = self._stop = None

    async def _make_session(self, client: "Client", step_loop: asyncio.AbstractEventLoop) -> "Session":
        from hatchet_sdk._runner.session import Session, WorkerOptions

        options = WorkerOptions(name=self.name, max_runs=self._max_runs, labels=self._labels)
        return Session(client, options, self._workflows, step_loop)

    def _describe_to(self, file: str) -> None:
        from hatchet_sdk._runner.registration import description

        definitions = [definition for definition, _ in self._workflows]
        prefix = prefix_of(self._config, os.environ)
        line = description(self.name, definitions, max_runs=self._max_runs, prefix=prefix)
        with open(file, "a", encoding="utf-8") as descriptions:
            descriptions.write(line + "\n")

    def _handle_signals(self) -> Callable[[], None]:
        """Install handlers that work even while a step blocks the loop; return what restores the old ones."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def handle(number: int, frame: FrameType | None) -> None:
            if self._stop_asked:
                os._exit(128 + number)
            self.stop()

        previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)


def _log_to_stderr(*, debug: bool) -> None:
    """Show our log lines in a program that configured no logging."""
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        log.setLevel(logging.INFO)
    if debug:
        log.setLevel(logging.DEBUG)
