"""What is kept of streams, and what a slow reader loses."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.decisions.step_events import EventKind
from hatchet_operator.engine.streams.buffer import MAX_RUN_BYTES, Buffer, StreamEvent
from hatchet_operator.engine.streams.readers import Metadata, Reader
from tests.unit.operator.decisions.builders import make_run


def chunk(run: str, index: int, payload: str = "", attempt: str = "a") -> StreamEvent:
    return StreamEvent(
        run=run, name=run, kind=EventKind.STREAM, step="work", attempt_id=attempt, payload=payload, index=index
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 900)), max_size=60))
def test_a_buffer_keeps_the_last_events_in_order_within_its_bounds(said: list[tuple[str, int]]) -> None:
    buffer = Buffer(most_of_run=2000, most=3000)
    count: dict[str, int] = {}
    for run, size in said:
        index = count.get(run, 0)
        count[run] = index + 1
        buffer.add(chunk(run, index, "x" * size))
        kept = {other: events for other in buffer if (events := list(buffer.of(other)))}
        assert kept[run][-1].index == index
        for events in kept.values():
            assert [event.index for event in events] == list(range(events[0].index, events[-1].index + 1))
            assert sum(event.weight for event in events) <= 2000 or len(events) == 1
        assert buffer.weight == sum(event.weight for events in kept.values() for event in events) <= 3000 + 1100
    for run in count:
        buffer.forget(run)
    assert buffer.weight == 0


def test_the_run_that_said_nothing_for_longest_gives_way() -> None:
    buffer = Buffer(most_of_run=10_000, most=1000)
    buffer.add(chunk("old", 0, "x" * 300))
    buffer.add(chunk("new", 0, "x" * 300))
    buffer.add(chunk("old", 1, "x" * 300))
    assert [event.index for event in buffer.of("old")] == [0, 1]
    assert "new" not in buffer or not list(buffer.of("new"))


def test_the_next_index_is_known_by_attempt() -> None:
    buffer = Buffer()
    assert buffer.next_index("r", "a") == 0
    buffer.add(chunk("r", 4))
    buffer.add(chunk("r", 0, attempt="b"))
    assert (buffer.next_index("r", "a"), buffer.next_index("r", "b"), buffer.next_index("r", "c")) == (5, 1, 0)


async def read(reader: Reader) -> list[int]:
    reader.close()
    return [event.index async for event in reader.events()]


def test_who_is_slow_loses_the_oldest_and_who_comes_back_gets_what_is_new() -> None:
    slow, back = Reader("default", seen={}), Reader("default", seen={"a": 7})
    size = MAX_RUN_BYTES // 4
    for index in range(10):
        slow.offer(chunk("r", index, "x" * size))
        back.offer(chunk("r", index))
    assert asyncio.run(read(slow)) == [7, 8, 9]
    assert asyncio.run(read(back)) == [8, 9]


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (1.5, "1.5"), (["a", 1], '["a",1]'), ({"a": None}, '{"a":null}')]
)
def test_an_entry_of_metadata_that_is_no_text_is_compared_as_json(value: object, text: str) -> None:
    """As lists of runs compare it: a client asks for both in the same words."""
    assert Metadata("chat", text).matches({"chat": value})
    assert RunFilter(metadata={"chat": text}).takes(make_run(additional_metadata={"chat": value}))


def test_an_entry_of_metadata_is_compared_as_text() -> None:
    wanted = Metadata("chat", "7")
    assert [wanted.matches(entries) for entries in ({"chat": "7"}, {"chat": 7}, {"chat": "8"}, {}, None)] == [
        True,
        True,
        False,
        False,
        False,
    ]
