"""``hatchet-operator new``: a project that runs as it is, from the files of `template`.

Their names end in ``.template``, so that no tool takes them for code of this package, and ``dot-`` stands for a leading
dot; ``$name`` in a text stands for the project's name.
"""

import re
import shlex
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from hatchet_operator.resources.schemas import write_schemas
from hatchet_operator_dev.errors import DevError

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def write_project(folder: Path) -> str:
    """Write a project into a new or empty folder, and return the lines that say how to go on.

    The folder's name becomes the project's: the name of its worker, its pool and its image.

    Raises:
        DevError: The folder has something in it, or its name can't be a pool's.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise DevError(
            f'"{name}" can\'t be the name of a pool and of an image; expected a folder of at most 63 lower-case '
            f'letters, digits and "-", with a letter first, as in "{_similar(name)}"',
            exit_code=2,
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DevError(f"{folder} is there and not empty; name a folder that is to be made", exit_code=2)
    _copy(files(__name__) / "template", folder, name)
    write_schemas(folder / "schemas")
    return (
        f"{folder} has a worker with two workflows, tests, a Dockerfile, manifests and CI. Next:\n\n"
        f"    cd {shlex.quote(str(folder))}\n"
        """    hatchet-operator dev worker.py --run Report --input '{"pages": ["to be", "or not to be"]}'\n"""
    )


def _copy(source: Traversable, target: Path, name: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        written = target / re.sub("^dot-", ".", entry.name.removesuffix(".template"))
        if entry.is_dir():
            _copy(entry, written, name)
        else:
            written.write_text(Template(entry.read_text(encoding="utf-8")).substitute(name=name), encoding="utf-8")


def _similar(name: str) -> str:
    words = re.sub("[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789")[:63].rstrip("-")
    return words or "my-workflows"
