"""Errors travel: between processes, through copies, into reports."""

import copy
import multiprocessing
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from hatchet_sdk import HatchetError, NonRetryableError, RetryAfterError, WorkflowRunFailed, errors
from hatchet_sdk._runner.failures import asked_delay

KINDS = [getattr(errors, name) for name in errors.__all__]


class OfAUser(NonRetryableError):
    """As users write them."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def make_error(kind: type[HatchetError]) -> HatchetError:
    if issubclass(kind, WorkflowRunFailed):
        error: HatchetError = kind("it failed", workflow_run_id="run-1", errors={"s": "boom"}, phase="Failed")
    elif issubclass(kind, RetryAfterError):
        error = kind("it failed", retry_after=2.5)
    else:
        error = kind("it failed")
    error.add_note("a note")
    return error


def raise_it(error: HatchetError) -> None:
    raise error


@pytest.mark.parametrize("error", [*map(make_error, KINDS), OfAUser(code=7)], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "again",
    [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        *[
            pytest.param(lambda error, n=n: pickle.loads(pickle.dumps(error, n)), id=f"pickle {n}")
            for n in range(pickle.HIGHEST_PROTOCOL + 1)
        ],
    ],
)
def test_every_error_can_be_copied_and_pickled(
    error: HatchetError, again: Callable[[HatchetError], HatchetError]
) -> None:
    made = again(error)
    assert type(made) is type(error)
    assert (str(made), made.args, vars(made)) == (str(error), error.args, vars(error))


def test_errors_come_out_of_other_processes() -> None:
    error = make_error(WorkflowRunFailed)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        answer = pool.submit(raise_it, error).exception()
    assert isinstance(answer, WorkflowRunFailed)
    assert (answer.workflow_run_id, answer.errors, answer.phase) == ("run-1", {"s": "boom"}, "Failed")


@pytest.mark.parametrize(
    ("wait", "want"),
    [
        pytest.param("5", "RetryAfterError: retry_after is '5' (expected seconds or a timedelta)", id="a text"),
        pytest.param(True, "retry_after is True (expected seconds", id="a truth"),
        pytest.param(-1, "retry_after is -1 (expected 0 or more)", id="before now"),
        pytest.param(float("nan"), "retry_after is nan (expected 0 or more)", id="no number"),
        pytest.param(timedelta(seconds=-1), "(expected 0 or more)", id="a negative timedelta"),
    ],
)
def test_a_delay_that_makes_no_sense_is_refused_where_it_is_raised(wait: Any, want: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(want)):
        RetryAfterError("busy", retry_after=wait)


class WithoutDelay(RetryAfterError):
    def __init__(self) -> None:  # forgets its base
        pass


@pytest.mark.parametrize(
    ("error", "want"),
    [
        (RetryAfterError("busy", retry_after=1.5), 1500),
        (RetryAfterError("busy", retry_after=timedelta(minutes=1)), 60_000),
        (RetryAfterError("busy", retry_after=1e300), 86_400_000),
        pytest.param(WithoutDelay(), None, id="a subclass that forgot it"),
        pytest.param(ValueError("busy"), None, id="another error"),
    ],
)
def test_what_the_operator_is_told_of_the_next_attempt(error: BaseException, want: int | None) -> None:
    assert asked_delay(error) == want
