"""The entry "dedupe" of a run's metadata."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.resources.names import dedupe_run_name


@pytest.mark.parametrize(
    ("metadata", "above", "want"),
    [
        pytest.param({}, None, None, id="no entry: nothing"),
        pytest.param({"dedupe": None}, None, None, id="null: nothing"),
        pytest.param({"dedupe": "order-7"}, None, "order-7", id="a text"),
        pytest.param({"dedupe": 7}, None, "7", id="a number is its text"),
        pytest.param({"dedupe": True}, None, "true", id="a truth too"),
        pytest.param({"dedupe": "a"}, {}, "a", id="a child's own"),
        pytest.param({"dedupe": "a"}, {"dedupe": "b"}, "a", id="a child's own, over its parent's"),
        pytest.param({"dedupe": "a"}, {"dedupe": "a"}, None, id="inherited: the child asks for nothing"),
    ],
)
def test_what_a_run_is_told_apart_by(metadata: dict[str, Any], above: dict[str, Any] | None, want: str | None) -> None:
    assert dedupe_value(metadata, above=above) == want


@pytest.mark.parametrize("value", ["", [], ["a"], {}, {"a": 1}])
def test_what_is_no_value(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a text or number that no other run has"):
        dedupe_value({"dedupe": value})


def test_a_value_belongs_to_a_workflow() -> None:
    names = {dedupe_run_name(workflow, value) for workflow in ("etl", "pay") for value in ("a", "b", "")}
    assert len(names) == 6
