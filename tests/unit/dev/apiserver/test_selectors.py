"""Selectors as tables: the text of a query parameter, and which labels or fields it selects."""

from __future__ import annotations

import pytest

from hatchet_operator_dev.apiserver.selectors import field_reader, parse_fields, parse_labels
from hatchet_operator_dev.apiserver.status import ApiError

LABELS = {"app": "etl", "tier": "one", "size": "5", "example.com/kind": "a"}


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        pytest.param("app=etl", True, id="an equal value"),
        pytest.param("app==etl", True, id="an equal value with two signs"),
        pytest.param("app=other", False, id="another value"),
        pytest.param("app!=other", True, id="unequal to another value"),
        pytest.param("missing!=x", True, id="an absent label is unequal to everything"),
        pytest.param("app in (etl, other)", True, id="one of a set"),
        pytest.param("app in (other)", False, id="none of a set"),
        pytest.param("app notin (other,more)", True, id="outside of a set"),
        pytest.param("missing notin (x)", True, id="an absent label is outside of every set"),
        pytest.param("app", True, id="a label that exists"),
        pytest.param("missing", False, id="a label that does not exist"),
        pytest.param("!missing", True, id="absence of an absent label"),
        pytest.param("!app", False, id="absence of a label that exists"),
        pytest.param("app=etl,tier in (one,two),!missing", True, id="several requirements that hold"),
        pytest.param("app=etl,tier=two", False, id="several requirements of which one fails"),
        pytest.param("example.com/kind=a", True, id="a key with a prefix"),
        pytest.param("missing=", False, id="an empty value is not an absent label"),
        pytest.param("size>4", True, id="a number above"),
        pytest.param("size<4", False, id="a number not below"),
    ],
)
def test_label_selectors(selector: str, want: bool) -> None:
    selects = parse_labels(selector)
    assert selects is not None
    assert selects({"metadata": {"labels": LABELS}}) is want


@pytest.mark.parametrize("selector", [None, "", "  "])
def test_no_selector_selects_everything(selector: str | None) -> None:
    assert parse_labels(selector) is None
    assert parse_fields(selector and selector.strip(), {}) is None


@pytest.mark.parametrize("selector", ["a b", "a in b", "a in (b", "=x", "a=b=c", "a,,b"])
def test_nonsense_is_a_bad_request(selector: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_labels(selector)
    assert refused.value.code == 400


READERS = {path: field_reader(tuple(path.split("."))) for path in ("metadata.name", "status.phase", "spec.on")}


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        pytest.param("status.phase=Running", True, id="an equal field"),
        pytest.param("status.phase!=Running", False, id="an unequal field"),
        pytest.param("status.phase=Running,metadata.name=a", True, id="two fields"),
        pytest.param("spec.on=true", True, id="booleans are written as text"),
    ],
)
def test_field_selectors(selector: str, want: bool) -> None:
    selects = parse_fields(selector, READERS)
    assert selects is not None
    assert selects({"metadata": {"name": "a"}, "spec": {"on": True}, "status": {"phase": "Running"}}) is want


def test_an_absent_field_reads_as_empty_text() -> None:
    selects = parse_fields("status.phase=", READERS)
    assert selects is not None
    assert selects({"metadata": {"name": "a"}})


def test_an_unknown_field_is_a_bad_request() -> None:
    with pytest.raises(ApiError, match=r"field label not supported: spec\.secret"):
        parse_fields("spec.secret=1", READERS)
