"""Which version `make e2e-upgrade` comes from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.upgrade import NoReleaseError, find_ref


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with three commits."""
    git(tmp_path, "init", "--quiet")
    for number in range(3):
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        git(tmp_path, *author, "commit", "--quiet", "--allow-empty", f"--message={number}")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_last_release_before_this_commit_is_taken(repository: Path) -> None:
    git(repository, "tag", "v0.1.0", "HEAD~2")
    git(repository, "tag", "v0.2.0", "HEAD~1")
    git(repository, "tag", "another", "HEAD~1")
    git(repository, "tag", "v0.3.0")
    assert find_ref("", repository=repository) == "v0.2.0", "and not the one that is just being made"


def test_without_a_release_it_says_what_to_do(repository: Path) -> None:
    with pytest.raises(NoReleaseError, match=r"make e2e-upgrade FROM=HEAD~50"):
        find_ref("", repository=repository)


def test_a_commit_may_be_named(repository: Path) -> None:
    assert find_ref("HEAD~1", repository=repository) == git(repository, "rev-parse", "HEAD~1")
    with pytest.raises(NoReleaseError, match="FROM=nothing names no commit"):
        find_ref("nothing", repository=repository)
