"""One measured fan-out: what was observed, and what follows from it."""

import statistics
from dataclasses import dataclass
from functools import cached_property

from benchmarks.api_servers import READS
from benchmarks.raw_rate import RawRate


@dataclass(frozen=True, slots=True)
class Moment:
    """Microseconds after the first spawn call."""

    called_us: int
    answered_us: int
    started_us: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A fan-out and the raw rates around it.

    Attributes:
        children: How many.
        seconds: From the first spawn call to the parent's result.
        moments: Of each child.
        requests: Of all clients of the API server meanwhile, by verb and resource.
        cpu_seconds: By component.
        operator_bytes: The operator's resident memory at the end.
        operator_growth_bytes: By how much the operator's resident memory grew.
        raw_before: What the API server did just before.
        raw_after: And just after.
    """

    children: int
    seconds: float
    moments: list[Moment]
    requests: dict[str, int]
    cpu_seconds: dict[str, float]
    operator_bytes: int
    operator_growth_bytes: int
    raw_before: RawRate
    raw_after: RawRate

    @property
    def children_per_second(self) -> float:
        return self.children / self.seconds

    @property
    def raw_pairs_per_second(self) -> float:
        """The mean of both: a machine that others use too is not the same twice."""
        return (self.raw_before.pairs_per_second + self.raw_after.pairs_per_second) / 2

    @property
    def ratio(self) -> float:
        return self.children_per_second / self.raw_pairs_per_second

    @property
    def writes_per_child(self) -> float:
        writes = (count for request, count in self.requests.items() if not request.startswith(READS))
        return sum(writes) / self.children

    @cached_property
    def spawn_ms(self) -> list[float]:
        """How long each spawn call took."""
        return [(moment.answered_us - moment.called_us) / 1000 for moment in self.moments]

    @cached_property
    def start_ms(self) -> list[float]:
        """From each spawn call to the start of the child's function."""
        return [(moment.started_us - moment.called_us) / 1000 for moment in self.moments]


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which so many percent of the values are."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
