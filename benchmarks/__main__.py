"""Measures what the project can do, and what that costs: ``python -m benchmarks --help``; ``make bench``."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.api_servers import ApiKind
from benchmarks.harness import Harness, Plan
from benchmarks.machine import describe_machine
from benchmarks.results import PATH
from benchmarks.scenario import OnCluster, Scenario
from benchmarks.scenarios import SCENARIOS
from benchmarks.stage import BenchmarkFailed
from hatchet_operator.durations import parse_duration
from hatchet_operator.errors import ApiError
from tests.kube.real_api import BINARIES_VARIABLE, BinariesMissingError, ServerFailedError

_QUICK_REPEAT, _QUICK_WINDOW_SECONDS = 2, 2.0


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help="Scenarios, by their names or how these begin; all: but the soak.")
    ] = None,
    api: Annotated[
        ApiKind | None, typer.Option(help="real: etcd and kube-apiserver of $HATCHET_TEST_KUBE_BIN, if it is set.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Samples of each scenario.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Two samples, short windows, disturbed ones kept.")] = False,
    budget: Annotated[
        str | None, typer.Option(help='Begin none that would take longer than, say, "25m" in all.')
    ] = None,
    window: Annotated[float, typer.Option(help="Seconds of each measurement of the raw rate.")] = 6.0,
    attempts: Annotated[int, typer.Option(min=1, help="Tries of a repetition that others disturb.")] = 3,
    json_file: Annotated[
        Path, typer.Option("--json", help="Where samples are kept; those there are not taken again.")
    ] = (PATH),
    show: Annotated[bool, typer.Option("--list", help="Show the scenarios, and measure nothing.")] = False,
) -> None:
    """Measure scenarios, those that say most first, and keep each sample as soon as it is taken."""
    console = Console()
    chosen = choose(names or [])
    if show:
        console.print(_table(chosen))
        return
    plan = Plan(
        path=json_file,
        api=api or (ApiKind.REAL if os.environ.get(BINARIES_VARIABLE) else ApiKind.EMBEDDED),
        repeat=_QUICK_REPEAT if quick else repeat,
        window_seconds=_QUICK_WINDOW_SECONDS if quick else window,
        attempts=1 if quick else attempts,
        until=None if budget is None else time.monotonic() + parse_duration(budget).total_seconds(),
    )
    console.print(describe_machine(), soft_wrap=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure_all(chosen, Harness(plan, console), plan))
    except (BenchmarkFailed, BinariesMissingError, ServerFailedError) as error:
        sys.exit(f"error: {error}")


async def measure_all(chosen: list[Scenario], harness: Harness, plan: Plan) -> None:
    """Measure in the order of the table, but all that needs a cluster where the first of these stands.

    Raises:
        BenchmarkFailed: Some failed; the others were measured all the same.
    """
    theirs = [each for each in chosen if isinstance(each, OnCluster)]
    failed = []
    for scenario in chosen:
        together = theirs if scenario in theirs[:1] else [] if scenario in theirs else [scenario]
        fitting = [each for each in together if harness.fits(each)]
        if not fitting:
            continue
        try:
            await _measure_together(fitting, harness, plan)
        except (BenchmarkFailed, ApiError, ServerFailedError, TimeoutError) as error:
            harness.say(scenario, f"[red]failed[/red]: {str(error) or type(error).__name__}")
            failed.append(scenario.name)
    if failed:
        raise BenchmarkFailed(f"these failed: {', '.join(failed)}")


async def _measure_together(scenarios: list[Scenario], harness: Harness, plan: Plan) -> None:
    """Measure one that starts what it needs, or all that need a cluster."""
    on_cluster = []
    for scenario in scenarios:
        if isinstance(scenario, OnCluster):
            on_cluster.append(scenario)
        else:
            await harness.measure(scenario)
    if on_cluster and "KUBECONFIG" in os.environ:
        await harness.measure_on_cluster(on_cluster)
    elif on_cluster:
        try:
            await asyncio.to_thread(_measure_on_new_cluster, on_cluster, plan)
        finally:
            harness.read_again()


def _measure_on_new_cluster(scenarios: list[OnCluster], plan: Plan) -> None:
    """Make a cluster, run this program on it for these scenarios, and remove the cluster."""
    command = [sys.executable, "-m", "tests.e2e.cluster", "run", sys.executable, "-m", "benchmarks"]
    command += [scenario.name for scenario in scenarios]
    command += [f"--repeat={plan.repeat}", f"--window={plan.window_seconds}", f"--attempts={plan.attempts}"]
    command += [f"--json={plan.path}"]
    if subprocess.run(command, check=False).returncode:
        raise BenchmarkFailed("the scenarios on a cluster failed")


def choose(names: list[str]) -> list[Scenario]:
    """Return the scenarios with these names or beginnings of names, in the table's order; none: all by default.

    Raises:
        typer.BadParameter: There is no such scenario.
    """
    for name in names:
        if not any(scenario.name.startswith(name) for scenario in SCENARIOS):
            known = ", ".join(scenario.name for scenario in SCENARIOS)
            raise typer.BadParameter(f'there is no scenario "{name}"; there are {known}')
    if not names:
        return [scenario for scenario in SCENARIOS if scenario.by_default]
    exact = {scenario.name for scenario in SCENARIOS} & set(names)
    return [
        scenario
        for scenario in SCENARIOS
        if scenario.name in exact or any(scenario.name.startswith(name) for name in set(names) - exact)
    ]


def _table(scenarios: list[Scenario]) -> Table:
    table = Table("name", "what", "minutes each", show_edge=False)
    for scenario in scenarios:
        table.add_row(scenario.name, scenario.title, f"{scenario.minutes:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
