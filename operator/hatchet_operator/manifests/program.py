"""Finds out what the workers of a Python file would register.

The file is run as a pool's pods would run it, up to ``worker.start()``, which here writes a line of JSON instead of
connecting. So computed names are correct, and nothing has to be guessed from the classes of a module.

The trap: whatever else the program does before that, it does here too; so its environment leads to no operator.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from hatchet_operator.dispatcher.v0.translation.workers import registration_request
from hatchet_operator.dispatcher.v0.translation.workflows import workflow_definition
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.resources.workflow import WorkflowDefinition
from hatchet_sdk.contracts.dispatcher_pb2 import WorkerRegisterRequest
from hatchet_sdk.contracts.workflows_pb2 import PutWorkflowRequest

PATIENCE_SECONDS = 60.0
_DESCRIPTIONS_FILE = "HATCHET_DESCRIPTIONS_FILE"  # read by the SDK, hatchet_sdk._runner.worker


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerDescription:
    """What one worker would register.

    Attributes:
        name: The worker's.
        slots: Attempts at a time; None: it leaves that to the pool.
        workflows: Not yet checked to be graphs.
    """

    name: str
    slots: int | None
    workflows: tuple[WorkflowDefinition, ...]


def describe_workers(program: Path, *, patience_seconds: float = PATIENCE_SECONDS) -> list[WorkerDescription]:
    """Run a program and return the workers that it starts; its output goes to stderr.

    Raises:
        ConfigurationError: There is no such file, it fails, starts no worker, or does not end.
        RequestError: A registration would be refused.
    """
    if not program.is_file():
        raise ConfigurationError(f"there is no file {program}; name a Python file that starts a worker")
    with tempfile.TemporaryDirectory(prefix="hatchet-manifests-") as directory:
        file = Path(directory, "descriptions")
        file.touch()
        try:
            exit_code = _run(program.resolve(), file, patience_seconds)
        except subprocess.TimeoutExpired as error:
            started = "goes on after worker.start() returned" if file.stat().st_size else "has not started a worker"
            raise ConfigurationError(
                f"{program} {started}, {patience_seconds:g} s after it began; manifests runs the file as it is, and "
                "it has to reach worker.start() and then its end"
            ) from error
        if exit_code:
            raise ConfigurationError(f"{program} {_how(exit_code)}; what it says is above")
        lines = file.read_bytes().splitlines()
    if not lines:
        raise ConfigurationError(
            f"{program} ended without starting a worker; name the file that your pods run, which calls worker.start()"
        )
    return [_read(orjson.loads(line)) for line in lines]


def _run(program: Path, descriptions: Path, patience_seconds: float) -> int:
    """Run the program in its own folder, as ``python worker.py`` there would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HATCHET_CLIENT_")}
    return subprocess.run(  # noqa: S603  # the program of the user who runs this command
        [sys.executable, str(program)],
        cwd=program.parent,
        env=environment | {_DESCRIPTIONS_FILE: str(descriptions)},
        stdin=subprocess.DEVNULL,
        stdout=2,  # our stdout is for the objects
        timeout=patience_seconds,
        check=False,
    ).returncode


def _how(exit_code: int) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"failed (exit code {exit_code})"


def _read(line: Mapping[str, Any]) -> WorkerDescription:
    """Read a description as the operator reads a registration."""
    worker = registration_request(ParseDict(line["worker"], WorkerRegisterRequest(), ignore_unknown_fields=True))
    requests = [ParseDict(each, PutWorkflowRequest(), ignore_unknown_fields=True) for each in line["workflows"]]
    return WorkerDescription(
        name=worker.name,
        slots=worker.slots,
        workflows=tuple(workflow_definition(request.opts) for request in requests),
    )
