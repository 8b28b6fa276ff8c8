"""What README and docs/ tell people to type: commands that exist, with options that exist, and Python that compiles."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer._click.exceptions import MissingParameter, UsageError  # it has no public names for them
from typer.core import TyperGroup

import hatchet_cli.app
import hatchet_operator.cli
from hatchet_sdk import Hatchet
from hatchet_sdk._client.typed import DEFINITION

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "modules.md"),
    *sorted(ROOT.glob("examples/*/README.md")),
    *sorted(ROOT.glob("charts/*/README.md")),
]
PROGRAMS = {
    "hatchet-operator": hatchet_operator.cli.app,
    "kubectl hatchet": hatchet_cli.app.app,
    "hatchet": hatchet_cli.app.app,
}
IN_TEXT = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`]+)`")
ON_ITS_OWN_LINE = re.compile(rf"^(?:    |\$ )((?:{'|'.join(PROGRAMS)}) (?!=).*)$")
WITHIN = re.compile(r"\$\(([^)]*)\)")
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[Path, str]]:
    """Yield what each page tells to type; a command within another, as $(…), is one of its own."""
    for page, found in typed():
        yield page, WITHIN.sub("x", found)
        yield from ((page, within) for within in WITHIN.findall(found))


def typed() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for line in page.read_text().splitlines():
            yield from ((page, found) for found in IN_TEXT.findall(line))
            if own := ON_ITS_OWN_LINE.match(line):
                yield page, own[1]
            if page.name == "cli.md" and (row := re.match(r"\| (`.*?`) \|", line)):  # the table of its commands
                yield from ((page, f"hatchet {found}") for found in re.findall("`(.*?)`", row[1]) if found[0] != "-")


def arguments_of(command: str) -> list[str]:
    """Return what a shell would pass to the program, up to a pipe, a redirection or the next command."""
    words = shlex.split(command.replace("…", "x"), comments=True)
    ends = (at for at, word in enumerate(words) if word in ("|", ">", "&&") or word.startswith("<"))
    return words[: next(ends, len(words))]


def problem_with(command: Any, arguments: list[str], parent: Any = None) -> str | None:
    """Say what the command line would say to these arguments, or None; arguments may be missing, as in a sentence."""
    try:
        context = command.make_context(command.name, arguments, parent=parent)
    except typer.Exit:  # --help, --version
        return None
    except UsageError as error:
        return None if isinstance(error, MissingParameter) else error.format_message()
    rest = [*context._protected_args, *context.args]  # noqa: SLF001  # of click, which has no public name for it
    if not isinstance(command, TyperGroup) or not rest:
        return None
    below = command.commands.get(rest[0])
    return f"there is no command {rest[0]}" if below is None else problem_with(below, rest[1:], context)


COMMANDS = sorted({each for each in commands() if not each[1].endswith((" …", " <TAB>"))})


def test_there_are_many_commands() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(
    ("page", "command"), [pytest.param(*each, id=f"{each[0].name}: {each[1]}") for each in COMMANDS]
)
def test_the_command_exists_with_these_options(page: Path, command: str) -> None:
    program = next(name for name in PROGRAMS if command.startswith(f"{name} "))
    words = arguments_of(command.removeprefix(program))
    assert problem_with(typer.main.get_command(PROGRAMS[program]), words) is None


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, block in enumerate(PYTHON.findall(page.read_text()), 1):
            yield f"{page.relative_to(ROOT)}, block {number}", textwrap.dedent(block)


BLOCKS = list(blocks())
PARTS = [(place, block) for place, block in BLOCKS if "Hatchet()" not in block]
WHOLE = [(place, block) for place, block in BLOCKS if "Hatchet()" in block]


@pytest.mark.parametrize(("place", "block"), PARTS, ids=[place for place, _ in PARTS])
def test_a_part_of_a_program_is_python(place: str, block: str) -> None:
    block = block.replace("…", "...")
    if block.startswith("@"):
        block += "def decorated(self, context): ..."
    compile(block, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(("place", "block"), WHOLE, ids=[place for place, _ in WHOLE])
def test_a_program_can_be_imported_and_registered(place: str, block: str) -> None:
    program: dict[str, Any] = {"__name__": "program"}
    exec(compile(block, place, "exec"), program)
    worker = Hatchet().worker("docs")
    workflows = [made for made in program.values() if isinstance(made, type) and DEFINITION in vars(made)]
    for each in workflows:
        worker.register_workflow(each())
    assert workflows


OURS = {
    project["name"]: (folder, project)
    for folder in ("sdk", "operator", "cli", "dev")
    for project in [tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]]
}


def needs(folder: str) -> set[str]:
    """Name our distributions that one of them depends on, by their folders."""
    project = next(project for its, project in OURS.values() if its == folder)
    names = (re.split(r"[\[<>=~ ;]", wanted)[0] for wanted in project["dependencies"])
    return {OURS[name][0] for name in names if name in OURS}


def installs() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        block: list[str] = []
        for line in [*page.read_text().splitlines(), ""]:
            if line.startswith("    ") and re.match(r" +(pip|pipx) (install|inject) ", line):
                block.append(line.strip())
            elif block:
                yield page, "\n".join(block)
                block = []


@pytest.mark.parametrize(("page", "lines"), [pytest.param(*each, id=each[0].name) for each in installs()])
def test_what_is_installed_finds_what_it_needs_of_ours(page: Path, lines: str) -> None:
    """None is on PyPI: pip gets all in one command, and pipx, which installs one after the other, in an order."""
    there: set[str] = set()
    for line in lines.splitlines():
        if "--no-deps" in line:
            continue
        words = [word for each in shlex.split(line, comments=True) for word in expanded(each)]
        folders = [word.rpartition("/")[2] for word in words if word.startswith("~/hatchet-operator/")]
        at_once = [set(folders)] if line.startswith("pip ") else [{folder} for folder in folders]
        for together in at_once:
            there |= together
            missing = {folder: needs(folder) - there for folder in together}
            assert not any(missing.values()), missing


def expanded(word: str) -> list[str]:
    """Expand braces as a shell does: a/{b,c} is a/b and a/c."""
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", word)
    return [word] if found is None else [f"{found[1]}{each}{found[3]}" for each in found[2].split(",")]


def test_no_page_keeps_the_marks_of_a_merge() -> None:
    folders = [ROOT / name for name in ("docs", "changelog.d", "charts")]
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    assert len(pages) > 100
    assert [page.name for page in pages if re.search(r"^(<{7}|>{7}|={7})( |$)", page.read_text(), re.MULTILINE)] == []
