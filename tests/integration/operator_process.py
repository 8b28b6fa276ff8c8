"""The operator as a process that tests kill: ``python -m tests.integration.operator_process URL SETTINGS READY_FILE``.

SETTINGS is a JSON object of `Settings`' fields, durations in seconds. READY_FILE appears when workers are let in.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.operator import Operator
from hatchet_operator.settings import Settings, settings_table


class FieldsFormatter(logging.Formatter):
    """Appends the fields of a record, which the plain formatter leaves out."""

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        given = {name: value for name, value in vars(record).items() if name not in self._STANDARD}
        return super().format(record) + (f"  {given}" if given and not record.name.startswith("kopf") else "")


def read_settings(text: str) -> Settings:
    durations = {row.name for row in settings_table() if row.kind is timedelta}
    given: dict[str, Any] = {
        key: timedelta(seconds=value) if key in durations else value for key, value in json.loads(text).items()
    }
    return Settings(**given)


async def serve(url: str, settings: Settings, when_ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def install_signal_handlers() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    install_signal_handlers()
    operator = Operator(settings, Endpoint(server=url), install_signal_handlers=install_signal_handlers)
    running = asyncio.create_task(operator.run(stop))
    becoming_ready = asyncio.create_task(operator.ready.wait())
    await asyncio.wait((running, becoming_ready), return_when=asyncio.FIRST_COMPLETED)
    if operator.ready.is_set():
        when_ready()
    becoming_ready.cancel()
    await running


def main() -> None:
    url, settings, ready_file = sys.argv[1:]
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(url, read_settings(settings), Path(ready_file).touch))


if __name__ == "__main__":
    main()
