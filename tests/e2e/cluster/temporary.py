"""A cluster for one command: it has the images, and goes when the command has ended, whatever happens but kill -9."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.cluster.errors import ClusterError

if TYPE_CHECKING:
    from tests.e2e.cluster.kind import KindCluster
    from tests.e2e.cluster.native import NativeCluster

_ROOT = Path(__file__).parents[3]
ARCHIVES_VARIABLE = "HATCHET_TEST_IMAGE_ARCHIVES"


def run_in(cluster: KindCluster | NativeCluster, command: Sequence[str], *, more_images: Sequence[Path] = ()) -> int:
    """Start the cluster with the images, run a command that reaches it, show the components' logs if it fails.

    The images are built, unless `ARCHIVES_VARIABLE` names a folder into which ``images/build.sh --save`` wrote them.

    Args:
        cluster: The cluster.
        command: The command.
        more_images: Archives of images that are loaded, too.

    Returns:
        The command's exit code.

    Raises:
        ClusterError: The cluster did not start, or there are no images for it.
        subprocess.CalledProcessError: The images were not built.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that the cluster goes
    with tempfile.TemporaryDirectory(prefix="hatchet-e2e-images-", ignore_cleanup_errors=True) as name:
        given = os.environ.get(ARCHIVES_VARIABLE)
        images = Path(given or name)
        if given is None:
            with _timed("images built"):
                environ = {**os.environ, "PYTHON": sys.executable}
                subprocess.run([_ROOT / "images/build.sh", "--save", images], env=environ, check=True)
        archives = [*sorted(images.glob("*.tar")), *more_images]
        if not archives:
            raise ClusterError(f"{ARCHIVES_VARIABLE}={given}: no archive of an image (*.tar) is there")
        with _timed("cluster up"):
            cluster.up()
        try:
            with _timed("images loaded"):
                for archive in archives:
                    cluster.load(archive)
            shutil.rmtree(name)
            with _timed("command run"):
                environ = {**os.environ, **cluster.environment()}
                code = subprocess.run(cluster.inside(command), cwd=_ROOT, env=environ).returncode
            if code:
                for component, text in cluster.logs():
                    print(f"--- the end of {component}'s log\n{text}")
            return code
        finally:
            with _timed("cluster down"):
                cluster.down()


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"e2e: {what} in {time.monotonic() - begun:.0f} s", flush=True)
