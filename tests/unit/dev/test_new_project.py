"""``hatchet-operator new``: what it writes is in good order; tests/integration/test_new_project.py runs it."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hatchet_operator_dev.errors import DevError
from hatchet_operator_dev.new_project import write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path / "word-count")
    return tmp_path / "word-count"


def test_nothing_of_the_template_is_left_in_it(project: Path) -> None:
    texts = {path: path.read_text() for path in project.rglob("*") if path.is_file() and "schemas" not in path.parts}
    assert {path.name for path in texts} >= {"worker.py", "Dockerfile", ".dockerignore", "ci.yaml", "README.md"}
    assert [path for path, text in texts.items() if "$name" in text or "$$" in text or path.suffix == ".template"] == []


def test_it_has_the_folder_s_name(project: Path) -> None:
    pool = yaml.safe_load((project / "deploy/pool.yaml").read_text())
    assert pool["metadata"]["name"] == "word-count"
    assert 'hatchet.worker("word-count"' in (project / "worker.py").read_text()


def test_the_run_to_apply_has_an_input_that_its_workflow_takes(project: Path) -> None:
    run = yaml.safe_load((project / "deploy/run.yaml").read_text())
    program = runpy.run_path(str(project / "worker.py"))
    assert program["ReportInput"].model_validate(run["spec"]["input"]).pages == ["to be", "or not to be"]
    assert "pydantic" in (project / "requirements.txt").read_text(), "the worker's base image has none"


def test_editors_find_the_schemas(project: Path) -> None:
    settings = json.loads((project / ".vscode/settings.json").read_text())
    for schema, pattern in settings["yaml.schemas"].items():
        assert (project / schema).is_file()
        for manifest in project.glob(pattern):
            named = manifest.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
            assert (manifest.parent / named).resolve() == (project / schema).resolve()


def test_it_is_formatted_and_has_types(project: Path) -> None:
    sdk = {"MYPYPATH": str(Path(__file__).parents[3] / "sdk")}  # mypy doesn't find what pip installed editable
    for words in (["ruff", "format", "--check"], ["ruff", "check"], ["mypy", "--no-incremental"]):
        command = [sys.executable, "-m", *words, "."]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=os.environ | sdk)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "instead"), [("My Flow", "my-flow"), ("9lives", "lives"), ("a_b", "a-b"), ("é", "my-workflows")]
)
def test_a_name_that_no_pool_can_have_is_refused(tmp_path: Path, name: str, instead: str) -> None:
    with pytest.raises(DevError, match=f'as in "{instead}"'):
        write_project(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(DevError, match="is there and not empty"):
        write_project(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write_project(tmp_path / "mine")
    assert (tmp_path / "mine/worker.py").exists()
