import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hatchet_sdk import ClientConfig, Hatchet, Worker
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually

ROOT = Path(__file__).parents[3]


@pytest.fixture
def operator() -> Iterator[FakeOperator]:
    fake = FakeOperator()  # type: ignore[abstract]  # what is missing answers UNIMPLEMENTED
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def pace() -> Pace:
    """How long the SDK waits for what; a test may have it parametrized."""
    return Pace()


@pytest.fixture
def hatchet(operator: FakeOperator, pace: Pace) -> Hatchet:
    return paced(pace, ClientConfig(host_port=operator.address, token="secret", tls_strategy="none"))


@pytest.fixture
def working(hatchet: Hatchet, operator: FakeOperator) -> Iterator[Callable[..., None]]:
    """Start a worker in a thread of this process with the given workflows; at the end it is told to stop, and does.

    The thread has the context variables of whoever starts it.
    """
    started: list[tuple[Worker, threading.Thread]] = []

    def start(*registered: object, **options: object) -> None:
        worker = hatchet.worker("tester", **options)  # type: ignore[arg-type]
        for workflow in registered:
            worker.register_workflow(workflow)
        thread = threading.Thread(target=contextvars.copy_context().run, args=(worker.start,), daemon=True)
        thread.start()
        started.append((worker, thread))
        eventually(lambda: operator.streams)

    yield start
    for worker, thread in started:
        worker.stop()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "the worker does not stop"


@contextmanager
def worker_process(script: Path, operator: FakeOperator) -> Iterator[subprocess.Popen[str]]:
    """Run a worker program; it is killed in the end if it did not exit."""
    environment = {
        **os.environ,
        "HATCHET_CLIENT_HOST_PORT": operator.address,
        "HATCHET_CLIENT_TOKEN": "secret",
        "HATCHET_CLIENT_TLS_STRATEGY": "none",
        "HATCHET_POD_NAME": "pod-1",
        "HATCHET_POD_UID": "uid-1",
    }
    with subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
