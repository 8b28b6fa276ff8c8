"""Which parts of a stream go in one message."""

from __future__ import annotations

import pytest

from hatchet_operator.dispatcher.v0.translation.streams import together
from hatchet_sdk.contracts import dispatcher_pb2 as wire

SMALL, LARGE = "x", "x" * 70_000


@pytest.mark.parametrize(
    ("payloads", "want"),
    [
        pytest.param([], [], id="nothing is no message"),
        pytest.param([SMALL] * 3, [[0, 1, 2]], id="small ones go together"),
        pytest.param([LARGE], [[0]], id="a large one goes all the same"),
        pytest.param([SMALL, LARGE, SMALL, SMALL], [[0], [1], [2, 3]], id="a large one goes alone, in its turn"),
    ],
)
def test_parts_are_put_together_in_their_order(payloads: list[str], want: list[list[int]]) -> None:
    parts = [
        wire.AssignedAction(task_run_external_id=str(number), action_payload=payload)
        for number, payload in enumerate(payloads)
    ]
    messages = together(parts)
    assert [[int(each.task_run_external_id) for each in (message, *message.more)] for message in messages] == want
