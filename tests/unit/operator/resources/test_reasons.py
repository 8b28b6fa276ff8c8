"""No word of ours is on the list that nobody says."""

from enum import StrEnum
from pathlib import Path

import pytest

import hatchet_operator
from hatchet_operator.resources.reasons import ConditionType, Phase, Reason

PACKAGE = Path(hatchet_operator.__file__).parent


@pytest.mark.parametrize("words", [Phase, ConditionType, Reason])
def test_every_word_is_used(words: type[StrEnum]) -> None:
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert [word.name for word in words if f"{words.__name__}.{word.name}" not in source] == []
