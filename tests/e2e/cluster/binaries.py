"""The programs of a Kubernetes node: from a folder, an archive, or built from their Go modules.

    HATCHET_TEST_KUBE_BIN       folder that holds them
    HATCHET_TEST_KUBE_ARCHIVE   .tar, .tar.gz or .tar.zst that holds them
    HATCHET_TEST_HELM           helm, or helm.zst, where the folder or archive has none

What none of these gives is built: about 25 minutes on two cores for all of them, once; the result is kept in the cache.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.packages import install_packages

FOLDER_VARIABLE = "HATCHET_TEST_KUBE_BIN"
ARCHIVE_VARIABLE = "HATCHET_TEST_KUBE_ARCHIVE"
HELM_VARIABLE = "HATCHET_TEST_HELM"

_KUBERNETES = "v1.37.2"


@dataclass(frozen=True, kw_only=True)
class GoBuild:
    """What one Go module gives.

    Attributes:
        module: Path and version.
        packages: Name of the program -> its package within the module.
        tags: Build tags.
        cgo: Needs a C compiler; runc enters namespaces before the Go runtime starts.
    """

    module: str
    packages: dict[str, str]
    tags: str = ""
    cgo: bool = False


_KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
BUILDS = (
    GoBuild(
        module=f"k8s.io/kubernetes@{_KUBERNETES}",
        packages={name: f"cmd/{name}" for name in _KUBERNETES_PROGRAMS},
    ),
    GoBuild(module="go.etcd.io/etcd/server/v3@v3.7.3", packages={"etcd": ""}),
    GoBuild(
        module="github.com/containerd/containerd/v2@v2.4.2",
        packages={name: f"cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    ),
    GoBuild(module="github.com/opencontainers/runc@v1.5.2", packages={"runc": ""}, tags="seccomp", cgo=True),
    GoBuild(module="github.com/coredns/coredns@v1.15.0", packages={"coredns": ""}),
    GoBuild(module="helm.sh/helm/v4@v4.3.1", packages={"helm": "cmd/helm"}),
)
_C_PACKAGES = ("gcc", "libc6-dev", "libseccomp-dev", "pkg-config")
NEEDED = tuple(name for build in BUILDS for name in build.packages)


def cache_folder() -> Path:
    """Where things are kept that take long to make and don't change."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hatchet-operator-e2e"


def find_binaries(cache: Path | None = None) -> Path:
    """Return a folder with all of `NEEDED`, building what is missing."""
    cache = cache or cache_folder()
    given = _given_folder(cache)
    missing = [name for name in NEEDED if not _is_program(given, name)]
    if given is not None and not missing:
        return given
    folder = cache / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    if given is not None:
        for name in set(NEEDED) - set(missing):
            _link(given / name, folder / name)
    if "helm" in missing and (helm := os.environ.get(HELM_VARIABLE)):
        _unpack_program(Path(helm), folder / "helm")
    for build in BUILDS:
        wanted = [name for name in build.packages if name in missing and not _is_program(folder, name)]
        for name in wanted:
            (folder / name).unlink(missing_ok=True)  # a link to an archive that is gone
        if wanted:
            build_programs(build, wanted, folder)
    return folder


def build_programs(build: GoBuild, names: list[str], folder: Path) -> None:
    """Build programs of one module into ``folder``, each module by itself: their requirements would not agree."""
    if shutil.which("go") is None:
        raise ClusterError(
            f"{', '.join(names)} can't be built without Go; install it, or set {FOLDER_VARIABLE} or {ARCHIVE_VARIABLE}"
        )
    if build.cgo:
        install_packages([name for name in _C_PACKAGES if not _is_installed(name)])
    path, version = build.module.split("@")
    with tempfile.TemporaryDirectory(prefix="hatchet-e2e-build-") as work:

        def go(*args: str) -> str:
            environ = {**os.environ, "CGO_ENABLED": str(int(build.cgo)), "GOFLAGS": "-mod=mod -trimpath"}
            return subprocess.run(
                ["go", *args], cwd=work, env=environ, check=True, text=True, stdout=subprocess.PIPE
            ).stdout

        go("mod", "init", "hatchet-e2e-build")
        if path == "k8s.io/kubernetes":
            _replace_staging(
                Path(json.loads(go("mod", "download", "-json", build.module))["GoMod"]), version, go_mod=Path(work)
            )
        packages = {name: f"{path}/{build.packages[name]}".rstrip("/") for name in names}
        go("get", *(f"{package}@{version}" for package in packages.values()))
        for name, package in packages.items():
            print(f"building {name} {version} …", flush=True)
            stamp = f"-s -w -X k8s.io/component-base/version.gitVersion={version}"
            go("build", "-tags", build.tags, "-ldflags", stamp, "-o", str(folder / name), package)


def _is_installed(package: str) -> bool:
    return subprocess.run(["dpkg-query", "--status", package], capture_output=True).returncode == 0


def _replace_staging(kubernetes_mod: Path, version: str, *, go_mod: Path) -> None:
    """Kubernetes requires its own libraries as v0.0.0, out of its source tree; they are published as v0.X.Y."""
    staging = re.findall(r"^\s*(k8s\.io/\S+) v0\.0\.0$", kubernetes_mod.read_text(), re.MULTILINE)
    published = re.sub(r"^v1\.", "v0.", version)
    with (go_mod / "go.mod").open("a") as file:
        file.writelines(f"replace {module} => {module} {published}\n" for module in sorted(set(staging)))


def _given_folder(cache: Path) -> Path | None:
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder).resolve()
    if archive := os.environ.get(ARCHIVE_VARIABLE):
        return _unpacked(Path(archive).resolve(), cache)
    return None


def _unpacked(archive: Path, cache: Path) -> Path:
    stat = archive.stat()
    identity = hashlib.sha256(f"{archive} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache / f"archive-{identity}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial:  # an interrupted tar must not look like a whole one
            unpacked = Path(partial, "bin")
            unpacked.mkdir()
            subprocess.run(["tar", "--auto-compress", "-xf", archive, "-C", unpacked], check=True)
            try:
                unpacked.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was faster
                    raise
    return folder


def _unpack_program(source: Path, target: Path) -> None:
    if source.suffix == ".zst":
        subprocess.run(["zstd", "-qdfo", target, source], check=True)
        target.chmod(0o755)
    else:
        _link(source.resolve(), target)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    target.symlink_to(source)


def _is_program(folder: Path | None, name: str) -> bool:
    return folder is not None and shutil.which(name, path=str(folder)) is not None
