"""The published SDK and ours in one environment: both say so, the command line and the worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distributions
from pathlib import Path
from types import SimpleNamespace

import pytest

import hatchet_operator.installation
from hatchet_sdk._runner import installation

BOTH = {"hatchet-sdk": "0.47.1", "hatchet-operator-sdk": "0.1.0"}


def versions(installed: Mapping[str, str]) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        try:
            return installed[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    return version_of


@pytest.mark.parametrize("conflict", [hatchet_operator.installation.conflict, installation.conflict])
def test_who_has_one_of_them_is_told_nothing(conflict: Callable[[Callable[[str], str]], str | None]) -> None:
    for name, version in BOTH.items():
        assert conflict(versions({name: version})) is None
    assert "hatchet-sdk 0.47.1 and hatchet-operator-sdk 0.1.0 are both" in (conflict(versions(BOTH)) or "")


def test_an_operator_without_sdk_says_what_to_install() -> None:
    assert hatchet_operator.installation.problem() is None
    problem = hatchet_operator.installation.problem(lambda _: None) or ""
    assert "hatchet-operator-sdk is not installed beside hatchet-operator" in problem
    assert "-m pip install FOLDER/sdk" in problem
    # -S: a Python that sees nothing that is installed
    command = [sys.executable, "-S", "-m", "hatchet_operator", "--help"]
    source = str(Path(hatchet_operator.installation.__file__).parents[1])
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, f"error: {problem}\n")


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


OURS, PUBLISHED = "hatchet_operator_sdk-0.1.0", "hatchet_sdk-0.47.1"


def install(site: Path, name: str, *modules: str) -> None:
    """Write what pip writes: the modules, and which they are."""
    described = site / f"{name}.dist-info"
    described.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n".format(*name.replace("_", "-").rsplit("-", 1))
    (described / "METADATA").write_text(metadata)
    (described / "RECORD").write_text("".join(f"{module},,\n" for module in modules))
    for module in modules:
        (site / module).parent.mkdir(parents=True, exist_ok=True)
        (site / module).write_text("")


def uninstall(site: Path, name: str) -> None:
    """Remove what pip removes: the files that it wrote for this one, also where another's have their names."""
    described = site / f"{name}.dist-info"
    for line in (described / "RECORD").read_text().splitlines():
        (site / line.split(",")[0]).unlink()
    shutil.rmtree(described)


@pytest.mark.parametrize("command", [["hatchet_operator", "dev"], ["hatchet_cli"]])
@pytest.mark.parametrize(
    ("uninstalled", "want"),
    [
        pytest.param(
            [PUBLISHED],
            "hatchet-operator-sdk 0.1.0 lacks 1 of its files here, such as hatchet_sdk/__init__.py: hatchet-sdk has ",
            id="the published one is uninstalled",
        ),
        pytest.param(
            [OURS], 'only leftovers of the package "hatchet_sdk" are here, in {site}/hatchet_sdk: ', id="ours is"
        ),
        pytest.param([], None, id="neither is"),
    ],
)
def test_what_uninstalling_one_of_two_left_is_named(
    tmp_path: Path, command: list[str], uninstalled: list[str], want: str | None
) -> None:
    install(tmp_path, OURS, "hatchet_sdk/__init__.py", "hatchet_sdk/_hatchet.py")
    install(tmp_path, PUBLISHED, "hatchet_sdk/__init__.py", "hatchet_sdk/hatchet.py")
    for name in uninstalled:
        uninstall(tmp_path, name)
    hide_editable = (
        "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if 'hatchet_operator_sdk' not in str(f)]\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hide_editable)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    said = f"error: {want}".format(site=tmp_path)
    assert ended.stderr.startswith(said) is (want is not None), ended.stderr
    if want is not None:
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert f"run {sys.executable} -m pip install --force-reinstall --no-deps FOLDER/sdk" in ended.stderr


def test_the_published_one_alone_is_not_enough_for_the_operator(tmp_path: Path) -> None:
    install(tmp_path, PUBLISHED, "hatchet_sdk/__init__.py")
    here = {each.metadata["Name"]: each for each in distributions(path=[str(tmp_path)])}

    def installed(name: str) -> Distribution:
        if name not in here:
            raise PackageNotFoundError(name)
        return here[name]

    spec = SimpleNamespace(origin=str(tmp_path / "hatchet_sdk" / "__init__.py"))
    problem = hatchet_operator.installation.problem(lambda _: spec, installed) or ""
    assert problem.startswith(
        'the package "hatchet_sdk" here is that of hatchet-sdk 0.47.1, and hatchet-operator needs'
    )
    elsewhere = SimpleNamespace(origin="/checkout/sdk/hatchet_sdk/__init__.py")  # PYTHONPATH
    assert hatchet_operator.installation.problem(lambda _: elsewhere, installed) is None


@pytest.fixture
def as_in_a_pod(tmp_path: Path) -> dict[str, str]:
    """An environment without what only development needs: there are names, and nothing can be imported by them."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('hatchet_operator_dev', 'kubernetes', 'rich.live', 'watchfiles', 'trustme'):\n"
        "    sys.modules[name] = None\n"
    )
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


NO_DEV = f"error: hatchet-operator-dev is not installed here; run {sys.executable} -m pip install FOLDER/dev"


@pytest.mark.parametrize(
    ("arguments", "status", "want"),
    [
        pytest.param(["dev"], 2, NO_DEV, id="dev"),
        pytest.param(["apiserver"], 2, NO_DEV, id="apiserver"),
        pytest.param(["run", "--kubeconfig=k"], 1, "error: to read a kubeconfig, install the extra", id="a kubeconfig"),
        pytest.param(["crds"], 0, "", id="what needs none of it"),
    ],
)
def test_what_a_pod_does_without(as_in_a_pod: dict[str, str], arguments: list[str], status: int, want: str) -> None:
    command = [sys.executable, "-m", "hatchet_operator", *arguments]
    ended = subprocess.run(command, env=as_in_a_pod, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr[: len(want)]) == (status, want)


def test_a_worker_says_it_when_it_starts(with_the_published_one: dict[str, str]) -> None:
    program = """
from hatchet_sdk._runner.worker import _log_to_stderr
_log_to_stderr(debug=False)
"""
    ended = subprocess.run([sys.executable, "-c", program], env=with_the_published_one, capture_output=True, text=True)
    assert "WARNING hatchet_sdk: hatchet-sdk 0.47.1 and hatchet-operator-sdk" in ended.stderr


def test_a_name_that_only_the_published_one_has_says_it_too(with_the_published_one: dict[str, str]) -> None:
    program = "from hatchet_sdk import NewFeature"
    ended = subprocess.run([sys.executable, "-c", program], env=with_the_published_one, capture_output=True, text=True)
    assert "ImportError: this hatchet_sdk has no NewFeature: hatchet-sdk 0.47.1 and hatchet-operator" in ended.stderr
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ImportError: cannot import name 'NewFeature' from 'hatchet_sdk'" in alone.stderr
