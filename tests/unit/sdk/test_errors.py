"""Errors travel: between processes, through copies, into reports."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from hatchet_sdk import HatchetError, NonRetryableError, WorkflowRunFailed, errors

KINDS = [getattr(errors, name) for name in errors.__all__]


class OfAUser(NonRetryableError):
    """As users write them."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def make_error(kind: type[HatchetError]) -> HatchetError:
    if issubclass(kind, WorkflowRunFailed):
        error: HatchetError = kind("it failed", workflow_run_id="run-1", errors={"s": "boom"}, phase="Failed")
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
