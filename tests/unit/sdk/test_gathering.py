"""Runs that are awaited together, of which some may fail."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_sdk import (
    GatheredRuns,
    TooManyFailures,
    WorkflowRunCancelled,
    WorkflowRunRef,
    gather_runs,
    sync_gather_runs,
)
from hatchet_sdk._client.gathering import most_failures
from hatchet_sdk.testing import FakeContext


def children(context: FakeContext, *, failed: int, succeeded: int) -> list[WorkflowRunRef]:
    """Return references to children, the first of which failed."""
    context.answer("Child", lambda spawned: {"work": {"n": spawned.input["n"]}})
    for number in range(failed):
        context.fail("Child", "boom", key=f"child{number}", phase="Cancelled" if number else "Failed")
    return [context.spawn_workflow("Child", {"n": n}, key=f"child{n}") for n in range(failed + succeeded)]


def both(refs: list[WorkflowRunRef], **options: Any) -> GatheredRuns:
    """Gather in both ways, which have to be alike."""
    told = sync_gather_runs(refs, **options)
    assert asyncio.run(gather_runs(refs, **options)).results == told.results
    return told


def test_what_succeeded_and_what_failed_are_told_in_the_order_of_the_references() -> None:
    told = both(children(FakeContext(), failed=2, succeeded=2), max_failed=2)
    assert told.results == [{"work": {"n": 2}}, {"work": {"n": 3}}]
    assert [type(failure).__name__ for failure in told.failures] == ["WorkflowRunFailed", "WorkflowRunCancelled"]
    assert isinstance(told.failures[1], WorkflowRunCancelled)
    assert told.failures[0].workflow_run_id == "run-child-key-child0"


@pytest.mark.parametrize("max_failed", [0, 1, "0%", "33%"])
def test_more_failures_than_may_be_are_an_error_that_has_all_so_far(max_failed: int | str) -> None:
    with pytest.raises(TooManyFailures) as raised:
        asyncio.run(gather_runs(children(FakeContext(), failed=2, succeeded=2), max_failed=max_failed))
    assert f"of 4 runs failed, and max_failed={max_failed!r} (run-child-key-child" in str(raised.value)
    assert len(raised.value.failures) == most_failures(max_failed, 4) + 1


def test_none_at_all() -> None:
    assert both([], max_failed="50%") == GatheredRuns(results=[], failures=[])


@given(runs=st.integers(0, 5000), percent=st.integers(0, 100))
def test_a_share_never_lets_more_fail_than_it_says(runs: int, percent: int) -> None:
    most = most_failures(f"{percent}%", runs)
    assert most * 100 <= runs * percent < (most + 1) * 100


@pytest.mark.parametrize("gather", [sync_gather_runs, lambda *args, **more: asyncio.run(gather_runs(*args, **more))])
@pytest.mark.parametrize(
    ("refs", "max_failed", "want"),
    [
        pytest.param([], -1, "max_failed is -1 (expected a number of runs, 0 or more, or", id="less than none"),
        pytest.param([], "101%", "max_failed is '101%' (expected", id="more than all"),
        pytest.param([], "ten", "max_failed is 'ten' (expected", id="a word"),
        pytest.param([], 0.1, "max_failed is 0.1 (expected a number of runs, 0 or more, or a share", id="0.1"),
        pytest.param([], True, "max_failed is True (expected", id="a truth"),
        pytest.param(5, 0, "refs is 5 (expected a list of references to runs)", id="no list"),
        pytest.param(["run-1"], 0, "refs[0] is 'run-1' (expected a reference to a run: await the spawn", id="an id"),
    ],
)
def test_nonsense_is_refused(gather: Callable[..., Any], refs: Any, max_failed: Any, want: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        gather(refs, max_failed=max_failed)
    assert want in str(refused.value)
