"""What /metrics has beside what the engine counts."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from hatchet_operator.engine.metrics import Metrics


@pytest.mark.parametrize("name", ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"])
def test_the_process_is_measured_too(name: str) -> None:
    assert f"\n{name} " in generate_latest(Metrics().registry).decode()


def gauge(name: str, **values: float) -> Metric:
    made = GaugeMetricFamily(f"hatchet_operator_{name}", "What it is.", labels=("kind",))
    for kind, value in values.items():
        made.add_metric((kind,), value)
    return made


def test_what_several_terms_have_is_added_up_and_of_ages_the_highest_counts() -> None:
    metrics = Metrics()
    terms = [
        lambda: [gauge("runs", a=1, b=2), gauge("watch_age_seconds", runs=5)],
        lambda: [gauge("runs", b=3, c=4), gauge("watch_age_seconds", runs=9, pods=1)],
    ]
    for gauges in terms:
        metrics.add_gauges(gauges)

    def value(name: str, kind: str) -> float | None:
        return metrics.registry.get_sample_value(f"hatchet_operator_{name}", {"kind": kind})

    assert [value("runs", kind) for kind in "abc"] == [1, 5, 4]
    assert [value("watch_age_seconds", kind) for kind in ("runs", "pods")] == [9, 1]
    metrics.remove_gauges(terms[1])
    assert [value("runs", kind) for kind in "abc"] == [1, 2, None]
