"""The real kubectl, run as a user of the server under test."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kube.client import Json


@dataclass(frozen=True)
class Output:
    code: int
    out: str
    err: str

    def ok(self) -> str:
        assert self.code == 0, f"kubectl exited with {self.code}:\n{self.err}\n{self.out}"
        return self.out

    def json(self) -> Json:
        body: Json = json.loads(self.ok())
        return body

    def table(self) -> list[list[str]]:
        """Return the words of each line; a cell with a space in it becomes two words."""
        return [line.split() for line in self.ok().splitlines()]


class Kubectl:
    """Calls kubectl in one namespace, with a discovery cache of its own."""

    def __init__(self, binary: Path, *, kubeconfig: Path, namespace: str, home: Path) -> None:
        self._command = [str(binary), f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
        self._env = os.environ | {"HOME": str(home), "KUBECACHEDIR": str(home / "cache")}

    async def __call__(self, *args: str, stdin: Json | None = None) -> Output:
        process = await asyncio.create_subprocess_exec(
            *self._command, *args, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self._env
        )
        out, err = await process.communicate(json.dumps(stdin).encode() if stdin else None)
        assert process.returncode is not None
        return Output(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def following(self, *args: str) -> AsyncIterator[asyncio.StreamReader]:
        """Run a kubectl that does not end by itself, and give its output."""
        process = await asyncio.create_subprocess_exec(
            *self._command, *args, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=self._env
        )
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.terminate()
            await process.communicate()
