"""Whether this environment is one that can work: the published SDK and ours are one package by two names."""

import shlex
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

PUBLISHED, OURS = "hatchet-sdk", "hatchet-operator-sdk"


def conflict(version_of: Callable[[str], str] = version) -> str | None:
    """Say in a sentence that both SDKs are installed here, and what to do; None: they are not.

    Whichever was installed last has overwritten files of the other, and which of them is imported depends on how.
    """
    try:
        published, ours = version_of(PUBLISHED), version_of(OURS)
    except PackageNotFoundError:
        return None
    pip = f"{shlex.quote(sys.executable)} -m pip"
    return (
        f"{PUBLISHED} {published} and {OURS} {ours} are both installed in this environment, and overwrite each other's "
        f'package "hatchet_sdk"; run {pip} uninstall -y {PUBLISHED} {OURS}, then install one of them again '
        "(docs/install.md says which)"
    )
