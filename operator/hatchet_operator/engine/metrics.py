"""What can be counted, for Prometheus. Names the bottleneck: children spawned and found again, delays, conflicts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector


class Metrics:
    """The operator's metrics, in a registry of their own: two operators in one process don't meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # process_cpu_seconds_total, process_resident_memory_bytes …
        self.is_leader = Gauge("hatchet_operator_is_leader", "1: this operator acts.", registry=self.registry)
        self.spawned = Counter("hatchet_operator_children_spawned_total", "Child runs created.", registry=self.registry)
        self.attached = Counter(
            "hatchet_operator_children_attached_total", "Spawns that found an existing child.", registry=self.registry
        )
        self.conflicted = Counter(
            "hatchet_operator_children_conflicted_total",
            "Spawns whose child had another workflow or input, or whose name was taken.",
            registry=self.registry,
        )
        self.finished = Counter(
            "hatchet_operator_runs_finished_total", "Runs that became final.", ["phase"], registry=self.registry
        )
        self.start_delay = Histogram(
            "hatchet_operator_start_delay_seconds",
            "From ready to run until given to a worker.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
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
