"""`hatchet_sdk.testing` with the real operator: the tests of an example, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "testing"


def test_the_tests_of_the_example_pass() -> None:
    """From its own folder and without our settings, with every warning an error."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest",
            "tests",
            "-c",
            os.devnull,
            "--rootdir",
            ".",
            "-p",
            "no:asyncio",
        ],
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
