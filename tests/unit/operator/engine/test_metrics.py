"""What /metrics has beside what the engine counts."""

import asyncio
import threading
from collections.abc import Iterable

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hatchet_operator.engine.metrics import Metrics


@pytest.mark.parametrize("name", ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"])
async def test_the_process_is_measured_too(name: str) -> None:
    assert f"\n{name} " in (await Metrics().scrape()).decode()


class _Slow(Collector):
    """Takes as long to collect as the loop takes for something else."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def collect(self) -> Iterable[Metric]:
        assert self.may_end.wait(60), "the loop did nothing else meanwhile"
        yield gauge("slow", here=1)

    def describe(self) -> Iterable[Metric]:
        return ()


async def test_the_loop_goes_on_while_many_series_are_written_down() -> None:
    metrics, slow = Metrics(), _Slow()
    metrics.registry.register(slow)
    scraping = asyncio.create_task(metrics.scrape())
    await asyncio.sleep(0)
    slow.may_end.set()
    assert b'hatchet_operator_slow{kind="here"} 1.0' in await scraping


async def test_what_is_computed_of_the_engines_memory_is_computed_in_the_loop() -> None:
    metrics, threads = Metrics(), list[threading.Thread]()

    def gauges() -> list[Metric]:
        threads.append(threading.current_thread())
        return [gauge("runs", a=1)]

    metrics.add_gauges(gauges)
    assert b'hatchet_operator_runs{kind="a"} 1.0' in await metrics.scrape()
    assert threads == [threading.current_thread()]


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
        return metrics.computed.get_sample_value(f"hatchet_operator_{name}", {"kind": kind})

    assert [value("runs", kind) for kind in "abc"] == [1, 5, 4]
    assert [value("watch_age_seconds", kind) for kind in ("runs", "pods")] == [9, 1]
    metrics.remove_gauges(terms[1])
    assert [value("runs", kind) for kind in "abc"] == [1, 2, None]
