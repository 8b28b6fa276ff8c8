import json
import signal
from collections import Counter

import pytest

from tests.unit.sdk.conftest import ROOT, worker_process
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually


@pytest.mark.parametrize(
    ("example", "workflow", "given", "want", "want_runs"),
    [
        pytest.param(
            "fanout",
            "Parent",
            {},
            {"spawn": {"results": [{"process": {"status": f"success {i}"}} for i in range(10)]}},
            {"Parent": 1, "Child": 10},
            id="ten children of one parent",
        ),
        pytest.param(
            "dag",
            "Etl",
            {"numbers": [1, 2, 3]},
            {"extract": {"numbers": [1, 2, 3]}, "add": {"sum": 6}, "count": {"count": 3}, "average": {"average": 2.0}},
            {"Etl": 1},
            id="steps that wait for each other",
        ),
        pytest.param(
            "retries",
            "FlakyParent",
            {},
            {"spawn": {"receipts": [f"receipt for order {order}" for order in range(3)]}},
            {"FlakyParent": 1, "Payment": 3},
            id="a retried parent finds its children",
        ),
        pytest.param(
            "sync_steps",
            "WordCount",
            {"lines": ["to be or not", "to be"]},
            {"count": {"words": {"to": 2, "be": 2, "or": 1, "not": 1}}},
            {"WordCount": 1, "Line": 2},
            id="steps in threads",
        ),
        pytest.param(
            "triggers",
            "Signup",
            {"user": "ada"},
            {"announce": {"announced": "ada"}},
            {"Signup": 1, "Welcome": 1},
            id="a workflow that an event starts",
        ),
        pytest.param(
            "nested",
            "Country",
            {"regions": 2, "shops": 3},
            {"add_regions": {"sales": 306}},
            {"Country": 1, "Region": 2, "Shop": 6},
            id="three levels",
        ),
    ],
)
def test_example(
    example: str,
    workflow: str,
    given: dict[str, object],
    want: dict[str, object],
    want_runs: dict[str, int],
    operator: FakeOperator,
) -> None:
    with worker_process(ROOT / "examples" / example / "worker.py", operator) as process:
        eventually(lambda: operator.streams)
        run = operator.finished(operator.run(workflow, **given))
        assert {step: json.loads(output) for step, output in run.outputs.items()} == want
        assert Counter(run.request.name for run in operator.runs.values()) == want_runs
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, stdout + stderr
        if example == "retries":
            assert stdout.count("paying order") == 3
