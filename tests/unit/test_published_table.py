"""Each row of what published SDKs can do names a test that is there."""

from __future__ import annotations

import re

import pytest

from tests.integration.harness import ROOT

PAGE = (ROOT / "docs" / "published-sdk.md").read_text()
FOLDERS = ("compat", "integration")
THERE = {
    name
    for folder in FOLDERS
    for file in (ROOT / "tests" / folder).glob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text(), re.MULTILINE)
}


def rows_with_tests() -> list[str]:
    """Return the rows of the tables that have a column of tests."""
    found, is_tested = [], False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            is_tested = False
        elif re.search(r"\| tests? \|$", line):
            is_tested = True
        elif is_tested and not line.startswith("|---"):
            found.append(line)
    return found


ROWS = rows_with_tests()


def test_the_tables_are_found() -> None:
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.split("|")[1].strip()[:40]))
def test_each_row_names_tests_that_are_there(row: str) -> None:
    named = re.findall(r"`(test_\w+)`", row.rstrip("| ").rpartition("| ")[2])
    assert named
    assert set(named) <= THERE
