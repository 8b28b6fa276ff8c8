"""``hatchet-operator new``: what it writes runs as it is, and its tests pass."""

import json
import subprocess
import sys
from pathlib import Path


def hatchet_operator(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchet_operator", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_a_new_project_runs_and_its_tests_pass(tmp_path: Path) -> None:
    said = hatchet_operator("new", "word-count", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "cd word-count" in said.stdout
    project = tmp_path / "word-count"

    pages = '{"pages": ["to be", "or not to be"]}'
    ran = hatchet_operator("dev", "worker.py", "--run", "Report", "--input", pages, folder=project)
    assert json.loads(ran.stdout) == {"count": {"words": 6}}

    wrong = hatchet_operator("dev", "worker.py", "--run", "Report", "--input", '{"pages": "to be"}', folder=project)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "is no ReportInput: pages: Input should be a valid list (it is 'to be')" in wrong.stderr

    tested = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, text=True)
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr


def test_it_says_why_it_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said = hatchet_operator("new", "taken", folder=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "error: taken is there and not empty; name a folder that is to be made\n"
