"""Whether what a step returned can be kept: a JSON object, of a size that its run has room for."""

from collections.abc import Iterable

import orjson

from hatchet_operator.decisions.observed import Report
from hatchet_operator.resources.limits import MAX_OBJECT_BYTES, output_size_problem
from hatchet_operator.resources.nesting import depth_problem, read_json
from hatchet_operator.resources.run import WorkflowRun

_REST_OF_OBJECT_BYTES = 4096  # metadata, conditions, names and times of steps


def output_problem(payload: str, *, step: str, run: WorkflowRun | None, pending: Iterable[Report]) -> str | None:
    """Say why a step's output can't be kept, or None.

    Args:
        payload: What the worker sent; nothing at all is an output too.
        step: What messages call the step.
        run: The step's run, as far as it is known.
        pending: Reports of the run that its status does not include yet; they will take room there.
    """
    if not payload:
        return None
    size = len(payload.encode())
    if (problem := output_size_problem(size, step) or content_problem(payload, step=step)) is not None:
        return problem
    if run is not None and size > (room := room_for_output(run, pending)):
        return (
            f"{step} returned {size} bytes of JSON, but run {run.ref} has room for {max(room, 0)} bytes only: "
            "a run with its input and all outputs may have 1 MiB"
        )
    return None


def content_problem(payload: str, *, step: str) -> str | None:
    """Say why what a step returned is not an output, whatever its size, or None."""
    try:
        value = read_json(payload)
    except orjson.JSONDecodeError as error:
        return f"{step} returned something that is not JSON ({error}); expected a mapping or None"
    if not isinstance(value, dict):
        return f"{step} returned a JSON {type(value).__name__}; expected a mapping or None"
    return depth_problem(value, f"what {step} returned")


def room_for_output(run: WorkflowRun, pending: Iterable[Report]) -> int:
    """Return the largest size, in bytes, of an output kept in this run, beside what is or will be there."""
    return MAX_OBJECT_BYTES - _object_bytes(run, pending)


def _object_bytes(run: WorkflowRun, pending: Iterable[Report]) -> int:
    """Return the size of the run as JSON, roughly: what counts against the limit of a whole object."""
    texts = [
        run.spec.input_json,
        *(text for step in run.status.steps.values() for text in (step.output, step.error)),
        *(report.output for report in pending),
    ]
    return sum(len(text.encode()) for text in texts if text) + len(orjson.dumps(run.spec.input)) + _REST_OF_OBJECT_BYTES
