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


PATCHED = {
    "_BETWEEN_WRITES": "minutes take their time in virtual time, too",
    "_CHANNEL_OPTIONS": "gRPC itself closes a channel that nobody uses, after minutes",
    "_LOOKED_AT_IN_ONE_CALL": "thousands of runs would have to be made",
    "_LOOK_AGAIN_SECONDS": "a real API server is asked in real time",
    "_MOST_OF_A_PAGE": "another client checks nothing itself",
    "_NOT_BEGUN_SECONDS": "real workers are listened to in real time",
    "_PATIENCE_SECONDS": "a client waits in real time for an operator that is not there",
    "_READ_AGAIN_SECONDS": "a client looks at its files in real time",
    "_TURN_SECONDS": "how much is done in a turn depends on the machine; with none, one thing is",
    "_WHOLE_AT_MOST": "thousands of runs would have to be made",
    "_run": "of asyncio: it begins a turn of the loop",
    "_asked_delay": "its only caller takes a worker's attempt",
    "_is_installed": "it is, where tests run",
    "_on_pod": "no object is known with which an observer of ours fails",
    "_origin": "it is only called as a check of an option",
}
"""Private names of ours that tests replace or import, and why; that they read none, ruff says (SLF001)."""


def test_tests_go_through_what_is_public() -> None:
    named: set[str] = set()
    for source in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hatchet_"):
                named |= {alias.name for alias in node.names}
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", "patch", "patch.object")):
                texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
                named |= {text.rpartition(".")[2] for text in texts if isinstance(text, str)}
    private = {name for name in named if re.match(r"_[A-Za-z]", name)}
    assert private == PATCHED.keys(), "give the code an argument that a test can set, see engine/clock.py and pace.py"


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
