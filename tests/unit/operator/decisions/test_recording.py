"""Which children begin without an object."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.recording import Spawned, begins_light
from hatchet_operator.resources.reasons import Execution, Record
from hatchet_operator.resources.workflow import ConcurrencyLimit, Idempotency
from tests.unit.operator.decisions.builders import make_graph

LIGHT = make_graph(record=Record.RESULT)
KEY = Idempotency(expression="input.order", ttl=timedelta(minutes=1))
LIMIT = ConcurrencyLimit(expression="input.user")


def child(graph: Graph | None = LIGHT, **changes: object) -> Spawned:
    return Spawned(**{"asked": None, "is_kept_by_client": True, "graph": graph, **changes})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("spawned", "want"),
    [
        pytest.param(child(), True, id="its workflow says so"),
        pytest.param(child(make_graph()), False, id="nobody says so"),
        pytest.param(child(make_graph(), asked=Record.RESULT), True, id="its parent asks for it"),
        pytest.param(child(asked=Record.FULL), False, id="its parent asks for everything"),
        pytest.param(child(is_kept_by_client=False), False, id="its client would not spawn it again"),
        pytest.param(child(None, asked=Record.RESULT), False, id="nobody knows what it executes yet"),
        pytest.param(child(is_scheduled=True), False, id="it waits for a time"),
        pytest.param(child(is_deduplicated=True), False, id="its object reserves a value"),
        pytest.param(child(replace(LIGHT, idempotency=KEY)), False, id="it has an idempotency key"),
        pytest.param(child(make_graph(record=Record.RESULT, concurrency=(LIMIT,))), False, id="it is in a group"),
        pytest.param(child(replace(LIGHT, asks_for_group=True)), False, id="a step names its group"),
        pytest.param(child(replace(LIGHT, execution=Execution.POD)), False, id="it has its own pod"),
    ],
)
def test_which_children_begin_without_an_object(spawned: Spawned, want: bool) -> None:
    assert begins_light(spawned) is want
