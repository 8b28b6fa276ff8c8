"""Helm, and what our chart makes of values.

HATCHET_TEST_HELM names the program, plain or as .zst; without it, helm of the PATH is taken.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.binaries import HELM_VARIABLE, cache_folder

Json = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts/hatchet-operator"
CRDS_CHART = CHART.with_name("hatchet-operator-crds")
RELEASE = "hatchet-operator"
_SECONDS = 120.0
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""In C, if PyYAML has it: the chart's 180 kB take 0.07 s, in Python 0.7 s, and tests render them 200 times."""


class HelmMissingError(Exception):
    """No Helm here; the message says what to set."""


class HelmError(Exception):
    """Helm said no; the message is its own."""


@dataclass(frozen=True)
class Helm:
    """Runs a Helm program for one namespace.

    Attributes:
        program: Helm.
        namespace: Where releases are.
        kubeconfig: Of the cluster; None: that of ``KUBECONFIG``.
    """

    program: Path
    namespace: str
    kubeconfig: Path | None = None

    def __call__(self, *args: str) -> str:
        """Run Helm and return what it printed.

        Raises:
            HelmError: It ended with another code than 0.
        """
        command = [str(self.program), *args, f"--namespace={self.namespace}"]
        environ = {**os.environ, **({"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {})}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode:
            raise HelmError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def render(self, *values: str, chart: Path = CHART, release: str = RELEASE) -> list[Json]:
        """Return the objects that the chart makes of ``key=value``s, hooks included."""
        text = self("template", release, str(chart), *(f"--set={value}" for value in values))
        return [body for body in yaml.load_all(text, Loader=_LOADER) if body]


def find_helm() -> Path:
    """Return the Helm program.

    Raises:
        HelmMissingError: There is none.
    """
    if given := os.environ.get(HELM_VARIABLE):
        if not Path(given).is_file():
            raise HelmMissingError(f"{HELM_VARIABLE}={given} is no file")
        return _unpacked(Path(given)) if given.endswith(".zst") else Path(given)
    if found := shutil.which("helm"):
        return Path(found)
    raise HelmMissingError(f"set {HELM_VARIABLE} to helm or helm.zst, or put helm into the PATH, to run this")


def _unpacked(packed: Path) -> Path:
    stat = packed.resolve().stat()
    identity = hashlib.sha256(f"{packed.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    program = cache_folder() / f"helm-{identity}"
    if not program.exists():
        if shutil.which("zstd") is None:
            raise HelmMissingError(f"zstd is missing to unpack {packed}")
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as partial:  # half a program is none
            unpacked = Path(partial, "helm")
            subprocess.run(["zstd", "-qdo", unpacked, packed], check=True)
            unpacked.chmod(0o755)
            unpacked.rename(program)
    return program


def serving(*namespaces: str) -> str:
    """Return the value by which a release serves these namespaces; none: the whole cluster."""
    return f"namespaces={{{','.join(namespaces)}}}" if namespaces else ""


def of_kind(objects: list[Json], kind: str) -> Iterator[Json]:
    return (body for body in objects if body["kind"] == kind)


def aggregates_to(role: Json) -> set[str]:
    """Return which of the cluster's own roles a ClusterRole is added to."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    return {key.removeprefix(prefix) for key in role["metadata"].get("labels", {}) if key.startswith(prefix)}
