"""Which events of a watch are recognised without being parsed, and that none is taken for another."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.cluster.watch_lines import version_in
from hatchet_operator.resources.base import Json


def make_run(**more: Any) -> Json:
    """Return a run as API servers write it: keys in order, metadata with what it says of its owner and its fields."""
    return {
        "apiVersion": "hatchet-operator.dev/v1alpha1",
        "kind": "WorkflowRun",
        "metadata": {
            "labels": {"team": "etl"},
            "managedFields": [{"fieldsV1": {"f:spec": {"f:workflow": {}}}}],
            "name": "a",
            "resourceVersion": "12",
            "uid": "0b9f3b7e-52a4-5d0e-8c0f-3d2f6f1f7a55",
        },
        "spec": {"workflow": "etl"},
        **more,
    }


def line_of(kind: str, obj: Json) -> bytes:
    return orjson.dumps({"type": kind, "object": obj})


@pytest.mark.parametrize(
    ("line", "want"),
    [
        pytest.param(line_of("ADDED", make_run()), 12, id="an object that was added"),
        pytest.param(line_of("MODIFIED", make_run()), 12, id="one that was changed"),
        pytest.param(line_of("DELETED", make_run()), None, id="a deletion, whatever its version"),
        pytest.param(line_of("BOOKMARK", make_run()), None, id="a bookmark"),
        pytest.param(line_of("ERROR", {"code": 410}), None, id="an error"),
        pytest.param(line_of("ADDED", {"metadata": {}}), None, id="an object without a version"),
        pytest.param(
            line_of("ADDED", {"metadata": {"resourceVersion": "opaque"}}), None, id="a version of another kind"
        ),
        pytest.param(json.dumps({"type": "ADDED", "object": make_run()}).encode(), None, id="JSON with spaces"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"12', None, id="half a line"),
        pytest.param(
            line_of("ADDED", make_run(spec={"input": {"resourceVersion": "7"}})), None, id="an input with such a key"
        ),
        pytest.param(
            line_of("ADDED", {"metadata": {"labels": {"resourceVersion": "7"}, "resourceVersion": "12"}}),
            None,
            id="a label of that name, which comes first",
        ),
        pytest.param(
            line_of("ADDED", make_run(spec={"input": {"key": "resourceVersion"}})), None, id="such a word in an input"
        ),
        pytest.param(
            line_of("ADDED", make_run(spec={"inputJson": '{"resourceVersion":"7"}'})), 12, id="an object in a text"
        ),
        pytest.param(
            line_of("ADDED", make_run(spec={"inputJson": '"resourceVersion'})), None, id="a text that ends so"
        ),
    ],
)
def test_what_is_read_of_a_line(line: bytes, want: int | None) -> None:
    assert version_in(line) == want


_WORDS = st.sampled_from(
    [
        "resourceVersion",
        '"resourceVersion":"7"',
        '\\"resourceVersion":"7',
        'a"resourceVersion',
        "metadata",
        "7",
        '{"type":"',
    ]
)
_ANYTHING = st.recursive(
    _WORDS | st.text() | st.integers(0, 99) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(kind=st.sampled_from(["ADDED", "MODIFIED", "DELETED"]), rest=_ANYTHING, labels=st.dictionaries(_WORDS, _WORDS))
def test_a_version_that_is_read_is_the_objects_whatever_users_wrote_into_it(kind: str, rest: Any, labels: Json) -> None:
    obj = {"metadata": {"labels": labels, "resourceVersion": "12", "uid": "u"}, "spec": rest}
    for text in (
        json.dumps({"type": kind, "object": obj}, separators=(",", ":")),
        json.dumps({"type": kind, "object": obj}, separators=(",", ":"), ensure_ascii=False),
        json.dumps({"type": kind, "object": dict(reversed(obj.items()))}, separators=(",", ":")),
    ):
        version = version_in(text.encode("utf-8", "surrogatepass"))
        assert version in (None, 12)
        assert kind != "DELETED" or version is None
