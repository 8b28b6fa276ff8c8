"""`make e2e`: make a cluster and the images, run the suite on it, show what failed, remove the cluster.

Arguments are pytest's: python -m tests.e2e -k fan_out. The cluster goes whatever happens, but for kill -9; then
`python -m tests.e2e.cluster down` finds what is left.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.cluster.__main__ import find_cluster
from tests.e2e.cluster.errors import ClusterError

_ROOT = Path(__file__).parents[2]
_IMAGES = ("operator", "worker", "fanout")


def main(pytest_arguments: list[str]) -> int:
    """Return the exit code of pytest, or 1 when it could not be run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that the cluster goes
    try:
        with tempfile.TemporaryDirectory(prefix="hatchet-e2e-images-", ignore_cleanup_errors=True) as folder:
            with _timed("images built"):
                _build_images(Path(folder))
            return _run_on_a_cluster(Path(folder), pytest_arguments)
    except (ClusterError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _build_images(folder: Path) -> None:
    environ = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([_ROOT / "images/build.sh", "--save", folder], env=environ, check=True)


def _run_on_a_cluster(images: Path, pytest_arguments: list[str]) -> int:
    cluster = find_cluster()
    with _timed("cluster up"):
        cluster.up()
    try:
        with _timed("images loaded"):
            for name in _IMAGES:
                cluster.load(images / f"{name}.tar")
        shutil.rmtree(images)
        command = [sys.executable, "-m", "pytest", "tests/e2e", "--e2e", *pytest_arguments]
        environ = {**os.environ, **cluster.environment()}
        with _timed("tests run"):
            code = subprocess.run(cluster.inside(command), cwd=_ROOT, env=environ).returncode
        if code:
            for name, text in cluster.logs():
                print(f"--- the end of {name}'s log\n{text}")
        return code
    finally:
        with _timed("cluster down"):
            cluster.down()


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"e2e: {what} in {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
