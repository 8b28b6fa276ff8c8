"""The maps name what is there: whoever adds a room or a module puts it on them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from docs.modules import PACKAGES, ROOT, modules, page, summary

OPERATOR = ROOT / "operator" / "hatchet_operator"
DEV = ROOT / "dev" / "hatchet_operator_dev"
ENGINE = OPERATOR / "engine"
EVERY_MODULE = [source for package in PACKAGES for source in modules(package) if source.stem != "__init__"]


def packages_in(folder: Path) -> list[Path]:
    return sorted(init.parent for init in folder.glob("*/__init__.py"))


def docstring_of(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""


def test_the_list_of_modules_is_up_to_date() -> None:
    assert (ROOT / "docs" / "modules.md").read_text() == page(), "run: make generate"


@pytest.mark.parametrize("source", EVERY_MODULE, ids=lambda source: str(source.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(source: Path) -> None:
    assert summary(source)


LONG = {"settings.py": "one table", "receiver/rest/models.py": "the JSON of Hatchet's REST API, field by field"}


def test_no_module_has_over_420_lines_but_tables() -> None:
    long = {source for source in EVERY_MODULE if len(source.read_text().splitlines()) > 420}
    assert long == {OPERATOR / path for path in LONG}, "split it by what it knows"


def test_the_engine_names_each_of_its_rooms() -> None:
    named = set(re.findall(r"^(\w+) ", docstring_of(ENGINE), re.MULTILINE))
    there = {package.name for package in packages_in(ENGINE)}
    there |= {source.stem for source in ENGINE.glob("*.py") if source.stem != "__init__"}
    assert there <= named


def test_the_decisions_are_all_on_their_list() -> None:
    decisions = OPERATOR / "decisions"
    there = {source.stem for source in decisions.glob("*.py") if source.stem != "__init__"}
    assert there == there & set(re.findall(r"\w+", docstring_of(decisions)))


@pytest.mark.parametrize("room", packages_in(ENGINE), ids=lambda room: str(room.name))
def test_each_room_names_its_modules(room: Path) -> None:
    there = {source.stem for source in room.glob("*.py") if source.stem != "__init__"}
    if len(there) > 1:
        assert there <= set(re.findall(r"^(\w+) ", docstring_of(room), re.MULTILINE))


CLOCKS = {("time", "time"), ("time", "monotonic"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


HAVE_CLOCKS = {
    "engine/clock.py": "it is the clock",
    "cluster/leases.py": "what is written to a Lease, for people",
    "cluster/events.py": "what is written to an Event, for people",
    "access/tls.py": "the default of an argument",
    "decisions/crons.py": "any time will do to see whether an expression is one",
}


def test_the_operator_tells_the_time_by_its_clock_alone() -> None:
    asked = {
        str(source.relative_to(OPERATOR))
        for source in OPERATOR.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in CLOCKS
    }
    assert asked == HAVE_CLOCKS.keys(), "take a Clock, so that tests can set it"


def test_tests_go_through_what_is_public_and_pass_values_in() -> None:
    named: set[str] = set()
    for source in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hatchet_"):
                named |= {alias.name for alias in node.names if re.match(r"_[A-Za-z]", alias.name)}
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", "patch", "patch.object")):
                texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
                replaced = {text.rpartition(".")[2] for text in texts if isinstance(text, str)}
                named |= {name for name in replaced if re.match(r"_[A-Za-z]|[A-Z][A-Z0-9_]+$", name)}
    assert not named, (
        "give the code an argument that a test can set, see engine/clock.py, pace.py and receiver/bounds.py"
    )


@pytest.mark.parametrize("package", [*packages_in(OPERATOR), *packages_in(DEV)], ids=lambda package: str(package.name))
def test_contributors_find_each_package(package: Path) -> None:
    assert f"`{package.relative_to(ROOT)}/`" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_architecture_page_names_only_files_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    mentioned = set(re.findall(r"`([\w/.]+/[\w/.]*\.py|[\w/]+/)`", text))
    assert len(mentioned) > 20
    missing = {
        path for path in mentioned if not any((root / path).exists() for root in (ROOT, OPERATOR, ROOT / "docs"))
    }
    assert not missing
