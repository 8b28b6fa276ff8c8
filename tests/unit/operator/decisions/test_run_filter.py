"""Which runs a filter takes, and what of it the API server can select by."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import RunStatus
from tests.unit.operator.decisions.builders import PARENT, SECOND, ago, make_run

RUN = make_run(
    status=RunStatus(phase=Phase.FAILED), age=10 * SECOND, additional_metadata={"team": "blue", "n": 7, "x": [1, "a"]}
)


@pytest.mark.parametrize(
    ("asked", "want"),
    [
        pytest.param({}, True, id="nothing is asked"),
        pytest.param({"workflow": "etl"}, True, id="its workflow"),
        pytest.param({"workflow": "other"}, False, id="another workflow"),
        pytest.param({"phases": (Phase.SUCCEEDED, Phase.FAILED)}, True, id="one of its phases"),
        pytest.param({"phases": (Phase.SUCCEEDED,)}, False, id="another phase"),
        pytest.param({"since": ago(10)}, True, id="made right then"),
        pytest.param({"since": ago(9)}, False, id="made before"),
        pytest.param({"until": ago(10)}, False, id="not made before that"),
        pytest.param({"until": ago(9)}, True, id="made before that"),
        pytest.param({"metadata": {"team": "blue"}}, True, id="a text"),
        pytest.param({"metadata": {"team": "blue", "n": "7"}}, True, id="a number as JSON"),
        pytest.param({"metadata": {"x": '[1,"a"]'}}, True, id="a list as compact JSON"),
        pytest.param({"metadata": {"team": "red"}}, False, id="another value"),
        pytest.param({"metadata": {"team": "blue", "nothing": ""}}, False, id="a key that is not there"),
    ],
)
def test_what_a_filter_takes(asked: dict[str, Any], want: bool) -> None:
    assert RunFilter(**asked).takes(RUN) is want


CHILD = make_run(parent=PARENT, age=10 * SECOND)


@pytest.mark.parametrize(
    ("asked", "want"),
    [
        pytest.param({"workflows": frozenset({"a", "etl"})}, True, id="one of several workflows"),
        pytest.param({"workflows": frozenset({"a"})}, False, id="none of them"),
        pytest.param({"parent_uid": PARENT.uid}, True, id="its parent"),
        pytest.param({"parent_uid": "other"}, False, id="another parent"),
        pytest.param({"phases": (Phase.FAILED,)}, False, id="another phase"),
        pytest.param({"since": ago(10), "until": ago(9)}, True, id="made in between"),
        pytest.param({"since": ago(9)}, False, id="made before"),
    ],
)
def test_what_is_remembered_of_a_run_says_the_same_as_its_object(asked: dict[str, Any], want: bool) -> None:
    wanted, created = RunFilter(**asked), CHILD.metadata.creation_timestamp
    assert created is not None
    remembered = wanted.may_take(
        workflow="etl", phase=Phase.PENDING, created_at=created.timestamp(), parent_uid=PARENT.uid
    )
    assert (wanted.takes(CHILD), remembered, wanted.needs_object) == (want, want, False)


@pytest.mark.parametrize(
    ("asked", "want"),
    [
        pytest.param({"parent_step": PARENT.step}, True, id="the step that spawned it"),
        pytest.param({"parent_step": "other"}, False, id="another step"),
        pytest.param({"event": "signup"}, False, id="an event"),
        pytest.param({"metadata": {"a": "b"}}, False, id="metadata"),
    ],
)
def test_what_only_the_object_says_is_left_to_it(asked: dict[str, Any], want: bool) -> None:
    wanted = RunFilter(**asked)
    assert wanted.needs_object
    assert wanted.may_take(workflow="etl", phase=Phase.PENDING, created_at=0.0, parent_uid=None)
    assert wanted.takes(CHILD) is want


@pytest.mark.parametrize(
    ("asked", "labels", "fields"),
    [
        pytest.param({}, None, None, id="nothing"),
        pytest.param({"workflow": "etl"}, None, "spec.workflow=etl", id="a workflow"),
        pytest.param(
            {"workflow": "etl", "phases": (Phase.FAILED,)},
            None,
            "spec.workflow=etl,status.phase=Failed",
            id="a workflow and a phase",
        ),
        pytest.param({"phases": (Phase.FAILED, Phase.RUNNING)}, None, None, id="phases are alternatives"),
        pytest.param({"tree": "root"}, "hatchet-operator.dev/root=root", None, id="a tree"),
    ],
)
def test_what_the_api_server_selects_by(asked: dict[str, Any], labels: str | None, fields: str | None) -> None:
    which = RunFilter(**asked)
    assert (which.label_selector, which.field_selector) == (labels, fields)
