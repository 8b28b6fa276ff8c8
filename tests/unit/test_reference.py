"""The reference says something about every field, option and word, and is what the code makes now."""

from __future__ import annotations

import re

import pytest

from docs.reference import FOLDER, PAGES
from hatchet_operator.resources.reasons import ConditionType, Reason


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date_and_has_no_row_without_a_meaning(name: str) -> None:
    page = (FOLDER / name).read_text()
    assert page == PAGES[name](), "run: make generate"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_word_of_conditions_and_reasons_is_explained() -> None:
    page = (FOLDER / "reasons.md").read_text()
    assert [word for word in (*ConditionType, *Reason) if f"| `{word}` |" not in page] == []
