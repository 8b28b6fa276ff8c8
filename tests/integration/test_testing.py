"""`hatchet_sdk.testing` with the real operator: the tests of an example, run as a user runs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatchet_sdk import Context, Hatchet
from hatchet_sdk.testing import FakeContext, LocalServer
from tests.unit.test_documents import PYTHON, ROOT

EXAMPLE = ROOT / "examples" / "testing"


def test_the_tests_of_the_example_and_of_the_page_pass(tmp_path: Path) -> None:
    """From their own folder and without our settings, with every warning an error."""
    project = shutil.copytree(EXAMPLE, tmp_path / "testing")
    of_a_step, _, of_a_run = PYTHON.findall((ROOT / "docs" / "testing.md").read_text())
    (project / "tests" / "test_steps_of_page.py").write_text(of_a_step)
    (project / "tests" / "test_runs_of_page.py").write_text(of_a_run)
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
        cwd=project,
        env={**os.environ, "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


LARGE = "x" * 300_000
hatchet = Hatchet()  # for its decorators


@hatchet.workflow()
class Double:
    @hatchet.step()
    def double(self, context: Context) -> dict[str, str]:
        return {"text": context.workflow_input()["text"] * 2}


def test_a_local_server_may_have_a_store_of_payloads(tmp_path: Path) -> None:
    folder = tmp_path / "payloads"
    with LocalServer(payloads=folder) as server, server.worker(Double()):
        assert server.run("Double", {"text": LARGE}) == {"double": {"text": LARGE * 2}}
    assert len([file for file in folder.rglob("*") if file.is_file()]) == 2


def test_a_fake_context_may_have_one() -> None:
    context = FakeContext({"text": LARGE}, payloads=True)
    assert Double().double(context) == {"text": LARGE * 2}
    context.answer("Child", {"make": {"text": LARGE}})
    assert context.spawn_workflow("Child", {"text": LARGE}).sync_result() == {"make": {"text": LARGE}}
    with pytest.raises(ValueError, match="have the operator keep large ones in a payload store"):
        FakeContext({"text": LARGE})
