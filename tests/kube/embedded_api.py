"""The embedded API server as a process of its own, with the interface of `RealApi`.

It speaks TLS here, as the real one does: kubectl sends no token over a plain connection.
"""

from __future__ import annotations

import atexit
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.kube.real_api import ApiEndpoint, ServerFailedError, die_with_parent, end, write_kubeconfig

_START_SECONDS = 60.0


class EmbeddedApi:
    """An embedded API server on a free loopback port.

    Args:
        directory: Holds its certificate and log; ``None`` makes a temporary one, removed by `stop`.
        args: More arguments for ``python -m hatchet_operator_dev.apiserver``.
    """

    def __init__(self, directory: Path | None = None, *, args: Sequence[str] = ()) -> None:
        self._owns_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="embedded-api-"))
        self._args = tuple(args)
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint: ApiEndpoint | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> ApiEndpoint:
        if self._endpoint is None:
            raise ServerFailedError("the API server is not started")
        return self._endpoint

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def token(self) -> str:
        return self.endpoint.token

    @property
    def kubeconfig(self) -> Path:
        return self.endpoint.kubeconfig

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each component, as `RealApi` has them."""
        return {"apiserver": self._process.pid} if self._process else {}

    def start(self) -> None:
        """Start it and return once it serves.

        Raises:
            ServerFailedError: It ended, or was not ready in time.
        """
        atexit.register(self.stop)
        token = secrets.token_urlsafe(24)
        ready_file = self.directory / "ready.json"
        ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "hatchet_operator_dev.apiserver", "--port=0", "--tls", f"--token={token}"]
        with (self.directory / "apiserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*die_with_parent(), *command, f"--ready-file={ready_file}", *self._args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(ready_file)
        except BaseException:
            self.stop()
            raise
        ready = json.loads(ready_file.read_text())
        ca_file = self.directory / "ca.crt"
        ca_file.write_text(ready["ca"])
        kubeconfig = self.directory / "kubeconfig"
        self._endpoint = ApiEndpoint(url=ready["url"], token=token, ca_file=ca_file, kubeconfig=kubeconfig)
        write_kubeconfig(self._endpoint)

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        atexit.unregister(self.stop)
        if self._process:
            end(self._process)
        self._process = None
        self._endpoint = None
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def forget_history(self) -> None:
        """Have the server forget old versions: whoever asks for one is told that it expired."""
        self._control("/_compact", None)

    def inject(self, *rules: dict[str, object]) -> None:
        """Add rules to its fault injector, see `hatchet_operator_dev.apiserver.faults`."""
        self._control("/_faults", list(rules))

    def put(self, objects: list[dict[str, object]]) -> None:
        """Store objects past all checks."""
        self._control("/_objects", objects)

    def _control(self, path: str, body: object) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method="POST", headers=headers)
        context = self.endpoint.ssl_context()
        with urllib.request.urlopen(request, timeout=60, context=context):
            pass

    def _wait_until_ready(self, ready_file: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while not ready_file.exists():
            log = (self.directory / "apiserver.log").read_text(errors="replace")[-4000:]
            if self._process.poll() is not None:
                raise ServerFailedError(f"the embedded API server ended with {self._process.returncode}:\n{log}")
            if time.monotonic() > deadline:
                raise ServerFailedError(f"not ready within {_START_SECONDS:.0f} s\n{log}")
            time.sleep(0.02)
