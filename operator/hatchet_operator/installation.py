"""Whether this environment can work: the published SDK and ours are one package under two names."""

import csv
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution, version
from importlib.util import find_spec
from pathlib import Path

PUBLISHED, OURS = "hatchet-sdk", "hatchet-operator-sdk"
PACKAGE = "hatchet_sdk"
_PIP = f"{shlex.quote(sys.executable)} -m pip"
_INSTALL = f"{_PIP} install --force-reinstall --no-deps FOLDER/sdk, where FOLDER is hatchet-operator's source"


def problem(
    find: Callable[[str], object] = find_spec, distribution_of: Callable[[str], Distribution] = distribution
) -> str | None:
    """Say in a sentence why our SDK can't be imported whole, without which nothing here runs; None: it can.

    An ``ImportError`` from the middle of a package tells nobody that it was pip, asked to uninstall the other SDK, that
    took files away. A source folder in ``PYTHONPATH`` is nobody's distribution, and is believed.
    """
    spec = find(PACKAGE)
    if spec is None:
        return (
            f'{OURS} is not installed beside hatchet-operator: no package "{PACKAGE}" is here, with the workers\' '
            f"protocol; run {_PIP} install FOLDER/sdk, where FOLDER is hatchet-operator's source (docs/install.md)"
        )
    ours, published = _installed(OURS, distribution_of), _installed(PUBLISHED, distribution_of)
    if ours is not None and (gone := _gone(ours)):
        return (
            f"{OURS} {ours.version} lacks {len(gone)} of its files here, such as {gone[0]}: {PUBLISHED} has files of "
            f'the same names in its package "{PACKAGE}", and uninstalling it took them away; run {_INSTALL} '
            "(docs/install.md)"
        )
    origin = getattr(spec, "origin", None)
    if ours is None and published is not None and _is_of(published, origin):
        return (
            f'the package "{PACKAGE}" here is that of {PUBLISHED} {published.version}, and hatchet-operator needs that '
            f"of {OURS}; run {_PIP} uninstall -y {PUBLISHED}, then {_INSTALL} (docs/install.md)"
        )
    if origin is None:
        places = ", ".join(getattr(spec, "submodule_search_locations", None) or ())
        return (
            f'only leftovers of the package "{PACKAGE}" are here, in {places}: {PUBLISHED} and {OURS} share it, and '
            f"uninstalling one took files of both; delete that folder, then run {_INSTALL} (docs/install.md)"
        )
    return None


def conflict(version_of: Callable[[str], str] = version) -> str | None:
    """Say in a sentence that both SDKs are installed here, and what to do; None: they are not.

    The one installed last has overwritten files of the other, and which of them is imported depends on how.
    """
    try:
        published, ours = version_of(PUBLISHED), version_of(OURS)
    except PackageNotFoundError:
        return None
    return (
        f"{PUBLISHED} {published} and {OURS} {ours} are both installed in this environment, and overwrite each other's "
        f'package "{PACKAGE}"; run {_PIP} uninstall -y {PUBLISHED} {OURS}, then install one of them again '
        "(docs/install.md says which)"
    )


def _installed(name: str, distribution_of: Callable[[str], Distribution]) -> Distribution | None:
    try:
        return distribution_of(name)
    except PackageNotFoundError:
        return None


def _gone(installed: Distribution) -> list[str]:
    """Name the modules that pip wrote and that are not there any more: an editable installation has none of its own."""
    return sorted(str(file) for file in _modules(installed) if not Path(str(installed.locate_file(file))).exists())


def _is_of(installed: Distribution, origin: str | None) -> bool:
    """Tell whether the module at ``origin``, or what would be there, is a file of this distribution."""
    if origin is None:
        return False
    return any(Path(str(installed.locate_file(file))) == Path(origin) for file in _modules(installed))


def _modules(installed: Distribution) -> list[PackagePath]:
    """Return the modules that pip noted; `Distribution.files` leaves out, from Python 3.12 on, what is not there."""
    noted = csv.reader((installed.read_text("RECORD") or "").splitlines())
    files = [PackagePath(line[0]) for line in noted if line]
    return [file for file in files if file.parts[0] == PACKAGE and file.suffix == ".py"]
