"""``hatchet-operator logs``, with the logs that a kubelet keeps."""

import subprocess
import sys
from pathlib import Path

from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import start_pool
from tests.e2e.slow_fan_out import finished

EXAMPLE = Path(__file__).parents[2] / "examples/retries"


def test_what_the_steps_of_a_tree_said_is_found(kubectl: Kubectl) -> None:
    start_pool(kubectl, EXAMPLE / "worker.py")
    run = finished(kubectl, kubectl.create(EXAMPLE / "run.yaml"))
    command = [sys.executable, "-m", "hatchet_operator", "logs", run["metadata"]["name"], "-n", kubectl.namespace]

    for more in (["--children"], ["--children", "--follow"]):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, ""), done
        lines = done.stdout.splitlines()
        assert sorted(line.partition(" | ")[2] for line in lines if " | paying order " in line) == [
            f"paying order {order}" for order in range(3)
        ]
