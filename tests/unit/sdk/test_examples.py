import json
import signal

from tests.unit.sdk.conftest import ROOT, worker_process
from tests.unit.sdk.fake_operator import FakeOperator, eventually


def test_the_fan_out_example_runs(operator: FakeOperator) -> None:
    with worker_process(ROOT / "examples/fanout/worker.py", operator) as process:
        eventually(lambda: operator.streams)
        run = operator.finished(operator.run("Parent"))
        assert json.loads(run.outputs["spawn"]) == {
            "results": [{"process": {"status": f"success {i}"}} for i in range(10)]
        }
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
