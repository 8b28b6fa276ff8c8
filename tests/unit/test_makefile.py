"""What the Makefile says of the Python that it is given, before it does anything with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return path


def old_python(path: Path) -> Path:
    """As an interpreter that is too old: it knows its version, and what it is asked to check is not so."""
    return script(path, 'if [ "$1" = --version ]; then echo "Python 3.10.13"; else exit 1; fi')


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # not as a part of the make that may run these tests, whose variables it would take over
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-f", str(MAKEFILE), *arguments], cwd=directory, capture_output=True, text=True, timeout=60, env=env
    )


@pytest.fixture(autouse=True)
def _needs_make() -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")


@pytest.mark.parametrize("name", ["python3.10", "no-such-python"])
def test_an_old_python_is_refused_in_words_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    python = old_python(tmp_path / "python3.10") if name == "python3.10" else tmp_path / name
    ended = make(tmp_path, "demo", f"PYTHON={python}")
    assert ended.returncode != 0
    assert f"error: {python} is " in ended.stderr
    assert "Python 3.11 or later is needed: make demo PYTHON=python3.12" in ended.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_virtual_environment_of_an_old_python_is_replaced(tmp_path: Path) -> None:
    old_python(tmp_path / ".venv" / "bin" / "python")
    works = script(tmp_path / "python3", 'case "$*" in *venv*) mkdir -p .venv/bin; touch .venv/made ;; esac')
    ended = make(tmp_path, ".venv/bin/python", f"PYTHON={works}")
    assert ".venv is of a Python older than 3.11" in ended.stdout
    assert (tmp_path / ".venv" / "made").exists()


def test_looking_at_the_help_changes_nothing(tmp_path: Path) -> None:
    old_python(tmp_path / ".venv" / "bin" / "python")
    for goal in ("help", "clean"):
        assert "it is replaced" not in make(tmp_path, "-n", goal).stdout
    assert (tmp_path / ".venv" / "bin" / "python").exists()
