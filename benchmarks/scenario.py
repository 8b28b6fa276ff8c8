"""What a scenario is: a name, what it does once, and what it needs for that."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.cluster_stage import ClusterStage
from benchmarks.processes import Processes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one repetition did.

    Attributes:
        units: How many children, runs or steps.
        seconds: It took, for the rate; None: as long as the call.
        figures: What else it found; a name says its unit, as in "spawn p50, ms".
    """

    units: int
    seconds: float | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Described:
    """What all scenarios say of themselves.

    Attributes:
        name: On the command line and in the JSON.
        title: In tables.
        unit: What its rate and its costs are per.
        minutes: A repetition takes about so long: to keep a budget.
        repeat: How often it is repeated, unless somebody says otherwise; None: as often as the others.
        beside_raw: Whether it is compared with the raw rate, measured before and after each repetition.
        in_turn: Whether it is also compared with pairs of which each create awaits the one before.
        by_default: Whether it is measured when nobody names it.
    """

    name: str
    title: str
    unit: str
    minutes: float = 0.1
    repeat: int | None = None
    beside_raw: bool = False
    in_turn: bool = False
    by_default: bool = True

    @property
    def units(self) -> str:
        return "children" if self.unit == "child" else f"{self.unit}s"


@dataclass(frozen=True, kw_only=True)
class OnProcesses(_Described):
    """Runs on an API server, an operator and a worker that are started for it, each in processes of its own.

    Attributes:
        once: Does it once.
        prepare: Is called before the first time.
        published: Whether the worker has Hatchet's published SDK.
        light_runs: Whether the CRD has the version for children that are recorded with their result.
    """

    once: Callable[[Processes], Awaitable[Outcome]]
    prepare: Callable[[Processes], Awaitable[None]] | None = None
    published: bool = False
    light_runs: bool = False


@dataclass(frozen=True, kw_only=True)
class OnCluster(_Described):
    """Runs on a cluster with the chart as it is installed: TLS, TokenReview, admission, two operators."""

    once: Callable[[ClusterStage], Awaitable[Outcome]]
    prepare: Callable[[ClusterStage], Awaitable[None]] | None = None


@dataclass(frozen=True, kw_only=True)
class ByItself(_Described):
    """Starts what it needs."""

    once: Callable[[], Awaitable[Outcome]]


Scenario = OnProcesses | OnCluster | ByItself
