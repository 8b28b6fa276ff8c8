"""The operator's metrics, for Prometheus; docs/metrics.md describes all of them.

No series is created for a run, and none for a made-up name: workflows and pools are those that exist as objects.
Momentary values (queues, unfinished runs, ages of watches) are collected when Prometheus scrapes.
"""

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import RunStatus

_OTHER = "other"
_STEP_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 7200)
_API_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)

_HIGHEST = frozenset({"hatchet_operator_watch_age_seconds"})
"""Of these, the highest of several terms counts, and not their sum."""

Gauges = Callable[[], Iterable[Metric]]


class Metrics:
    """The operator's metrics, in registries of their own: two operators in one process don't collide."""

    def __init__(self) -> None:  # noqa: PLR0915  # a table, of one statement for each metric
        self.registry = CollectorRegistry()
        """What is counted as it happens."""
        self.computed = CollectorRegistry()
        """What is computed from the engine's memory at each scrape."""
        ProcessCollector(registry=self.registry)  # process_cpu_seconds_total, process_resident_memory_bytes …
        self.is_leader = Gauge("hatchet_operator_is_leader", "1: this operator acts.", registry=self.registry)
        self.shards = Gauge("hatchet_operator_shards", "Shards that operators deal with.", registry=self.registry)
        self.shards_led = Gauge(
            "hatchet_operator_shards_led", "Shards that this operator leads.", registry=self.registry
        )
        self.spawned = Counter("hatchet_operator_children_spawned_total", "Child runs created.", registry=self.registry)
        self.attached = Counter(
            "hatchet_operator_children_attached_total", "Spawns that found an existing child.", registry=self.registry
        )
        self.conflicted = Counter(
            "hatchet_operator_children_conflicted_total",
            "Spawns whose child had another workflow or input, or whose name was taken.",
            registry=self.registry,
        )
        self.events = Counter("hatchet_operator_events_total", "Events that were pushed.", registry=self.registry)
        self.events_unmatched = Counter(
            "hatchet_operator_events_unmatched_total", "Events that no workflow wanted.", registry=self.registry
        )
        self.webhooks_refused = Counter(
            "hatchet_operator_webhooks_refused_total",
            "Deliveries without a good signature, or that are no event.",
            registry=self.registry,
        )
        self.spans = Counter(
            "hatchet_operator_spans_total",
            "Spans by what became of them: exported, failed, dropped (the queue was full).",
            ["outcome"],
            registry=self.registry,
        )
        self.ticks = Counter("hatchet_operator_cron_ticks_total", "Runs that crons started.", registry=self.registry)
        self.created = Counter(
            "hatchet_operator_runs_created_total", "Runs that came.", ["namespace", "workflow"], registry=self.registry
        )
        self.finished = Counter(
            "hatchet_operator_runs_finished_total",
            "Runs that became final.",
            ["namespace", "workflow", "phase"],
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            "hatchet_operator_step_duration_seconds",
            "From a worker's being given a step until its end, the last attempt; observed when its run is final.",
            ["namespace", "workflow"],
            buckets=_STEP_SECONDS,
            registry=self.registry,
        )
        self.retries = Counter(
            "hatchet_operator_step_retries_total",
            "Attempts that failed and were followed by another; counted when their run is final.",
            ["namespace", "workflow"],
            registry=self.registry,
        )
        self.step_losses = Counter(
            "hatchet_operator_steps_lost_total",
            "Attempts whose worker died; counted when their run is final.",
            ["namespace", "workflow"],
            registry=self.registry,
        )
        self.api_requests = Counter(
            "hatchet_operator_api_requests_total",
            "Requests to the API server, by the code of the answer; 0: there was none.",
            ["method", "resource", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "hatchet_operator_api_request_duration_seconds",
            "How long requests to the API server took; watches are not among them.",
            ["method"],
            buckets=_API_SECONDS,
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "hatchet_operator_loop_lag_seconds",
            "How much later than asked for the event loop came to a timer, once a second.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=self.registry,
        )
        self.terms = Counter(
            "hatchet_operator_terms_total", "How often this operator began to act.", registry=self.registry
        )
        self.start_delay = Histogram(
            "hatchet_operator_start_delay_seconds",
            "From ready to run until given to a worker.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.limited_seconds = Histogram(
            "hatchet_operator_rate_limit_wait_seconds",
            "How long attempts with rate limits waited for units.",
            buckets=(0.01, 0.1, 1, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400),
            registry=self.registry,
        )
        self.limits_refused = Counter(
            "hatchet_operator_rate_limits_refused_total",
            "Steps that failed since an expression of their rate limits could not be evaluated for their run.",
            registry=self.registry,
        )
        self.not_observed = Counter(
            "hatchet_operator_objects_not_observed_total",
            "Changes of objects that ended in an error, which the log has.",
            ["resource"],
            registry=self.registry,
        )
        self.conflicts = Counter(
            "hatchet_operator_status_conflicts_total", "Status writes that met a newer object.", registry=self.registry
        )
        self.workers = Gauge(
            "hatchet_operator_workers_connected", "Workers with an open stream.", registry=self.registry
        )
        self.losses = Counter("hatchet_operator_workers_lost_total", "Workers that died.", registry=self.registry)
        self.payloads = Counter(
            "hatchet_operator_payloads_total",
            "Inputs and outputs that were put into the store, by clients themselves or for them by the operator.",
            ["kind", "by"],
            registry=self.registry,
        )
        self.payload_bytes = Counter(
            "hatchet_operator_payload_bytes_total", "Their bytes, as JSON.", ["kind", "by"], registry=self.registry
        )
        self.payload_reads = Counter(
            "hatchet_operator_payloads_read_total",
            "Payloads that the operator read for clients that don't themselves.",
            registry=self.registry,
        )
        self.payload_failures = Counter(
            "hatchet_operator_payload_failures_total",
            "Requests that the payload store gave no answer to; they are repeated.",
            registry=self.registry,
        )
        self.payloads_removed = Counter(
            "hatchet_operator_payloads_removed_total",
            "Payloads that were removed from the store, with their runs or because there was none.",
            registry=self.registry,
        )
        # Series are looked up once: a lookup costs more than what is done with it.
        self._of_steps: dict[tuple[str, str], tuple[Histogram, Counter, Counter]] = {}
        self._of_creations: dict[tuple[str, str], Counter] = {}
        self._of_ends: dict[tuple[str, str, str], Counter] = {}
        self._of_requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._gauges: list[Gauges] = []
        self.computed.register(_Asked(self))

    async def scrape(self) -> bytes:
        """Return everything as Prometheus reads it.

        What was counted is written down in a thread. There are some twenty series for each workflow, and with hundreds
        of these nothing else would be done for a tenth of a second.
        """
        computed = generate_latest(self.computed)  # here, where the memory that it looks at does not change meanwhile
        return await asyncio.to_thread(generate_latest, self.registry) + computed

    def add_gauges(self, gauges: Gauges) -> None:
        """Collect these at each scrape, too: a term adds its own, and removes them at its end."""
        self._gauges.append(gauges)

    def remove_gauges(self, gauges: Gauges) -> None:
        if gauges in self._gauges:
            self._gauges.remove(gauges)

    def collect_gauges(self) -> Iterable[Metric]:
        """Return those of all terms: what two have under one name and with the same labels is added up.

        Of ages, the highest counts.
        """
        found: dict[str, Metric] = {}
        for metric in (metric for gauges in self._gauges for metric in gauges()):
            before = found.setdefault(metric.name, metric)
            if before is not metric:
                found[metric.name] = _merged(before, metric)
        return found.values()

    def run_came(self, workflow: ObjectRef, *, is_known: bool) -> None:
        labels = workflow.namespace, workflow.name if is_known else _OTHER
        if (created := self._of_creations.get(labels)) is None:
            created = self._of_creations[labels] = self.created.labels(*labels)
        created.inc()

    def run_ended(self, workflow: ObjectRef, status: RunStatus, *, is_known: bool) -> None:
        """Count a run's end, and the time that its steps took."""
        labels = workflow.namespace, workflow.name if is_known else _OTHER
        end = (*labels, status.phase.value)
        if (ended := self._of_ends.get(end)) is None:
            ended = self._of_ends[end] = self.finished.labels(*end)
        ended.inc()
        if (steps := self._of_steps.get(labels)) is None:
            steps = self._of_steps[labels] = (
                self.step_seconds.labels(*labels),
                self.retries.labels(*labels),
                self.step_losses.labels(*labels),
            )
        seconds, retries, losses = steps
        for step in status.steps.values():
            if step.started_at is not None and step.finished_at is not None:
                seconds.observe(max((step.finished_at - step.started_at).total_seconds(), 0.0))
            if step.attempt:
                retries.inc(step.attempt)
            if step.losses:
                losses.inc(step.losses)

    def api_answered(self, method: str, resource: str, code: int, seconds: float) -> None:
        """Count a request to the API server; code 0: there was no answer."""
        request = method, resource, code
        if (series := self._of_requests.get(request)) is None:
            requests = self.api_requests.labels(method, resource, str(code))
            series = self._of_requests[request] = requests, self.api_seconds.labels(method)
        series[0].inc()
        series[1].observe(seconds)


def _merged(one: Metric, other: Metric) -> Metric:
    values: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in (*one.samples, *other.samples):
        labels, value = tuple(sorted(sample.labels.items())), float(sample.value)
        before = values.get(labels, 0.0)
        values[labels] = max(before, value) if one.name in _HIGHEST else before + value
    merged = Metric(one.name, one.documentation, one.type)
    for labels, value in values.items():
        merged.add_sample(one.name, dict(labels), value)
    return merged


class _Asked(Collector):
    """Collects the gauges at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.collect_gauges()

    def describe(self) -> Iterable[Metric]:
        return ()  # otherwise the registry would ask for the names of an engine that does not exist yet
