"""Commands as processes of their own, and an API server for them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import CRDS, POOLS, RUNS
from hatchet_operator.errors import NotFound
from tests.kube.eventually import eventually

ENDS_WITHIN_SECONDS = 120.0


@asynccontextmanager
async def running(
    *arguments: str | Path,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bool = False,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``python -m`` with these arguments; it is killed in the end if it has not ended.

    Args:
        arguments: The module, and what it is given.
        directory: Where; None: here.
        environment: Beside ours, which says nothing of an operator.
        stdin: Whether it is to be given something to read; else it reads what we read.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HATCHET_CLIENT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE if stdin else None,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=directory,
        env=ours | dict(environment or {}),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stdout_of(*arguments: str | Path) -> str:
    async with running(*arguments) as process:
        stdout, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
        assert process.returncode == 0, stderr.decode()
        return stdout.decode()


async def end(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Ask a process to end; return its exit code and what it wrote to stderr."""
    process.send_signal(signal.SIGTERM)
    _, stderr = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def install_crds(api: Api) -> None:
    for crd in yaml.safe_load_all(await stdout_of("hatchet_operator", "crds")):
        await api.create(CRDS, None, crd)

    async def are_served() -> bool:
        try:
            await api.list_all(RUNS)
            await api.list_all(POOLS)
        except NotFound:
            return False
        return True

    await eventually(are_served)
