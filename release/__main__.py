"""``python -m release``: build a release from what is committed.

    the four distributions ─► wheels, sources ─┬─► the plugin, one file with all it imports ─► krew's manifest
                                               └─► a list of what they install (CycloneDX)
    the two charts ─► packages, as they are pushed to a registry
    images (if asked for) ─► archives
    all of them ─► SHA256SUMS, its signature (if there is a key), where they come from (SLSA)

Built twice from one commit, a wheel is the same: times in it are the commit's.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from release.files import checksums, compiled_for_some, digests, krew_manifest, provenance

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = ("sdk", "operator", "cli", "dev")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""What the plugin runs with, whichever "python3" is."""
CHARTS = ("hatchet-operator", "hatchet-operator-crds")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def main(
    out: Annotated[Path, typer.Option(help="Where the files go; emptied first.")] = ROOT / "dist",
    helm: Annotated[str, typer.Option(help="The Helm program.", envvar="HELM")] = "helm",
    images: Annotated[bool, typer.Option("--images", help="Build the images too.")] = False,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="amd64 or arm64: for which to build images; may be given twice.", show_default="this machine's"
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="SSH key to sign the checksums with.", envvar="RELEASE_KEY")] = None,
    url: Annotated[str, typer.Option(help="Where the files will be.")] = "https://example.invalid/hatchet-operator",
) -> None:
    """Build wheels, charts, the plugin and what tells about them."""
    if changed := _told("git", "status", "--porcelain"):
        raise typer.BadParameter(f"commit first, as the provenance names a commit for all that is built:\n{changed}")
    commit = _told("git", "rev-parse", "HEAD")
    os.environ["SOURCE_DATE_EPOCH"] = _told("git", "show", "--no-patch", "--format=%ct", "HEAD")
    version = tomllib.loads((ROOT / "operator" / "pyproject.toml").read_text())["project"]["version"]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    for distribution in DISTRIBUTIONS:
        _say(f"wheel and sources of {distribution}")
        _run(sys.executable, "-m", "build", "--outdir", out, ROOT / distribution)
    _say("what they install")
    _list_of_parts(out, version)
    _say("kubectl plugin")
    plugin = _plugin(out, version)
    for chart in CHARTS:
        _say(f"chart {chart}")
        _run(helm, "package", ROOT / "charts" / chart, "--destination", out)
    if images:
        for each in arch or [_architecture()]:
            _say(f"images for {each}")
            _build_images(out, version, each)

    found = digests(out.iterdir())
    archives = {plugin[0]: (plugin[1], found[plugin[1]])}
    (out / "krew.yaml").write_text(krew_manifest(archives, version=version, base_url=url), encoding="utf-8")
    found = digests(out.iterdir())
    built_at = datetime.now(UTC).isoformat(timespec="seconds")
    (out / "provenance.intoto.json").write_text(
        provenance(found, version=version, commit=commit, built_at=built_at), encoding="utf-8"
    )
    (out / "SHA256SUMS").write_text(checksums(digests(out.iterdir())), encoding="utf-8")
    if key is not None:
        _say("signature")
        _run("ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "file", out / "SHA256SUMS")
    _say(f"{len(list(out.iterdir()))} files in {out}")


def _build_images(out: Path, version: str, arch: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(ROOT / "images" / "build.sh", "--save", folder, TAG=version, ARCH=arch, PYTHON=sys.executable)
        for archive in Path(folder).glob("*.tar"):
            shutil.move(archive, out / f"hatchet-{archive.stem}-{version}-{arch}.tar")


def _architecture() -> str:
    """Return what this machine is, as images and krew call it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _list_of_parts(out: Path, version: str) -> None:
    """Write a CycloneDX list of every package that an installation of all distributions has."""
    report = _told(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"),
        *_ours(out),
    )
    installed = [each["metadata"] for each in json.loads(report)["install"]]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "requirements.txt")
        listed.write_text("".join(sorted(f"{each['name']}=={each['version']}\n" for each in installed)))
        sbom = out / f"hatchet-operator-{version}.cdx.json"
        _run(
            *(sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible"),
            *("--output-file", sbom, listed),
        )


def _plugin(out: Path, version: str) -> tuple[tuple[str, str], str]:
    """Build the plugin for this machine; return its operating system and architecture, and the archive's name."""
    system, architecture = platform.system().lower(), _architecture()
    archive = out / f"kubectl-hatchet-{version}-{system}-{architecture}.tar.gz"
    with tempfile.TemporaryDirectory() as folder:
        program, packages = Path(folder, "kubectl-hatchet"), Path(folder, "packages")
        for python in PYTHONS:  # what is compiled has the version in its file's name, so that all of them fit into one
            only = Path(folder, python)
            _run(
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", only),
                *("--python-version", python, "--only-binary", ":all:"),
                *_ours(out),
            )
            shutil.copytree(only, packages, dirs_exist_ok=True)
        if lacking := compiled_for_some(map(str, packages.rglob("*.so")), PYTHONS):
            raise typer.BadParameter(f"not compiled for all of Python {', '.join(PYTHONS)}: {', '.join(lacking)}")
        _run(
            *(sys.executable, "-m", "shiv", "--reproducible", "--console-script", "kubectl-hatchet"),
            *("--python", "/usr/bin/env python3", "--output-file", program, "--site-packages", packages),
        )
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(program, program.name)
            packed.add(ROOT / "LICENSE", "LICENSE")
    return (system, architecture), archive.name


def _ours(out: Path) -> list[str | Path]:
    """Return pip's arguments for our wheels, with the versions that they were tested with."""
    return ["--find-links", out, "--constraint", ROOT / "constraints.txt", *sorted(out.glob("*.whl"))]


def _run(*command: str | Path, **environ: str) -> None:
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT, env=os.environ | environ, stdout=subprocess.DEVNULL)


def _told(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _say(what: str) -> None:
    typer.echo(f"release: {what}", err=True)


if __name__ == "__main__":
    typer.run(main)
