"""The models and their schema: whatever the API server may store, the operator can read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hatchet_operator.resources.base import Condition, ResourceModel
from hatchet_operator.resources.crd_kinds import KINDS, Kind
from hatchet_operator.resources.run import RunSpec, RunStatus
from hatchet_operator.resources.structural_schema import structural_schema
from hatchet_operator.resources.workerpool import WorkerPool
from tests.unit.operator.resources.schema_strategies import values_of

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model.__name__)


@every_kind
@settings(max_examples=60)
@given(data=st.data())
def test_what_the_schema_admits_can_be_read_and_written_back(kind: Kind, data: st.DataObject) -> None:
    schema = structural_schema(kind.model)
    del schema["properties"]["metadata"]
    stored = data.draw(values_of(schema)) | {"metadata": {"name": "a"}}
    read = kind.model.model_validate(stored)
    assert kind.model.model_validate(read.to_wire()) == read


@given(value=values_of(structural_schema(Condition)))
def test_null_is_never_written(value: dict[str, Any]) -> None:
    assert None not in Condition.model_validate(value).to_wire().values()


def test_the_wire_has_camel_case_and_text() -> None:
    spec = RunSpec(workflow="etl", input_json="{}", ttl=timedelta(minutes=90), reruns=2)
    assert spec.to_wire() == {
        "workflow": "etl",
        "inputJson": "{}",
        "cancelled": False,
        "suspended": False,
        "ttl": "1h30m",
        "reruns": 2,
        "onParentClose": "Abandon",
    }


def test_input_keeps_its_nulls() -> None:
    assert RunSpec(workflow="etl", input={"a": None}).to_wire()["input"] == {"a": None}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-01-02T03:04:05.000006Z", id="microseconds"),
        pytest.param("2026-01-02T03:04:05.000006", id="a time without zone is UTC"),
        pytest.param("2026-01-02T05:04:05.000006+02:00", id="another zone"),
    ],
)
def test_times_are_utc(text: str) -> None:
    condition = Condition.model_validate({"type": "A", "status": "True", "lastTransitionTime": text})
    assert condition.last_transition_time == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    assert condition.to_wire()["lastTransitionTime"] == "2026-01-02T03:04:05.000006Z"


def test_a_pool_without_containers_is_refused() -> None:
    pool = {"metadata": {"name": "p"}, "spec": {"template": {"spec": {"containers": []}}}}
    with pytest.raises(ValidationError, match="at least one container"):
        WorkerPool.model_validate(pool)


def test_models_are_immutable() -> None:
    spec = RunSpec(workflow="etl")
    with pytest.raises(ValidationError, match="frozen"):
        spec.cancelled = True  # type: ignore[misc]  # what the test is about
    assert issubclass(RunSpec, ResourceModel)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param(
            {"execution": 2, "executionRequestedBy": "a"}, (2, "a"), id="written before the field was renamed"
        ),
        pytest.param({"execution": 2, "reruns": 0}, (2, None), id="the server's default does not hide it"),
        pytest.param({"execution": 2, "reruns": 3, "rerunRequestedBy": "b"}, (3, "b"), id="the higher one counts"),
        pytest.param({"reruns": 1, "executionRequestedBy": "a", "rerunRequestedBy": "b"}, (1, "b"), id="the new name"),
    ],
)
def test_a_rerun_is_read_by_its_earlier_name(spec: dict[str, object], want: tuple[int, str | None]) -> None:
    read = RunSpec.model_validate({"workflow": "etl"} | spec)
    assert (read.reruns, read.rerun_requested_by) == want
    assert (read.execution, read.execution_requested_by) == (None, None)


def test_a_status_is_read_by_its_earlier_name_and_written_by_its_own() -> None:
    status = RunStatus.model_validate({"phase": "Failed", "execution": 2, "reruns": 0})
    assert status.to_wire() == {"phase": "Failed", "reruns": 2, "steps": {}, "conditions": []}
