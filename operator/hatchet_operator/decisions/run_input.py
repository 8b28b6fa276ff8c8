"""Whether a run can begin with its input and its metadata: what the API server can't check."""

import orjson

from hatchet_operator.resources.limits import size_problem
from hatchet_operator.resources.nesting import depth_problem, read_json
from hatchet_operator.resources.run import WorkflowRun


def input_problem(run: WorkflowRun) -> str | None:
    """Say what is wrong with a run's input, or None.

    The API server looks neither into a text nor at depth, and can't tell how many bytes an object has as JSON (CEL has
    no way to write one).
    """
    spec = run.spec
    for what, value in (("spec.additionalMetadata", spec.additional_metadata), ("spec.input", spec.input)):
        if not value:
            continue
        # depth first: what is too deep can't be written
        if (problem := depth_problem(value, what) or size_problem(len(orjson.dumps(value)), what)) is not None:
            return problem
    if spec.input_json is None:
        return None
    if (problem := size_problem(len(spec.input_json.encode("utf-8", "surrogatepass")), "spec.inputJson")) is not None:
        return problem
    try:
        value = read_json(spec.input_json)
    except orjson.JSONDecodeError as error:
        return f"spec.inputJson is not JSON ({error}); expected the text of a JSON object, as in '{{\"a\": 1}}'"
    if not isinstance(value, dict):
        return f"spec.inputJson is a JSON {type(value).__name__}; expected an object, as in '{{\"a\": 1}}'"
    return depth_problem(value, "spec.inputJson")
