"""The published SDK and ours in one environment: both say so, the command line and the worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import hatchet_operator.installation
import hatchet_sdk._runner.installation

BOTH = {"hatchet-sdk": "0.47.1", "hatchet-operator-sdk": "0.1.0"}


def versions(installed: Mapping[str, str]) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        try:
            return installed[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    return version_of


@pytest.mark.parametrize(
    "conflict", [hatchet_operator.installation.conflict, hatchet_sdk._runner.installation.conflict]
)
def test_who_has_one_of_them_is_told_nothing(conflict: Callable[[Callable[[str], str]], str | None]) -> None:
    for name, version in BOTH.items():
        assert conflict(versions({name: version})) is None
    assert "hatchet-sdk 0.47.1 and hatchet-operator-sdk 0.1.0 are both" in (conflict(versions(BOTH)) or "")


@pytest.fixture
def with_the_published_one(tmp_path: Path) -> dict[str, str]:
    """An environment where it is installed, as far as pip wrote that down."""
    described = tmp_path / "hatchet_sdk-0.47.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: hatchet-sdk\nVersion: 0.47.1\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_dev_refuses_it(with_the_published_one: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "hatchet_operator", "dev"], env=with_the_published_one, capture_output=True, text=True
    )
    assert ended.returncode == 2
    want = (
        r"error: hatchet-sdk 0.47.1 and hatchet-operator-sdk \S+ are both installed .* -m pip uninstall -y hatchet-sdk "
    )
    assert re.match(want, ended.stderr)


def test_a_worker_says_it_when_it_starts(with_the_published_one: dict[str, str]) -> None:
    program = """
from hatchet_sdk._runner.worker import _log_to_stderr
_log_to_stderr(debug=False)
"""
    ended = subprocess.run([sys.executable, "-c", program], env=with_the_published_one, capture_output=True, text=True)
    assert "WARNING hatchet_sdk: hatchet-sdk 0.47.1 and hatchet-operator-sdk" in ended.stderr
