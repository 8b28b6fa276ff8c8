"""What ends a command before its work does, in words: a bad value, a file that can't be used, a closed stream."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import hatchet_cli.app
import hatchet_operator.cli
from hatchet_cli.arguments import place_first
from hatchet_operator.errors import ApiError, NotFound, Refused, words_for_people
from hatchet_operator.options import run_name


@pytest.mark.parametrize(
    ("app", "command", "said"),
    [
        (
            "hatchet-operator",
            "dev worker.py --workers 2x",
            "'--workers': \"2x\" is not a whole number; expected 0 to 100",
        ),
        ("hatchet-operator", "dev worker.py --workers 101", "'--workers': 101 is out of bounds; expected 0 to 100"),
        ("hatchet-operator", "dev worker.py --port -1", "'--port': -1 is out of bounds; expected 0 to 65535"),
        ("hatchet-operator", "dev worker.py --output yaml", "'yaml' is none of 'text', 'json'\n"),
        ("hatchet-operator", "logs run --attempt 0", "'--attempt': 0 is out of bounds; expected 1 or more"),
        ("hatchet-operator", "events push key --priority 4", "'--priority': 4 is out of bounds; expected 1 to 3"),
        ("hatchet-operator", "completion tcsh", "'tcsh' is none of 'bash', 'zsh', 'fish'\n"),
        ("hatchet", "run Etl --priority high", "'--priority': \"high\" is not a whole number; expected 1 to 3"),
        ("hatchet", "list --phase done", "'done' is none of 'pending', 'running', 'succeeded', 'failed', 'cancelled'"),
        ("hatchet", "list --since 12", "'--since': \"12\" is not a duration; expected a number and a unit"),
        ("hatchet", "run Etl --input @nofile", "--input: nofile can't be read: No such file or directory\n"),
    ],
)
def test_a_bad_value_is_refused_in_our_words(app: str, command: str, said: str) -> None:
    apps: Mapping[str, typer.Typer] = {"hatchet": hatchet_cli.app.app, "hatchet-operator": hatchet_operator.cli.app}
    result = CliRunner().invoke(apps[app], command.split())
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("typed", ["etl-7", "wfr/etl-7", "WorkflowRun/etl-7", "workflowrun.hatchet-operator.dev/etl-7"])
def test_a_run_is_named_as_kubectl_names_it(typed: str) -> None:
    assert run_name(typed) == "etl-7"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refused("runs are forbidden", status=403), 'runs are forbidden (the cluster\'s role "view" may look at runs'),
        (NotFound("there is no run", status=404), "there is no run"),
    ],
)
def test_a_missing_right_is_said_with_the_role_that_has_it(error: ApiError, said: str) -> None:
    words = words_for_people(error)
    assert words.startswith(said)
    assert ("RoleBinding" in words) is (error.status == 403)


def test_another_object_is_no_run() -> None:
    result = CliRunner().invoke(hatchet_cli.app.app, ["why", "pod/etl-7"])
    assert '"pod/etl-7" is not a run; expected its name, as in etl-7 or wfr/etl-7' in result.output
    assert result.exit_code == 2


@pytest.mark.parametrize("phase", ["failed", "FAILED", "Failed"])
def test_a_phase_may_be_typed_in_any_case(phase: str, tmp_path: Path) -> None:
    given = ["--kubeconfig", str(tmp_path / "none"), "list", "--phase", phase]
    result = CliRunner().invoke(hatchet_cli.app.app, given)
    assert f"there is no kubeconfig {tmp_path}/none; name one with --kubeconfig" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("list -n etl", "-n etl list"),
        ("-n etl list", "-n etl list"),
        ("logs run --context here --children --namespace=etl", "--context here --namespace=etl logs run --children"),
        ("list -n", "-n list"),
        ("run --name x -- -n", "run --name x -- -n"),
    ],
)
def test_the_cluster_may_be_said_after_the_command(typed: str, read: str) -> None:
    assert place_first(typed.split()) == read.split()


def test_options_of_the_place_are_taken_after_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(hatchet_cli.app.app, ["list", "-n", "etl", "--kubeconfig", str(tmp_path / "none")])
    assert f"there is no kubeconfig {tmp_path}/none" in result.output


def shell(command: str) -> subprocess.CompletedProcess[str]:
    command = command.replace("hatchet-operator", f"{sys.executable} -m hatchet_operator")
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("new {file}/project", "{file}/project: Not a directory"),
        ("crds --schemas {file}/schemas", "{file}/schemas"),
        ("dev {file}/worker.py", "there is no file {file}/worker.py"),
        ("dev --payloads {file}/store", "{file}/store: Not a directory"),
        pytest.param(
            "crds >/dev/full",
            "the output can't be written: No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here"),
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(command: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = shell("hatchet-operator " + command.format(file=file))
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert said.format(file=file) in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    done = shell(f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && hatchet-operator new it")
    assert done.stderr == "error: the working directory is gone; change to one that is there\n"
    assert done.returncode == 1


def test_a_limit_of_files_under_which_dev_would_be_aborted_is_said() -> None:
    done = shell("ulimit -n 64; hatchet-operator dev")
    assert (done.returncode, done.stderr) == (
        2,
        "error: a process of this shell may open 64 files, and dev needs 128; "
        'run "ulimit -n 4096", in a new shell if this one refuses it\n',
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_command_works_with_closed_streams(closed: str, tmp_path: Path) -> None:
    done = shell(f"hatchet-operator crds --schemas {tmp_path} {closed} && hatchet-operator crds {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "all.json").exists()
