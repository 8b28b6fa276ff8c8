"""Microsoft's emulator of Azure's Blob Storage as a process of its own: Azurite, which checks signatures.

`make test` installs it, where npm is at hand. HATCHET_TEST_AZURE_SERVER names another azurite-blob.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from tests.integration.harness import ROOT, Process, free_port
from tests.kube.eventually import eventually

ACCOUNT, CONTAINER = "devaccount", "payloads"
KEY = base64.b64encode(b"a key of the tests' own, of 64 bytes, as that of an account has.").decode()
_VERSION = "2021-08-06"


def find_server() -> str | None:
    """Return the program, if it is there."""
    built = ROOT / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    named = os.environ.get("HATCHET_TEST_AZURE_SERVER")
    return named or (str(built) if built.exists() else shutil.which("azurite-blob"))


class AzureServer:
    """The server, with one empty container."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self.port = free_port()
        self._process: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients need."""
        return {"AZURE_STORAGE_ACCOUNT_KEY": KEY, "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/{ACCOUNT}"}

    async def start(self) -> None:
        command = [self._program, "--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
        command += ["--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        environment = {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        self._process = Process("azure-server", command, directory=self._directory, environment=environment)

        async def holds() -> bool:
            assert self._process is not None
            assert self._process.is_alive, self._process.tail()
            try:
                return await self._create_container() == 201
            except aiohttp.ClientConnectionError:
                return False

        await eventually(holds, within_seconds=60)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def _create_container(self) -> int:
        """Ask for the container, which the store's library can't, signed with the account's key."""
        date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        said = {"x-ms-date": date, "x-ms-version": _VERSION}
        headers = "".join(f"{name}:{value}\n" for name, value in said.items())
        text = "PUT" + "\n" * 12 + f"{headers}/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        url = f"http://127.0.0.1:{self.port}/{ACCOUNT}/{CONTAINER}?restype=container"
        async with (
            aiohttp.ClientSession(headers={**said, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}) as http,
            http.put(url, skip_auto_headers=("Content-Type",)) as response,
        ):
            return response.status
