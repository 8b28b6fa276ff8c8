"""Current quantities, computed at each scrape: from one pass over workflows and pools, without looking at runs."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.waiting import Waiting
from hatchet_operator.engine.limits.objects import RateLimits
from hatchet_operator.engine.pods.pools import Pools
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.workflows.workflows import Workflows

_POOL = ("namespace", "pool")
_LIMIT = ("namespace", "rate_limit")


class EngineGauges:
    """Queues, slots, unfinished runs and rate limits."""

    def __init__(
        self,
        *,
        store: RunStore,
        workflows: Workflows,
        pools: Pools,
        waiting: Waiting,
        rate_limits: RateLimits,
        clock: Clock,
    ) -> None:
        self._store = store
        self._workflows = workflows
        self._pools = pools
        self._waiting = waiting
        self._rate_limits = rate_limits
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        known = GaugeMetricFamily("hatchet_operator_runs_known", "Runs that this operator knows, finished ones too.")
        known.add_metric((), len(self._store))
        unfinished = GaugeMetricFamily(
            "hatchet_operator_runs_unfinished", "Runs that are not final.", labels=("namespace", "workflow")
        )
        for workflow in self._workflows.known():
            count = self._store.unfinished_count(workflow)
            unfinished.add_metric((workflow.namespace, workflow.name), count)
        return (known, unfinished, *self._of_pools(), *self._of_limits())

    def _of_limits(self) -> Iterable[Metric]:
        # Of objects only: keys that runs state are as many as there are customers.
        units = GaugeMetricFamily("hatchet_operator_rate_limit_units", "Units of a window.", labels=_LIMIT)
        used = GaugeMetricFamily("hatchet_operator_rate_limit_used", "Units used of the window.", labels=_LIMIT)
        waiting = GaugeMetricFamily(
            "hatchet_operator_rate_limit_waiting", "Attempts that wait for units.", labels=_LIMIT
        )
        taken = CounterMetricFamily(
            "hatchet_operator_rate_limit_units_taken", "Units that attempts have used.", labels=_LIMIT
        )
        now = self._clock.now().timestamp()
        for ref, bucket in self._rate_limits.that_count():
            labels = (ref.namespace, ref.name)
            units.add_metric(labels, bucket.limit.units if bucket.limit is not None else 0)
            used.add_metric(labels, bucket.used(now))
            waiting.add_metric(labels, bucket.waiting)
            taken.add_metric(labels, bucket.taken)
        return units, used, waiting, taken

    def _of_pools(self) -> Iterable[Metric]:
        queued = GaugeMetricFamily("hatchet_operator_pool_queued", "Attempts that wait for a worker.", labels=_POOL)
        running = GaugeMetricFamily("hatchet_operator_pool_running", "Attempts that workers have.", labels=_POOL)
        slots = GaugeMetricFamily("hatchet_operator_pool_slots", "Slots of the connected workers.", labels=_POOL)
        workers = GaugeMetricFamily("hatchet_operator_pool_workers", "Connected workers.", labels=_POOL)
        oldest = GaugeMetricFamily(
            "hatchet_operator_pool_oldest_seconds", "How long the oldest attempt has waited.", labels=_POOL
        )
        now = self._clock.now()
        for pool in self._pools.known():
            labels, load = (pool.namespace, pool.name), self._waiting.load_of(pool)
            queued.add_metric(labels, load.queued)
            running.add_metric(labels, load.running)
            slots.add_metric(labels, load.slots)
            workers.add_metric(labels, load.workers)
            oldest.add_metric(labels, (now - load.oldest).total_seconds() if load.oldest else 0.0)
        return queued, running, slots, workers, oldest


def watch_ages(heard_at: Mapping[str, float], now: float) -> Metric:
    """Return how long ago each watch last sent something, even if only a bookmark."""
    ages = GaugeMetricFamily(
        "hatchet_operator_watch_age_seconds",
        "Since when a watch has said nothing, not even a bookmark.",
        labels=("kind",),
    )
    for kind, at in heard_at.items():
        ages.add_metric((kind,), max(now - at, 0.0))
    return ages
