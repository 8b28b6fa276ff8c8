"""Rate limits on real pods, with the example of them."""

from pathlib import Path

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import start_pool
from tests.e2e.slow_fan_out import finished, make_run, output_of, status_of

EXAMPLE = Path(__file__).parents[2] / "examples/rate_limits"


def test_steps_wait_for_units_and_the_limit_says_so(kubectl: Kubectl) -> None:
    limit = kubectl.create(EXAMPLE / "limit.yaml")
    start_pool(kubectl, EXAMPLE / "worker.py", minReplicas=1)
    run = finished(kubectl, kubectl.create(EXAMPLE / "run.yaml"))
    asked_at = output_of(run, "ask_all")["asked_at"]
    assert len(asked_at) == 5
    assert asked_at[3] - asked_at[0] > 1, "the fourth waited for the next window"
    assert asked_at[4] - asked_at[3] < 1, "with the fifth"

    kubectl("patch", "ratelimit", limit, "--type=merge", '--patch={"spec": {"limit": 1, "window": "1h"}}')
    kubectl.apply_object(make_run("ask", {"user": "ada"}, "first"))
    kubectl.apply_object(make_run("ask", {"user": "ada"}, "second"))

    def limit_and_run_say_so() -> bool:
        status = kubectl.get("ratelimit", limit)["status"]
        reasons = [status_of(kubectl, name).get("reason") for name in ("first", "second")]
        return status["used"] > 0 < status["waiting"] and "WaitingForRateLimit" in reasons

    eventually(limit_and_run_say_so, within_seconds=30)
