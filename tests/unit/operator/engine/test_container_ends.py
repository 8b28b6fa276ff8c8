"""When a Pod's status says that the worker in it is dead."""

from datetime import UTC, datetime
from typing import Any

import pytest

from hatchet_operator.engine.registry import _container_ended
from hatchet_operator.engine.workers import Registration, Worker

REGISTERED = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)
RUNNING = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}
ENDED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def make_worker() -> Worker:
    registration = Registration(worker_id="w", name="w", pool="p", actions=(), registered_at=REGISTERED)
    return Worker(namespace="n", registration=registration, slots=1)


def make_pod(worker: dict[str, Any], *, restarts: int = 0, sidecar: dict[str, Any] | None = None) -> dict[str, Any]:
    last = ENDED if restarts else {}
    statuses = [{"name": "worker", "restartCount": restarts, "state": worker, "lastState": last}]
    if sidecar is not None:
        statuses.insert(0, {"name": "a-sidecar", "restartCount": 0, "state": sidecar})
    return {"spec": {"containers": [{"name": "worker"}]}, "status": {"containerStatuses": statuses}}


@pytest.mark.parametrize(
    ("pods", "want"),
    [
        pytest.param([make_pod(RUNNING), make_pod(RUNNING)], None, id="it runs on"),
        pytest.param([make_pod(ENDED)], None, id="what ended before it was seen running was another process"),
        pytest.param([make_pod(RUNNING), make_pod(ENDED)], "exit code 137, OOMKilled", id="it ended"),
        pytest.param(
            [make_pod(RUNNING), make_pod(RUNNING, restarts=1)],
            "restarted (exit code 137, OOMKilled)",
            id="it was restarted",
        ),
        pytest.param(
            [make_pod(RUNNING, sidecar=RUNNING), make_pod(RUNNING, sidecar=ENDED)], None, id="a sidecar ended"
        ),
        pytest.param(
            [make_pod(RUNNING, sidecar=RUNNING), make_pod(ENDED, sidecar=RUNNING)],
            "exit code 137",
            id="it ended, and a sidecar that is listed first runs on",
        ),
    ],
)
def test_a_worker_ends_with_its_container(pods: list[dict[str, Any]], want: str | None) -> None:
    worker = make_worker()
    *before, last = pods
    assert [_container_ended(worker, pod) for pod in before] == [None] * len(before)
    said = _container_ended(worker, last)
    assert said is None if want is None else want in (said or "")
