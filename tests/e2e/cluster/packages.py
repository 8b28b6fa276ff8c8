"""Debian packages, installed when they are needed and missing."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from tests.e2e.cluster.errors import ClusterError


def install_packages(names: Sequence[str]) -> None:
    """Install packages; do nothing for none.

    Raises:
        ClusterError: This machine has no apt-get, or it failed.
    """
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"these are missing (names of Debian packages): {', '.join(names)}")
    print(f"installing {', '.join(names)}", flush=True)
    wait = "-oDPkg::Lock::Timeout=600"  # for whoever else installs something now
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *names]):
        done = subprocess.run(["apt-get", wait, *command], env=environ, capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"apt-get {' '.join(command)} failed: {done.stderr.strip()}")
