from __future__ import annotations

import pytest

from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.decisions.outputs import output_problem
from hatchet_operator.resources.limits import MAX_OBJECT_BYTES, MAX_OUTPUT_BYTES
from hatchet_operator.resources.run import RunStatus, StepStatus
from tests.unit.operator.decisions.builders import NOW, make_run


def text_of(size: int) -> str:
    return '{"a":"' + "x" * (size - 8) + '"}'


def kept(*sizes: int) -> dict[str, StepStatus]:
    return {f"step-{number}": StepStatus(output=text_of(size)) for number, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("payload", "want"),
    [
        pytest.param("", None, id="nothing is an output"),
        pytest.param('{"a": 1}', None, id="an object is an output"),
        pytest.param(text_of(MAX_OUTPUT_BYTES), None, id="one that is just small enough"),
        pytest.param(text_of(MAX_OUTPUT_BYTES + 1), "at most 262144 bytes (256 KiB) are kept", id="one byte more"),
        pytest.param("no", "returned something that is not JSON", id="no JSON"),
        pytest.param("[1]", "returned a JSON list; expected a mapping or None", id="a list"),
    ],
)
def test_what_can_be_kept(payload: str, want: str | None) -> None:
    problem = output_problem(payload, step="the step", run=None, pending=())
    assert problem == want if want is None else want in (problem or "")


@pytest.mark.parametrize(
    ("written", "pending", "want"),
    [
        pytest.param([], [], None, id="an empty run has room"),
        pytest.param([250_000] * 3, [], None, id="three outputs leave room for a fourth"),
        pytest.param([250_000] * 4, [], "has room for 44", id="four are written down"),
        pytest.param([250_000] * 2, [250_000] * 2, "has room for 44", id="two of them are about to be written down"),
    ],
)
def test_all_outputs_of_a_run_fit_into_one_object(written: list[int], pending: list[int], want: str | None) -> None:
    assert MAX_OBJECT_BYTES == 1024 * 1024
    reports = [Report(attempt_id="a", outcome=Outcome.COMPLETED, at=NOW, output=text_of(size)) for size in pending]
    problem = output_problem(
        text_of(250_000), step="the step", run=make_run(status=RunStatus(steps=kept(*written))), pending=reports
    )
    assert problem == want if want is None else want in (problem or "")
