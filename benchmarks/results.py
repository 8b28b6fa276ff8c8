"""What was measured, as a JSON file: of each scenario its samples, and of which commit they are.

The file is kept in the repository, and the tables and pictures of docs/performance.md are drawn from it.
"""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PATH = Path(__file__).parents[1] / "docs" / "performance.json"


class Sample(BaseModel):
    """One repetition. All that is "per unit" is per child, run or step, as the scenario counts.

    Attributes:
        units: How many there were.
        seconds: How long they took.
        raw_per_second: Bare pairs of a create and a status update, the mean of a window before and one after.
        figures: What the scenario found beside, by name and unit.
        cores: That all processes together had.
        foreign_cores: That others on the machine had.
        cpu_ms: Per unit, by component.
        requests: Per unit, by verb and resource, of all clients.
        api_kib: Allocated by the API server, per unit.
        etcd_kib: Written by etcd, per unit.
        grpc_messages: Received and sent by the operator, per unit.
        operator_mib: The operator's resident memory afterwards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int
    seconds: float
    raw_per_second: float | None = None
    figures: dict[str, float] = {}
    cores: float | None = None
    foreign_cores: float | None = None
    cpu_ms: dict[str, float] = {}
    requests: dict[str, float] = {}
    writes: float | None = None
    api_kib: float | None = None
    etcd_kib: float | None = None
    grpc_messages: float | None = None
    operator_mib: float | None = None

    @property
    def per_second(self) -> float:
        return self.units / self.seconds

    @property
    def ratio(self) -> float | None:
        return self.per_second / self.raw_per_second if self.raw_per_second else None


class Measured(BaseModel):
    """A scenario's samples, all of one commit and one kind of API server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str
    machine: str
    api: str
    samples: tuple[Sample, ...] = ()


class Results(BaseModel):
    """All scenarios that were ever measured, the last samples of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenarios: dict[str, Measured] = {}

    def samples_of(self, name: str, *, commit: str, api: str) -> tuple[Sample, ...]:
        """Return the samples that still count: of the same commit, and the same API server."""
        measured = self.scenarios.get(name)
        return measured.samples if measured and (measured.commit, measured.api) == (commit, api) else ()

    def with_sample(self, name: str, sample: Sample, *, commit: str, machine: str, api: str) -> "Results":
        samples = (*self.samples_of(name, commit=commit, api=api), sample)
        measured = Measured(commit=commit, machine=machine, api=api, samples=samples)
        return Results(scenarios={**self.scenarios, name: measured})


def load(path: Path) -> Results:
    return Results.model_validate_json(path.read_bytes()) if path.exists() else Results()


def save(results: Results, path: Path) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.write_text(results.model_dump_json(indent=1, exclude_none=True, exclude_defaults=True) + "\n")
    unfinished.replace(path)


def figures(samples: tuple[Sample, ...], of: Callable[[Sample], float | None]) -> list[float]:
    """Return a figure of all samples that have it."""
    return [value for value in map(of, samples) if value is not None]


def medians(samples: tuple[Sample, ...], of: Callable[[Sample], dict[str, float]]) -> Iterator[tuple[str, float]]:
    """Yield the median of each named figure; a sample without it counts as none."""
    names = dict.fromkeys(name for sample in samples for name in of(sample))
    for name in names:
        yield name, statistics.median(of(sample).get(name, 0.0) for sample in samples)
