"""What is said about a release's files is true of the files."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from release.__main__ import DISTRIBUTIONS, ROOT
from release.files import PROVENANCE, checksums, compiled_for_some, digests, krew_manifest, provenance


@pytest.fixture
def found(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "b.whl").write_bytes(b"wheel")
    (tmp_path / "a.tgz").write_bytes(b"chart")
    return digests(tmp_path.iterdir())


def test_checksums_are_what_sha256sum_checks(found: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(checksums(found))
    check = ["sha256sum", "--check", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, text=True).stdout == "a.tgz: OK\nb.whl: OK\n"
    (tmp_path / "a.tgz").write_bytes(b"another chart")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 1


def test_provenance_names_each_file_and_what_it_was_built_from(found: dict[str, str]) -> None:
    statement = json.loads(provenance(found, version="1.2.3", commit="c0ffee", built_at="2026-11-30T00:00:00+00:00"))
    assert {each["name"]: each["digest"]["sha256"] for each in statement["subject"]} == found
    assert statement["predicateType"] == PROVENANCE
    (source,) = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": "c0ffee"}


def test_krew_finds_the_archive_of_each_platform() -> None:
    archives = {("linux", "amd64"): ("k-linux.tar.gz", "aa"), ("darwin", "arm64"): ("k-darwin.tar.gz", "bb")}
    manifest = yaml.safe_load(krew_manifest(archives, version="1.2.3", base_url="https://releases.example/v1.2.3/"))
    assert (manifest["metadata"]["name"], manifest["spec"]["version"]) == ("hatchet", "v1.2.3")
    assert [(each["uri"], each["sha256"]) for each in manifest["spec"]["platforms"]] == [
        ("https://releases.example/v1.2.3/k-linux.tar.gz", "aa"),
        ("https://releases.example/v1.2.3/k-darwin.tar.gz", "bb"),
    ]
    scripts = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text())["project"]["scripts"]
    assert {each["bin"] for each in manifest["spec"]["platforms"]} <= set(scripts)


def test_all_distributions_have_one_version() -> None:
    versions = {
        tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]["version"] for name in DISTRIBUTIONS
    }
    charts = {
        yaml.safe_load(chart.read_text())[field]
        for chart in ROOT.glob("charts/*/Chart.yaml")
        for field in ("version", "appVersion")
    }
    assert versions == charts


def test_what_is_compiled_for_one_python_is_found() -> None:
    files = [f"a/both.cpython-{python}-x86_64-linux-gnu.so" for python in ("311", "312")]
    files += ["a/one.cpython-311-x86_64-linux-gnu.so", "a/any.abi3.so"]
    assert compiled_for_some(files, ("3.11", "3.12")) == ["a/one"]
    assert compiled_for_some(files, ("3.11",)) == []
