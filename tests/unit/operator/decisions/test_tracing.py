"""Which spans a change of a run ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.tracing import (
    EndedSpan,
    RunTrace,
    SpanContext,
    attempt_span_id,
    child_traceparent,
    deleted_run_span,
    ended_spans,
    read_traceparent,
    run_span_id,
    trace_id_of,
)
from hatchet_operator.resources.names import attempt_id
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import EarlierTry, RunStatus, StepStatus
from tests.unit.operator.decisions.builders import NOW, ago, make_run

TRACE = RunTrace(7, None, is_sampled=True)
PENDING, RUNNING = StepStatus(), StepStatus(phase=Phase.RUNNING, started_at=ago(9), worker="pod-1")
DONE = StepStatus(phase=Phase.SUCCEEDED, started_at=ago(9), finished_at=ago(1), worker="pod-1")
RETRIED = StepStatus(attempt=1, started_at=ago(9), worker="pod-1", error="it broke\nTraceback")
LOST = StepStatus(dispatch=1, error="its worker died")
SKIPPED = StepStatus(phase=Phase.CANCELLED, finished_at=ago(1))


def spans_between(before: Mapping[str, StepStatus], after: Mapping[str, StepStatus], **status: Any) -> list[EndedSpan]:
    old = make_run(status=RunStatus(steps=dict(before)))
    new = make_run(status=RunStatus.model_validate({"steps": dict(after), **status}))
    return ended_spans(old, new, TRACE, now=NOW)


def span_of(attempt: int, dispatch: int = 0) -> int:
    return attempt_span_id(attempt_id("run-uid", rerun=0, step="work", attempt=attempt, dispatch=dispatch))


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        pytest.param(PENDING, RUNNING, [], id="an attempt that begins has not ended"),
        pytest.param(RUNNING, DONE, [(0, 0)], id="a step that succeeds"),
        pytest.param(PENDING, DONE, [(0, 0)], id="a step that was done before it was seen to run"),
        pytest.param(DONE, DONE, [], id="a step that is over has ended before"),
        pytest.param(RUNNING, RETRIED, [(0, 0)], id="an attempt that another one follows"),
        pytest.param(PENDING, RETRIED, [(0, 0)], id="a short attempt that another one follows"),
        pytest.param(RUNNING, LOST, [(0, 0)], id="a dispatch whose worker died"),
        pytest.param(PENDING, LOST, [(0, 0)], id="a short dispatch whose worker died"),
        pytest.param(PENDING, SKIPPED, [], id="a step that was never given out"),
        pytest.param(
            RETRIED,
            RETRIED.model_copy(update={"phase": Phase.CANCELLED, "finished_at": NOW}),
            [],
            id="a step that is cancelled while it waits for its next attempt",
        ),
        pytest.param(
            RETRIED,
            RETRIED.model_copy(update={"phase": Phase.SUCCEEDED, "started_at": ago(2), "finished_at": NOW}),
            [(1, 0)],
            id="a retry that succeeds",
        ),
    ],
)
def test_which_attempts_end(before: StepStatus, after: StepStatus, want: list[tuple[int, int]]) -> None:
    spans = spans_between({"work": before}, {"work": after})
    assert [span.context.span_id for span in spans] == [span_of(*numbers) for numbers in want]
    assert all(span.start <= span.end for span in spans)
    assert {span.parent_id for span in spans} <= {run_span_id("run-uid", 0)}


def test_an_attempt_that_failed_says_so_in_one_line_and_the_next_refers_to_it() -> None:
    (failed,) = spans_between({"work": RUNNING}, {"work": RETRIED})
    assert (failed.error, failed.succeeded, failed.start, failed.end) == ("it broke", False, ago(9), NOW)
    after = RETRIED.model_copy(update={"phase": Phase.SUCCEEDED, "started_at": ago(2), "finished_at": NOW})
    (retry,) = spans_between({"work": RETRIED}, {"work": after})
    assert (retry.follows, retry.error, retry.succeeded) == (failed.context.span_id, None, True)


def test_an_attempt_refers_to_the_last_dispatch_of_the_one_before() -> None:
    tries = tuple(EarlierTry(attempt=0, worker=f"pod-{n}") for n in range(3))
    before = StepStatus(attempt=1, earlier=tries)
    (span,) = spans_between({"work": before}, {"work": before.model_copy(update={"dispatch": 1})})
    assert span.follows == span_of(0, 2)


def test_a_runs_span_tells_how_it_ended() -> None:
    (span,) = spans_between(
        {"work": PENDING},
        {"work": SKIPPED},
        phase="Failed",
        message="it broke\nat length",
        started_at=ago(9),
        finished_at=NOW,
    )
    assert (span.name, span.error, span.start, span.end) == ("run etl", "it broke", ago(9), NOW)
    assert [(event.name, event.at) for event in span.events] == [("step not run", ago(1))]


def test_the_write_that_begins_a_rerun_ends_nothing_and_its_end_refers_to_the_run_before() -> None:
    before = make_run(status=RunStatus(phase=Phase.FAILED, steps={"work": DONE}))
    begun = make_run(status=RunStatus(phase=Phase.RUNNING, reruns=1, steps={"work": DONE}))
    ended = make_run(status=RunStatus(phase=Phase.SUCCEEDED, reruns=1, steps={"work": DONE}))
    assert ended_spans(before, begun, TRACE, now=NOW) == []
    (span,) = ended_spans(begun, ended, TRACE, now=NOW)
    assert (span.context.span_id, span.follows) == (run_span_id("run-uid", 1), run_span_id("run-uid", 0))


def test_a_run_that_is_deleted_ends() -> None:
    span = deleted_run_span(make_run(status=RunStatus(phase=Phase.RUNNING, started_at=ago(5))), TRACE, now=NOW)
    assert (span.attributes["hatchet.reason"], span.start, span.end) == ("Deleted", ago(5), NOW)


TEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        pytest.param(TEXT, True, id="as the specification shows it"),
        pytest.param(TEXT.replace("00-", "cc-", 1) + "-more", True, id="of a later version, with more"),
        pytest.param(TEXT + "-more", False, id="of this version, with more"),
        pytest.param(TEXT.replace("00-", "ff-", 1), False, id="of a version that can't be"),
        pytest.param(TEXT.upper(), False, id="in capitals"),
        pytest.param(f"00-{'0' * 32}-b7ad6b7169203331-01", False, id="without a trace"),
        pytest.param(f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False, id="without a span"),
        pytest.param(TEXT + "\n", False, id="with a line's end"),
        pytest.param(None, False, id="nothing"),
        pytest.param({"a": 1}, False, id="an object"),
    ],
)
def test_what_is_a_traceparent(text: object, is_valid: bool) -> None:
    assert (read_traceparent(text) is not None) is is_valid


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_traceparent_is_read_as_it_was_written(trace_id: int, span_id: int, is_sampled: bool) -> None:
    context = SpanContext(trace_id, span_id, is_sampled)
    assert read_traceparent(str(context)) == context


@given(st.lists(st.uuids(version=4).map(str), min_size=200, max_size=200, unique=True))
def test_ids_differ_and_their_low_bits_are_even(uids: list[str]) -> None:
    low = [trace_id_of(uid) & (2**64 - 1) for uid in uids]
    assert len(set(low)) == len(uids)
    assert 40 < sum(each < 2**63 for each in low) < 160, "a sampler by ratio takes these bits for random"


ATTEMPT = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 5, is_sampled=True)


@pytest.mark.parametrize(
    ("given_text", "inherited", "want"),
    [
        pytest.param(TEXT, None, TEXT, id="a span of the user within the attempt is kept"),
        pytest.param(None, None, str(ATTEMPT), id="without one it is the attempt"),
        pytest.param(TEXT, TEXT, str(ATTEMPT), id="the caller of the parent did not spawn the child"),
        pytest.param(TEXT.replace("0af7", "1af7"), None, str(ATTEMPT), id="a child is in its parent's trace"),
    ],
)
def test_what_spawned_a_child(given_text: object, inherited: object, want: str) -> None:
    assert child_traceparent(given_text, inherited=inherited, attempt=ATTEMPT) == want
