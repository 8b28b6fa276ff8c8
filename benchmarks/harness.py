"""Repeats scenarios, observes what each repetition costs, and keeps what was observed.

    raw window ─ scenario ─ raw window ─ scenario ─ raw window …      each scenario on processes of its own

Absolute figures are the machine's; the ratio to what the API server could do at that moment is ours. A repetition in
which others had the machine is repeated, and the least disturbed one is kept.
"""

import asyncio
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks.api_servers import ApiKind, make_api
from benchmarks.cluster_stage import ClusterStage, cluster_stage
from benchmarks.machine import commit, describe_machine
from benchmarks.processes import Processes, start_processes
from benchmarks.published import published_python
from benchmarks.raw_rate import RawPairs
from benchmarks.results import Sample, load, save
from benchmarks.runs import any_child
from benchmarks.scenario import ByItself, OnCluster, OnProcesses, Outcome, Scenario
from benchmarks.stage import Load, Spent, Worked, spent, worked

_COUNTED_AFTER_SECONDS = 0.5  # the API server counts a request when it has answered: watchers may know before
_DISTURBED_CORES = 0.15
_START_MINUTES = 0.25

Once = Callable[[], Awaitable[Outcome]]
_StageT = TypeVar("_StageT", Processes, ClusterStage)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to measure.

    Attributes:
        path: The JSON file that is read and written.
        api: The API server of scenarios that start one.
        repeat: How many samples each scenario is to have.
        window_seconds: How long the raw rate is measured, each time.
        attempts: How often a disturbed repetition is repeated, at most, itself included.
        until: When no scenario is begun any more, of the monotonic clock.
    """

    path: Path
    api: ApiKind
    repeat: int
    window_seconds: float
    attempts: int
    until: float | None


class Harness:
    """Measures scenarios, one after the other."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._commit = commit()
        self._machine = describe_machine()
        self._results = load(plan.path)

    def missing(self, scenario: Scenario) -> int:
        """Return how many samples of this commit a scenario lacks."""
        wanted = scenario.repeat or self._plan.repeat
        return max(
            0, wanted - len(self._results.samples_of(scenario.name, commit=self._commit, api=self._api(scenario)))
        )

    def fits(self, scenario: Scenario) -> bool:
        """Whether there is time left for a scenario, and something to do; says so if not."""
        if not self.missing(scenario):
            self.say(scenario, f"is measured already at {self._commit}")
            return False
        minutes = _START_MINUTES + self.missing(scenario) * scenario.minutes
        if self._plan.until is not None and time.monotonic() + 60 * minutes > self._plan.until:
            self.say(scenario, f"is left out: about {minutes:.1f} minutes are not left")
            return False
        if isinstance(scenario, OnProcesses) and scenario.published and published_python() is None:
            self.say(scenario, "is left out: no published SDK is installed, see benchmarks/README.md")
            return False
        return True

    def read_again(self) -> None:
        """Read the file that another process has written to."""
        self._results = load(self._plan.path)

    async def measure(self, scenario: OnProcesses | ByItself) -> None:
        """Take the samples that a scenario lacks."""
        if isinstance(scenario, ByItself):
            for _ in range(self.missing(scenario)):
                await self._keep_best(scenario, lambda: self._observe_children(scenario.once))
            return
        python = published_python() if scenario.published else None
        with make_api(self._plan.api) as server:
            async with start_processes(
                server, python=python or sys.executable, light_runs=scenario.light_runs
            ) as stage:
                await self._repeat(scenario, stage, scenario.prepare, scenario.once)

    async def measure_on_cluster(self, scenarios: Sequence[OnCluster]) -> None:
        """Take the samples that they lack, on the cluster of KUBECONFIG and one installation of the chart."""
        async with cluster_stage() as stage:
            for scenario in scenarios:
                await self._repeat(scenario, stage, scenario.prepare, scenario.once)

    async def _repeat(
        self,
        scenario: Scenario,
        stage: _StageT,
        prepare: Callable[[_StageT], Awaitable[None]] | None,
        once: Callable[[_StageT], Awaitable[Outcome]],
    ) -> None:
        if prepare is not None:
            await prepare(stage)
        window = self._plan.window_seconds
        async with self._raw_pairs(stage, beside=scenario.beside_raw) as raw:
            before = await raw.rate(window) if raw else None

            async def take() -> Sample:
                nonlocal before
                sample = await self._observe(stage, lambda: once(stage))
                after = await raw.rate(window) if raw else None
                sample, before = _beside(sample, before, after), after
                return _in_turn(sample, await raw.rate_in_turn(window)) if raw and scenario.in_turn else sample

            for _ in range(self.missing(scenario)):
                await self._keep_best(scenario, take)

    @asynccontextmanager
    async def _raw_pairs(self, stage: Processes | ClusterStage, *, beside: bool) -> AsyncIterator[RawPairs | None]:
        if not beside:
            yield None
            return
        async with RawPairs.like(stage.api, await any_child(stage)) as raw:
            yield raw

    async def _keep_best(self, scenario: Scenario, take: Callable[[], Awaitable[Sample]]) -> None:
        best: Sample | None = None
        for _ in range(self._plan.attempts):
            sample = await take()
            if best is None or (sample.foreign_cores or 0.0) < (best.foreign_cores or 0.0):
                best = sample
            if (best.foreign_cores or 0.0) <= _DISTURBED_CORES:
                break
        assert best is not None
        self._results = self._results.with_sample(
            scenario.name, best, commit=self._commit, machine=self._machine, api=self._api(scenario)
        )
        save(self._results, self._plan.path)
        self.say(scenario, _in_words(best, scenario.units))

    async def _observe(self, stage: Processes | ClusterStage, once: Once) -> Sample:
        counts, begun = stage.counts(), stage.load()
        outcome = await once()
        ended = stage.load()
        await asyncio.sleep(_COUNTED_AFTER_SECONDS)
        after = stage.counts()
        return _sample(outcome, worked(begun, ended), spent(counts, after), operator_bytes=after.operator_bytes)

    async def _observe_children(self, once: Once) -> Sample:
        begun = _load_of_children()
        outcome = await once()
        return _sample(outcome, worked(begun, _load_of_children()))

    def _api(self, scenario: Scenario) -> str:
        match scenario:
            case OnProcesses():
                return self._plan.api.value
            case OnCluster():
                return "cluster"
            case ByItself():
                return "dev"

    def say(self, scenario: Scenario, text: str) -> None:
        """Tell something of a scenario to whoever waits."""
        self._console.print(f"[bold]{scenario.name}[/bold] {text}", highlight=False, soft_wrap=True)


def _load_of_children() -> Load:
    """What the processes have used that this one started and that have ended; and it itself."""
    children, own = resource.getrusage(resource.RUSAGE_CHILDREN), os.times()
    return Load(cpu_seconds={"dev": children.ru_utime + children.ru_stime, "client": own.user + own.system})


def _sample(outcome: Outcome, work: Worked, counted: Spent | None = None, *, operator_bytes: int = 0) -> Sample:
    units = outcome.units
    sample = Sample(
        units=units,
        seconds=outcome.seconds or work.seconds,
        figures=outcome.figures,
        cores=work.cores,
        foreign_cores=work.foreign_cores,
        cpu_ms={name: 1000 * seconds / units for name, seconds in work.cpu_seconds.items()},
    )
    if counted is None:
        return sample
    return sample.model_copy(
        update={
            "requests": {name: count / units for name, count in sorted(counted.requests.items())},
            "writes": counted.writes / units,
            "api_kib": _kib(counted.api_bytes, units),
            "etcd_kib": _kib(counted.etcd_bytes, units),
            "grpc_messages": None if counted.grpc_messages is None else counted.grpc_messages / units,
            "operator_mib": operator_bytes / 2**20,
        }
    )


def _kib(number: float | None, units: int) -> float | None:
    return None if number is None else number / 1024 / units


def _beside(sample: Sample, before: float | None, after: float | None) -> Sample:
    if before is None or after is None:
        return sample
    return sample.model_copy(update={"raw_per_second": (before + after) / 2})


def _in_turn(sample: Sample, rate: float) -> Sample:
    beside = {"raw pairs/s, in turn": rate, "ratio to these": sample.per_second / rate}
    return sample.model_copy(update={"figures": sample.figures | beside})


def _in_words(sample: Sample, units: str) -> str:
    words = [f"{sample.per_second:.1f} {units}/s"]
    if sample.ratio is not None:
        words.append(f"{sample.ratio:.2f} of the raw rate")
    words += [f"{name} {value:.2f}" for name, value in sample.figures.items()]
    words.append(f"{sample.cores or 0:.2f} cores")
    if (sample.foreign_cores or 0.0) > _DISTURBED_CORES:
        words.append(f"[yellow]others had {sample.foreign_cores:.2f}[/yellow]")
    return ", ".join(words)
