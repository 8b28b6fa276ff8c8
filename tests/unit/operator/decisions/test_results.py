"""What somebody who awaits a run is told."""

from __future__ import annotations

import pytest

from hatchet_operator.decisions.observed import current_attempt_id
from hatchet_operator.decisions.results import StepResult, run_results
from hatchet_operator.resources.reasons import ClientApi, Phase, Reason
from hatchet_operator.resources.run import RunStatus, StepStatus
from tests.unit.operator.decisions.builders import failed, make_run, make_step_status, succeeded

NOTHING = make_step_status(Phase.SUCCEEDED)


@pytest.mark.parametrize(
    ("phase", "steps", "want"),
    [
        pytest.param(
            Phase.SUCCEEDED,
            {"a": succeeded('{"n":1}'), "b": NOTHING},
            [("a", '{"n":1}', None), ("b", None, None)],
            id="outputs; a step that returned nothing has none",
        ),
        pytest.param(
            Phase.FAILED,
            {"a": succeeded("{}"), "b": failed(error="it broke")},
            [("a", "{}", None), ("b", None, "it broke")],
            id="outputs beside errors",
        ),
        pytest.param(
            Phase.SUCCEEDED,
            {"a": make_step_status(Phase.SUCCEEDED, output="{}", error="of an earlier attempt")},
            [("a", "{}", None)],
            id="a success has no error, whatever earlier attempts said",
        ),
        pytest.param(
            Phase.FAILED,
            {"a": failed(error="it broke"), "tidy": failed(error="tidying broke")},
            [("a", None, "it broke")],
            id="a failed on-failure step hides nothing",
        ),
        pytest.param(
            Phase.FAILED,
            {"a": failed(error="it broke"), "tidy": succeeded('{"t":1}')},
            [("a", None, "it broke"), ("tidy", '{"t":1}', None)],
            id="a succeeded one is a result",
        ),
        pytest.param(
            Phase.CANCELLED,
            {"a": make_step_status(Phase.CANCELLED)},
            [("a", None, "Cancelled")],
            id="a step without words",
        ),
        pytest.param(Phase.FAILED, {}, [("", None, "no worker came")], id="a run that never had steps"),
        pytest.param(
            Phase.CANCELLED,
            {"a": succeeded("{}")},
            [("a", "{}", None), ("", None, "no worker came")],
            id="cancelled between two steps",
        ),
    ],
)
def test_results(phase: Phase, steps: dict[str, StepStatus], want: list[tuple[str, str | None, str | None]]) -> None:
    run = make_run(status=RunStatus(phase=phase, steps=steps, message="no worker came"))
    got = run_results(run, on_failure="tidy")
    assert [(result.step, result.output, result.error) for result in got] == want


def test_a_run_without_words_has_an_error_all_the_same() -> None:
    run = make_run(status=RunStatus(phase=Phase.FAILED))
    assert run_results(run) == [StepResult(step="", attempt_id="", error="run etl-7 ended as Failed")]


def test_results_name_the_attempt() -> None:
    run = make_run(status=RunStatus(phase=Phase.SUCCEEDED, steps={"a": make_step_status(Phase.SUCCEEDED, attempt=2)}))
    assert run_results(run)[0].attempt_id == current_attempt_id(run, "a")


@pytest.mark.parametrize(
    ("api", "want"), [(None, ["it broke", "due to PREVIOUS_STEP_FAILED"]), (ClientApi.V1, ["it broke", None])]
)
def test_clients_of_v1_get_one_error_for_one_failure(api: ClientApi | None, want: list[str | None]) -> None:
    skipped = make_step_status(Phase.CANCELLED, reason=Reason.PREVIOUS_STEP_FAILED, error="due to PREVIOUS_STEP_FAILED")
    run = make_run(status=RunStatus(phase=Phase.FAILED, steps={"a": failed(), "b": skipped}))
    assert [result.error for result in run_results(run, api=api)] == want
