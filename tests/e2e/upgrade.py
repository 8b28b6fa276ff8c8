"""`make e2e-upgrade`: from an earlier version to what is checked out and back, on a real cluster, with runs in flight.

    its images, from a worktree ─┐
    our images ──────────────────┴─► a cluster ─► test_releases.py: its chart ─► our chart ─► our workers ─► its chart

`make upgrade` does the same with processes and the embedded API server: tests/integration/test_releases.py.

FROM=REF names the earlier version; without it, it is the last release, the newest tag `v*` before HEAD.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.cluster.__main__ import find_cluster
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.temporary import run_in
from tests.e2e.images import EARLIER_TAG, EARLIER_VARIABLE

_ROOT = Path(__file__).parents[2]


class NoReleaseError(Exception):
    """There is nothing to come from; the message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run the test, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.upgrade", description=__doc__)
    parser.add_argument("--without-cluster", action="store_true", help="with processes and the embedded API server")
    parser.add_argument("--from", dest="ref", default="", help="a commit or tag; without it, the last release")
    options = parser.parse_args(arguments)
    try:
        ref = find_ref(options.ref, repository=_ROOT)
    except NoReleaseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="hatchet-upgrade-") as name, checked_out(ref, Path(name, "from")) as source:
        os.environ[EARLIER_VARIABLE] = str(source)
        test = [sys.executable, "-m", "pytest", "-s"]
        if options.without_cluster:
            return subprocess.run([*test, "tests/integration/test_releases.py"], cwd=_ROOT).returncode
        images = Path(name, "images")
        environ = {**os.environ, "PYTHON": sys.executable, "TAG": EARLIER_TAG}
        subprocess.run([source / "images/build.sh", "--save", images], cwd=source, env=environ, check=True)
        try:
            return run_in(
                find_cluster(),
                [*test, "tests/e2e/test_releases.py", "--e2e"],
                more_images=[images / "operator.tar", images / "worker.tar"],
            )
        except (ClusterError, subprocess.CalledProcessError) as error:
            sys.stderr.write(f"error: {error}\n")
            return 1


def find_ref(given: str, *, repository: Path) -> str:
    """Return the commit to come from.

    Args:
        given: What was asked for; empty: the last release.
        repository: Where tags and commits are.

    Raises:
        NoReleaseError: There is none.
    """
    if given:
        found = _git(repository, "rev-parse", "--verify", "--quiet", f"{given}^{{commit}}")
        if found is None:
            raise NoReleaseError(f"FROM={given} names no commit of this repository")
        return found
    tag = _git(repository, "describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^")
    if tag is None:
        raise NoReleaseError(
            "this repository has no tag v* before HEAD, so there is no release to come from yet; "
            "name a commit: make e2e-upgrade FROM=HEAD~50"
        )
    return tag


@contextmanager
def checked_out(ref: str, folder: Path) -> Iterator[Path]:
    """Have a commit's files in a folder, until the end of the block."""
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", folder, ref], cwd=_ROOT, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=_ROOT, check=True)


def _git(repository: Path, *arguments: str) -> str | None:
    """Return what git prints; None: it knows no such thing."""
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    raise SystemExit(main())
