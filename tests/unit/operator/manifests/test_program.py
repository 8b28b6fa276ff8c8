"""What is learnt of a program by running it."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path
from typing import Any, NoReturn

import pytest

from hatchet_operator.errors import ConfigurationError
from hatchet_operator.manifests.program import WorkerDescription, describe_workers
from tests.unit.sdk.fake_operator import eventually

HEAD = """
import os, sys, time
from hatchet_sdk import ClientConfig, Context, Hatchet

hatchet = Hatchet()

class Etl:
    @hatchet.step()
    def extract(self, context: Context):
        return {}

def start(hatchet=hatchet, name="etl", workflow="Etl", **options):
    worker = hatchet.worker(name, **options)
    worker.register_workflow(hatchet.workflow(name=workflow)(type("W", (Etl,), {}))())
    worker.start()
"""


def write(directory: Path, program: str) -> Path:
    path = directory / "here" / "app.py"
    path.parent.mkdir()
    path.write_text(HEAD + textwrap.dedent(program))
    return path


def describe(directory: Path, program: str) -> list[tuple[str, int | None, list[str]]]:
    return [as_row(worker) for worker in describe_workers(write(directory, program))]


def as_row(worker: WorkerDescription) -> tuple[str, int | None, list[str]]:
    return worker.name, worker.slots, [workflow.name for workflow in worker.workflows]


@pytest.mark.parametrize(
    ("program", "want"),
    [
        pytest.param("start()", [("etl", None, ["Etl"])], id="a worker"),
        pytest.param("start(max_runs=7)", [("etl", 7, ["Etl"])], id="its slots"),
        pytest.param(
            "if __name__ == '__main__': start()", [("etl", None, ["Etl"])], id="one that only a program starts"
        ),
        pytest.param(
            "start(name='a'); start(name='b', workflow='Other')",
            [("a", None, ["Etl"]), ("b", None, ["Other"])],
            id="two, one after the other",
        ),
        pytest.param(
            "start(Hatchet(config=ClientConfig(namespace='Team')))",
            [("team_etl", None, ["team_Etl"])],
            id="the prefix of its names",
        ),
        pytest.param(
            "start(Hatchet(config=ClientConfig(host_port='127.0.0.1:9', token='t', tls_root_ca_file='/nowhere')))",
            [("etl", None, ["Etl"])],
            id="one that knows its operator, which is not asked",
        ),
        pytest.param(
            "start(name=os.path.basename(os.getcwd()), workflow=os.environ.get('HATCHET_CLIENT_TOKEN', 'none'))",
            [("here", None, ["none"])],
            id="in its own folder, without what leads to an operator",
        ),
    ],
)
def test_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, want: list[tuple[str, int | None, list[str]]]
) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_TOKEN", "production's")
    monkeypatch.setenv("HATCHET_CLIENT_NAMESPACE", "mine")
    assert describe(tmp_path, program) == want


def test_definitions_are_what_would_be_registered(tmp_path: Path) -> None:
    (worker,) = describe_workers(write(tmp_path, "start()"))
    (step,) = worker.workflows[0].steps
    assert (step.name, step.action) == ("extract", "etl:extract")


@pytest.mark.parametrize(
    ("program", "want"),
    [
        pytest.param("", "ended without starting a worker; name the file that your pods run", id="starts none"),
        pytest.param("1 / 0", "failed (exit code 1); what it says is above", id="raises"),
        pytest.param("start(); sys.exit(3)", "failed (exit code 3)", id="fails afterwards"),
        pytest.param("os.kill(os.getpid(), 9)", "was ended by SIGKILL", id="is killed"),
    ],
)
def test_a_program_that_says_nothing_is_refused(tmp_path: Path, program: str, want: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        describe(tmp_path, program)
    assert str(refused.value).startswith(f"{tmp_path}/here/app.py {want}")


@pytest.mark.parametrize(
    ("program", "is_patient", "want"),
    [
        pytest.param("time.sleep(60)", False, "has not started a worker", id="before its worker"),
        pytest.param("start(); time.sleep(60)", True, "goes on after worker.start() returned", id="after its worker"),
    ],
)
def test_a_program_that_does_not_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, is_patient: bool, want: str
) -> None:
    if is_patient:
        monkeypatch.setattr(subprocess, "run", run_until_it_started_its_worker)
    with pytest.raises(ConfigurationError) as refused:
        describe_workers(write(tmp_path, program), patience_seconds=1)
    assert want in str(refused.value)


def run_until_it_started_its_worker(
    command: list[str], *, env: dict[str, str], timeout: float, check: bool, **options: Any
) -> NoReturn:
    """Be as patient with a program as it needs: how long it takes to start is the machine's affair."""
    with subprocess.Popen(command, env=env, **options) as process:
        try:
            eventually(lambda: Path(env["HATCHET_DESCRIPTIONS_FILE"]).stat().st_size)
        finally:
            process.kill()
    raise subprocess.TimeoutExpired(command, timeout)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file .*/app.py"):
        describe_workers(tmp_path / "app.py")


def test_a_trigger_in_the_program_fails_instead_of_making_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_HOST_PORT", "127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="failed"):
        describe(tmp_path, "hatchet.admin.run_workflow('Etl', {}); start()")
    out, err = capfd.readouterr()
    assert "NotConfigured: The address of hatchet-operator is not configured" in err
    assert out == ""


def test_what_the_program_prints_is_not_among_the_objects(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    describe(tmp_path, "print('loading'); start()")
    assert capfd.readouterr() == ("", "loading\n")
