"""What the engine is made with, and its shared state: records, objects and signals, which depend on no room.

A room above writes here what rooms below need to know; what has to trigger something in a room above is a signal.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.limits.buckets import Buckets
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.pods.known_pools import KnownPools
from hatchet_operator.engine.pods.pods_of_runs import PodsOfRuns
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.signals import Signal
from hatchet_operator.engine.traces import Tracer, Traces
from hatchet_operator.engine.workers.workers import Workers
from hatchet_operator.pace import Pace
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the engine is made with."""

    api: Api
    settings: Settings
    scope: Scope
    token_key: str
    is_leading: Callable[[], bool]
    metrics: Metrics
    clock: Clock
    pace: Pace
    events: EventRecorder
    tracer: Tracer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """How rooms notify rooms above them, which they don't import; `wiring` connects them."""

    workflow_changed: Signal[[ObjectRef]] = field(default_factory=lambda: Signal("a workflow changed"))
    told_to_stop: Signal[[Worker, str, datetime]] = field(default_factory=lambda: Signal("a worker was told to stop"))
    pool_demand: Signal[[ObjectRef]] = field(default_factory=lambda: Signal("a pool's demand changed"))
    run_demand: Signal[[str]] = field(default_factory=lambda: Signal("the demand for a run's pod changed"))
    activity: Signal[[str, str]] = field(default_factory=lambda: Signal("attempts wait for a pool or went to it"))
    room: Signal[[str]] = field(default_factory=lambda: Signal("a quota may have room"))

    def demand(self, namespace: str, pool: str | None, run_uid: str | None) -> None:
        """Tell that the demand for slots changed: of a pool, or of a run that has pods of its own."""
        if run_uid is not None:
            self.run_demand(run_uid)
        else:
            self.pool_demand(ObjectRef(namespace, pool or ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The state that all rooms share; it depends on none of them."""

    signals: Signals
    changes: RunFeed
    store: RunStore
    observer: RunObserver
    reader: RunReader
    workers: Workers
    pools: KnownPools
    pods_of_runs: PodsOfRuns
    buckets: Buckets
    traces: Traces | None

    def pool_exists(self, pool: ObjectRef) -> bool:
        """Whether a pool has an object or, without one, a connected worker."""
        return pool in self.pools or any(worker.is_connected for worker in self.workers.of_pool(pool))


def remember(given: Given) -> Memory:
    """Make the memory of a new engine, in which nothing is known yet."""
    store, changes = RunStore(), RunFeed()
    observer = RunObserver(store, changes, clock=given.clock, turn_seconds=given.pace.turn)
    traces = None
    if given.tracer is not None:
        traces = Traces(given.tracer, store, given.clock, is_loading=lambda: observer.loading)
    return Memory(
        signals=Signals(),
        changes=changes,
        store=store,
        observer=observer,
        reader=RunReader(given.api, store, observer, clock=given.clock, keeps=given.pace.whole_runs),
        workers=Workers(),
        pools=KnownPools(),
        pods_of_runs=PodsOfRuns(clock=given.clock),
        buckets=Buckets(given.clock),
        traces=traces,
    )
