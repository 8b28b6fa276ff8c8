"""What a test passes to the fakes: refused where it is passed and by name, as the calls of a step refuse theirs."""

from collections.abc import Mapping
from typing import Any

from hatchet_sdk._client.arguments import LARGEST, LONGEST_SPAWN_KEY, checked_number, checked_text
from hatchet_sdk._client.json_text import encode_object
from hatchet_sdk._client.requests import checked_workflow_name
from hatchet_sdk._client.typed import name_of
from hatchet_sdk._client.validation import is_validator
from hatchet_sdk._runner.worker_labels import labels_problem
from hatchet_sdk.errors import RequestRefused

_CAUSES = ("manual", "event", "cron", "schedule", "parent")
_ENDS = ("Failed", "Cancelled", "Deleted")


def checked_which(workflow_name: object, key: object, *, what: str) -> tuple[str, str | None]:
    """Return which spawns are meant: their workflow's name, and their key or None.

    Raises:
        TypeError, ValueError: One of them cannot be that of a spawn.
    """
    name = checked_workflow_name(name_of(workflow_name), what=f"{what}: workflow_name")
    if key is None:
        return name, None
    return name, checked_text(key, what=f"{what}: key", longest=LONGEST_SPAWN_KEY)


def check_attempt(**given: Any) -> None:
    """Refuse what the attempt of a fake context cannot have.

    Raises:
        TypeError, ValueError: An argument is of another type, or not one of those that there are.
    """
    for name in ("step", "workflow_run_id"):
        checked_text(given[name], what=_of_context(name))
    for name in ("parent_workflow_run_id", "child_key"):
        if given[name] != "":
            checked_text(given[name], what=_of_context(name))
    checked_number(given["retry_count"], what=_of_context("retry_count"), expected="0 or more", least=0)
    checked_number(given["child_index"], what=_of_context("child_index"), expected="-1 or more", least=-1, most=LARGEST)
    _check_choice(given["triggered_by"], _CAUSES, what=_of_context("triggered_by"))
    _check_truth(given["payloads"], what=_of_context("payloads"))
    if (problem := labels_problem(given["worker_labels"], _of_context("worker_labels"))) is not None:
        raise TypeError(problem)
    if given["input_validator"] is not None and not is_validator(given["input_validator"]):
        said = given["input_validator"]
        raise TypeError(f"{_of_context('input_validator')} is {said!r} (expected a pydantic model: a class)")


def checked_outputs(outputs: object, *, what: str, max_bytes: int) -> dict[str, str]:
    """Return what each step returned, by its name, as JSON text.

    Raises:
        TypeError, ValueError: It is not a mapping of mappings, or something in it has no JSON form.
    """
    expected = 'outputs by step name, as in {"step": {"rows": 2}}'
    if not isinstance(outputs, Mapping):
        raise TypeError(f"{what} is {outputs!r} (expected {expected})")
    texts = {}
    for step, output in outputs.items():
        if not isinstance(step, str):
            raise TypeError(f"{what} has the key {step!r} (expected {expected})")
        texts[step] = encode_object(output, what=f'{what}["{step}"]', expected=expected, max_bytes=max_bytes)
    return texts


def checked_step_errors(errors: object, *, what: str) -> dict[str, str]:
    """Return error texts by step name.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(errors, Mapping) or not all(isinstance(text, str) for pair in errors.items() for text in pair):
        raise TypeError(f'{what} is {errors!r} (expected texts by step name, as in {{"load": "boom"}})')
    return dict(errors)


def checked_end(phase: object, *, what: str) -> str:
    """Return how a run ended without success.

    Raises:
        TypeError, ValueError: There is no such end.
    """
    return _check_choice(phase, _ENDS, what=what)


def check_refusal(error: object, *, what: str) -> None:
    """Refuse what the operator cannot have answered to a spawn.

    Raises:
        TypeError: It is no RequestRefused.
    """
    if not isinstance(error, RequestRefused):
        raise TypeError(
            f'{what} is {error!r} (expected a RequestRefused, such as WorkflowNotFound("no such workflow"))'
        )


def _of_context(name: str) -> str:
    return f"FakeContext: {name}"


def _check_choice(value: object, choices: tuple[str, ...], *, what: str) -> str:
    if not isinstance(value, str) or value not in choices:
        problem = f"{what} is {value!r} (expected {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r})"
        raise ValueError(problem) if isinstance(value, str) else TypeError(problem)
    return value


def _check_truth(value: object, *, what: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{what} is {value!r} (expected True or False)")
