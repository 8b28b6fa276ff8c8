"""A real S3 server as a process of its own: versitygw, which serves a folder, and checks signatures.

`make test` builds it, where Go is at hand. HATCHET_TEST_S3_SERVER names another versitygw.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.harness import ROOT, Process, free_port
from tests.kube.eventually import eventually

BUCKET = "payloads"
REGION = "eu-central-1"
KEY_ID, SECRET = "test-key-id", "test-secret-of-the-bucket"


def find_server() -> str | None:
    """Return the program, if it is there."""
    built = ROOT / ".venv" / "s3" / "versitygw"
    return os.environ.get("HATCHET_TEST_S3_SERVER") or (str(built) if built.exists() else shutil.which("versitygw"))


class S3Server:
    """The server; it may be killed and started again."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self.folder = directory / "buckets" / BUCKET
        self.folder.mkdir(parents=True)
        (directory / "sidecar").mkdir()
        self.port = free_port()
        self._process: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients need."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    async def start(self) -> None:
        command = [self._program, "--quiet", "--port", f"127.0.0.1:{self.port}", "--region", REGION]
        # in files of their own and not in attributes of files, which not every file system has
        command += ["posix", "--sidecar", str(self._directory / "sidecar"), str(self.folder.parent)]
        environment = {"ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": SECRET}
        self._process = Process("s3-server", command, directory=self._directory, environment=environment)

        async def answers() -> bool:
            assert self._process is not None
            assert self._process.is_alive, self._process.tail()
            return _listens(self.port)

        await eventually(answers, within_seconds=60)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def stored(self) -> list[Path]:
        """Return the objects, as the files that they are."""
        # not rglob(), which fails for a folder that is removed meanwhile
        return [Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names if len(name) == 64]


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server | None]:
    """Prepare a server; None: there is no program."""
    program = find_server()
    if program is None:
        yield None
        return
    subprocess.run([program, "--version"], check=True, capture_output=True)
    server = S3Server(program, directory)
    try:
        yield server
    finally:
        server.kill()
