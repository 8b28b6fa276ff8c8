"""Fixtures for pytest: ``pytest_plugins = ["hatchet_sdk.testing.plugin"]`` in the conftest.py at your tests' root."""

from collections.abc import Iterator

import pytest

from hatchet_sdk.testing.local_server import LocalServer


@pytest.fixture(scope="session")
def hatchet_server() -> Iterator[LocalServer]:
    """The real operator, started once for all tests; the environment's HATCHET_CLIENT_… point to it meanwhile."""
    with LocalServer() as server, pytest.MonkeyPatch.context() as patched:
        for name in ("HATCHET_CLIENT_NAMESPACE", "HATCHET_CLIENT_TOKEN_FILE"):
            patched.delenv(name, raising=False)
        for name, value in server.environment.items():
            patched.setenv(name, value)
        yield server
