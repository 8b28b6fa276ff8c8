"""The program that ``dev`` runs workers of: a file, or a module as ``python -m`` takes it."""

import importlib.util
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator_dev.errors import DevError


@dataclass(frozen=True, kw_only=True)
class Program:
    """What starts a worker.

    Attributes:
        shown: As it was named on the command line.
        words: What follows ``python``.
        watched: A change of a .py file in here, or below it, reloads it.
    """

    shown: str
    words: tuple[str, ...]
    watched: Path

    def command(self, *, debug_port: int | None = None) -> list[str]:
        """Return the command that runs it; with a port it waits for a debugger there."""
        waits: tuple[str, ...] = ()
        if debug_port is not None:
            # Frozen modules hide their lines from a debugger, which warns of them at length.
            waits = ("-X", "frozen_modules=off")
            waits += ("-m", "debugpy", "--listen", f"127.0.0.1:{debug_port}", "--wait-for-client")
        return [sys.executable, "-u", *waits, *self.words]  # -u: output is shown as it comes

    @property
    def as_module(self) -> str | None:
        """How to run a file of a package, whose relative imports work only so; None: it is in none."""
        file = Path(self.words[0])
        names, folder = [file.stem], file.parent
        while (folder / "__init__.py").exists():
            names.insert(0, folder.name)
            folder = folder.parent
        if len(names) == 1 or self.words[0] == "-m":
            return None
        return f"cd {shlex.quote(str(folder))} && hatchet-operator dev -m {'.'.join(names)}"

    @property
    def typed(self) -> str:
        """How a person starts it."""
        return f"python {shlex.join(self.words)}"


def find_program(file: Path | None, module: str | None) -> Program | None:
    """Return the program; None: neither is given.

    Raises:
        DevError: There is no such file or module, or both are given.
    """
    if file is not None and module is not None:
        raise DevError(f"give a file or -m MODULE, not both ({file}, {module})", exit_code=2)
    if module is not None:
        return _find_module(module)
    return None if file is None else _find_file(file)


def _find_file(path: Path) -> Program:
    if path.is_dir():
        raise DevError(
            f"{path} is a folder; name the Python file in it that starts a worker"
            + (f", or run the package with -m {path.name}" if (path / "__init__.py").exists() else "")
        )
    if not path.is_file():
        is_module = (
            path.suffix != ".py" and "/" not in str(path) and all(part.isidentifier() for part in str(path).split("."))
        )
        hint = f"; a module is run with -m {path}" if is_module else ""
        raise DevError(f"there is no file {path}; name a Python file that starts a worker{hint}")
    absolute = path.resolve()
    return Program(shown=str(path), words=(str(absolute),), watched=absolute.parent)


def _find_module(module: str) -> Program:
    if not all(part.isidentifier() for part in module.split(".")):
        raise DevError(
            f'-m {module}: "{module}" cannot be the name of a module; expected one as in -m pkg.worker', exit_code=2
        )
    top = module.split(".")[0]
    here = str(Path.cwd())
    sys.path.insert(0, here)  # where `python -m` looks first
    try:
        # Of the top alone, which needs no code of the user's to run.
        spec = importlib.util.find_spec(top)
    except ValueError:
        spec = None
    finally:
        sys.path.remove(here)
    if spec is None:
        raise DevError(
            f'there is no module "{top}" in {here}, in PYTHONPATH, or installed; run dev from its parent folder'
        )
    places = list(spec.submodule_search_locations or ())
    watched = Path(places[0]) if places else Path(spec.origin or here).parent
    return Program(shown=module, words=("-m", module), watched=watched.resolve())
