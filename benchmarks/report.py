"""Measurements as a table: a column for each size, medians where a size was measured several times."""

import statistics
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.table import Table

from benchmarks.measurement import Measurement, percentile
from benchmarks.pods import ColdStart, PodPerRun

Figure = Callable[[Measurement], float]

_FIGURES: dict[str, tuple[Figure, str]] = {
    "children/s": (lambda m: m.children_per_second, ".1f"),
    "raw create+status pairs/s": (lambda m: m.raw_pairs_per_second, ".1f"),
    "ratio": (lambda m: m.ratio, ".2f"),
    "spawn call, p50 ms": (lambda m: percentile(m.spawn_ms, 50), ".1f"),
    "spawn call, p95 ms": (lambda m: percentile(m.spawn_ms, 95), ".1f"),
    "spawn to start, p50 ms": (lambda m: percentile(m.start_ms, 50), ".1f"),
    "spawn to start, p95 ms": (lambda m: percentile(m.start_ms, 95), ".1f"),
    "API writes per child": (lambda m: m.writes_per_child, ".3f"),
}


def print_report(console: Console, measurements: list[Measurement]) -> None:
    """Print the table."""
    by_size: dict[int, list[Measurement]] = {}
    for measurement in measurements:
        by_size.setdefault(measurement.children, []).append(measurement)

    table = Table("children", *map(str, by_size), show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"

    def add(title: str, figure: Figure, form: str) -> None:
        medians = [statistics.median(map(figure, each)) for each in by_size.values()]
        table.add_row(title, *(f"{median:{form}}" for median in medians))

    for title, (figure, form) in _FIGURES.items():
        add(title, figure, form)
    for request in _worth_showing(measurements):
        add(f"  {request}", partial(_requests_per_child, request=request), ".3f")
    table.add_section()
    for component in measurements[0].cpu_seconds:
        add(f"CPU per child, ms: {component}", partial(_cpu_ms_per_child, component=component), ".2f")
    for component in measurements[0].raw_before.cpu_seconds:
        add(f"CPU per raw pair, ms: {component}", partial(_cpu_ms_per_pair, component=component), ".2f")
    add("operator memory, MiB", lambda m: m.operator_bytes / 2**20, ".0f")
    add("operator memory per run, KiB", lambda m: m.operator_growth_bytes / 1024 / (m.children + 1), ".1f")
    console.print(table)


def print_pods(console: Console, cold: ColdStart, lone: PodPerRun) -> None:
    """Print what concerns pods: a cold start, and a pod per run."""
    table = Table("", "seconds", "ratio", title="from zero pods (medians)", title_justify="left", show_edge=False)
    table.add_row("bare pod created to its first line of Python", f"{cold.bare_pod:.2f}", "")
    table.add_row("run created to the first line of its step", *_beside(cold.first_step, cold.bare_pod))
    table.add_row("run created to its result", *_beside(cold.result, cold.bare_pod))
    console.print(table)

    table = Table("", "per second", "ratio", title=f"{lone.count} at once", title_justify="left", show_edge=False)
    table.add_row("runs with a pod each", f"{lone.runs_per_second:.2f}", "")
    for what, rate in (("nothing", lone.bare_pods_per_second), ("import hatchet_sdk", lone.importing_pods_per_second)):
        table.add_row(f"bare pods that do: {what}", f"{rate:.2f}", f"{lone.runs_per_second / rate:.2f}")
    for request, count in sorted(lone.requests.items()):
        if count >= lone.count / 2:
            table.add_row(f"  {request}, per run", f"{count / lone.count:.2f}", "")
    console.print(table)


def _beside(seconds: float, bare: float) -> tuple[str, str]:
    return f"{seconds:.2f}", f"{seconds / bare:.2f}"


def _worth_showing(measurements: list[Measurement]) -> list[str]:
    """Of all requests those that are not lost in the background of the largest fan-out: a hundredth per child."""
    largest = max(measurements, key=lambda each: each.children)
    return sorted(request for request, count in largest.requests.items() if count >= largest.children / 100)


def _requests_per_child(measurement: Measurement, *, request: str) -> float:
    return measurement.requests.get(request, 0) / measurement.children


def _cpu_ms_per_child(measurement: Measurement, *, component: str) -> float:
    return 1000 * measurement.cpu_seconds[component] / measurement.children


def _cpu_ms_per_pair(measurement: Measurement, *, component: str) -> float:
    return 500 * (measurement.raw_before.cpu_seconds[component] + measurement.raw_after.cpu_seconds[component])
