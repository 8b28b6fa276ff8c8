"""What /metrics has beside what the engine counts."""

import pytest
from prometheus_client import generate_latest

from hatchet_operator.engine.metrics import Metrics


@pytest.mark.parametrize("name", ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"])
def test_the_process_is_measured_too(name: str) -> None:
    assert f"\n{name} " in generate_latest(Metrics().registry).decode()
