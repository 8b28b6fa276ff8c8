"""The rooms of the engine, made and wired: one function for each wing, from the bottom to the top.

    Given ─► Memory ─► Running ─► Starting, Storing ─► Podding ─► Working ─► Edges
                │         │
                │         └─ signals: what rooms tell rooms above them, see `connect`
                └─ what is known of runs, pools, workers, pods: it knows no room, so every room may ask it

What a room has to know of rooms above it is in `Memory`; what it tells them is a `Signal`, connected at the end.
"""

from dataclasses import dataclass

from hatchet_operator.access.callers import Callers
from hatchet_operator.access.senders import Senders
from hatchet_operator.engine.attempt_calls import AttemptCalls
from hatchet_operator.engine.client_calls import ClientCalls
from hatchet_operator.engine.counting import RunCounter
from hatchet_operator.engine.dispatch.waiting import Waiting
from hatchet_operator.engine.gauges import EngineGauges
from hatchet_operator.engine.limits.ledger import Ledger
from hatchet_operator.engine.limits.objects import RateLimits
from hatchet_operator.engine.memory import Given, Memory, remember
from hatchet_operator.engine.obstacles import Obstacles
from hatchet_operator.engine.payloads.removal import Removal
from hatchet_operator.engine.payloads.texts import Payloads
from hatchet_operator.engine.pods.pools import Pools
from hatchet_operator.engine.pods.quotas import Quotas
from hatchet_operator.engine.pods.run_pods import RunPods
from hatchet_operator.engine.runs.asked import AskedRuns
from hatchet_operator.engine.runs.group_statuses import GroupStatuses
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.results import Results
from hatchet_operator.engine.spawning.root_labels import RootLabels
from hatchet_operator.engine.spawning.spawning import Spawning
from hatchet_operator.engine.streams.streams import Streams
from hatchet_operator.engine.triggers.crons import Crons
from hatchet_operator.engine.triggers.events import Events
from hatchet_operator.engine.triggers.webhooks import Webhooks
from hatchet_operator.engine.workers.connections import Connections
from hatchet_operator.engine.workers.offers import Offers
from hatchet_operator.engine.workers.registry import Registry
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.names import ObjectRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Runs, what they execute, and what they are limited by."""

    ledger: Ledger
    rate_limits: RateLimits
    workflows: Workflows
    runs: Runs
    group_statuses: GroupStatuses
    connections: Connections
    results: Results
    asked: AskedRuns
    streams: Streams


def wire_running(given: Given, memory: Memory) -> Running:
    api, settings, clock, metrics = given.api, given.settings, given.clock, given.metrics
    workflows = _workflows(given, memory)
    runs = _runs(given, memory, workflows)
    return Running(
        ledger=Ledger(
            api, settings.operator_namespace, owner=settings.owner, buckets=memory.buckets, scope=given.scope
        ),
        rate_limits=RateLimits(api, buckets=memory.buckets),
        workflows=workflows,
        runs=runs,
        group_statuses=GroupStatuses(runs.groups, workflows=workflows),
        connections=Connections(runs.attempts.queue, metrics=metrics, clock=clock, may_command=given.is_leading),
        results=Results(
            api,
            memory.store,
            observer=memory.observer,
            reader=memory.reader,
            graph_of=workflows.current_graph,
            clock=clock,
            slot_changed=runs.attempts.slot_changed,
        ),
        asked=AskedRuns(
            api,
            memory.store,
            observer=memory.observer,
            reader=memory.reader,
            looks_at=given.pace.runs_in_one_call,
        ),
        streams=Streams(memory.store, clock=clock, just_over_seconds=given.pace.just_over),
    )


def _workflows(given: Given, memory: Memory) -> Workflows:
    return Workflows(
        given.api,
        events=given.events,
        clock=given.clock,
        on_change=memory.signals.workflow_changed,
        template_of=memory.pools.template_of,
        pool_exists=memory.pool_exists,
        revisions_in_use=memory.store.revisions_in_use,
        is_offered=memory.workers.is_offered,
    )


def _runs(given: Given, memory: Memory, workflows: Workflows) -> Runs:
    pools, pods_of_runs, signals = memory.pools, memory.pods_of_runs, memory.signals
    obstacles = Obstacles(pools=pools, pods_of_runs=pods_of_runs, workers=memory.workers, workflows=workflows)
    return Runs(
        given.api,
        store=memory.store,
        observer=memory.observer,
        reader=memory.reader,
        workflows=workflows,
        events=given.events,
        metrics=given.metrics,
        settings=given.settings,
        clock=given.clock,
        turn_seconds=given.pace.turn,
        trouble_of=obstacles.of,
        starting=obstacles.starting,
        ending_of=pods_of_runs.ending_of,
        told_to_stop=signals.told_to_stop,
        on_demand=signals.demand,
        on_activity=signals.activity,
        buckets=memory.buckets,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """Whatever starts runs."""

    root_labels: RootLabels
    spawning: Spawning
    crons: Crons
    triggering: Events
    webhooks: Webhooks


def wire_starting(given: Given, memory: Memory, running: Running) -> Starting:
    api, events, metrics, clock = given.api, given.events, given.metrics, given.clock
    workflows, listens = running.workflows, given.settings.events_port is not None
    root_labels = RootLabels(api, memory.observer, events)
    spawning = Spawning(
        api,
        store=memory.store,
        observer=memory.observer,
        reader=memory.reader,
        root_labels=root_labels,
        runs=running.runs,
        workflows=workflows,
        events=events,
        metrics=metrics,
        clock=clock,
        may_begin_light=given.settings.light_runs,
        place_in_trace=memory.traces.place_child if memory.traces is not None else None,
    )
    return Starting(
        root_labels=root_labels,
        spawning=spawning,
        crons=Crons(
            api, store=memory.store, workflows=workflows, spawning=spawning, events=events, metrics=metrics, clock=clock
        ),
        triggering=Events(workflows=workflows, spawning=spawning, events=events, metrics=metrics),
        webhooks=Webhooks(api, events=events, metrics=metrics, listens=listens, clock=clock),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Storing:
    """Inputs and outputs in a store."""

    payloads: Payloads
    removal: Removal


def wire_storing(given: Given, memory: Memory) -> Storing:
    settings = given.settings
    payloads = Payloads(settings, given.metrics)
    removal = Removal(
        payloads,
        store=memory.store,
        observer=memory.observer,
        scope=given.scope,
        installation=settings.owner["uid"] if settings.owner is not None else None,
        after=settings.payload_orphans_after,
        metrics=given.metrics,
        is_leading=given.is_leading,
        clock=given.clock,
    )
    return Storing(payloads=payloads, removal=removal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Podding:
    """The pods that the operator creates."""

    quotas: Quotas
    pools: Pools
    run_pods: RunPods


def wire_podding(given: Given, memory: Memory, running: Running, storing: Storing) -> Podding:
    api, events, clock, settings = given.api, given.events, given.clock, given.settings
    runs, drain = running.runs, running.connections.drain
    silence = settings.watch_silence.total_seconds()
    quotas = Quotas(api, there_may_be_room=memory.signals.room, silence_seconds=silence)
    pools = Pools(
        api,
        known=memory.pools,
        events=events,
        clock=clock,
        token_key=given.token_key,
        workers_of=memory.workers.shared_of,
        drain=drain,
        queued=lambda pool: runs.attempts.queue.demand_for(pool.namespace, pool.name),
        awaited=runs.hold.told_of_pool,
        pods_of=memory.workers.pods_of,
        trouble_changed=runs.pool_changed,
        no_room=quotas.watch,
        payload_keys=storing.payloads.keys_of,
        protect_after=settings.protect_after,
    )
    run_pods = RunPods(
        api,
        events=events,
        clock=clock,
        known=memory.pods_of_runs,
        store=memory.store,
        known_pools=memory.pools,
        pools=pools,
        graph_of=runs.definitions.newest_graph_of,
        workers_in=memory.workers.in_pod,
        drain=drain,
        trouble_changed=runs.requeue,
        no_room=quotas.watch,
        cancel_grace=settings.cancel_grace,
        protects=bool(settings.protect_after),
    )
    return Podding(quotas=quotas, pools=pools, run_pods=run_pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """Workers, what they offer, and what waits for them."""

    waiting: Waiting
    offers: Offers
    registry: Registry


def wire_working(given: Given, memory: Memory, running: Running, podding: Podding) -> Working:
    runs, pools = running.runs, podding.pools
    offers = Offers(
        running.workflows, workers_of=memory.workers.shared_of, is_settled=lambda: not runs.has_runs_on_hold
    )

    def workers_changed(pool: ObjectRef) -> None:
        pools.changed(pool)
        offers.changed(pool)

    waiting = Waiting(
        runs.attempts.queue,
        workers_of=memory.workers.shared_of,
        pool_of=memory.pools.get,
        tell=runs.requeue_waiting,
        load_changed=pools.show_load,
        told_after=given.settings.waiting_told_after,
        clock=given.clock,
    )
    registry = Registry(
        given.api,
        store=memory.store,
        runs=runs,
        results=running.results,
        workers=memory.workers,
        connections=running.connections,
        metrics=given.metrics,
        settings=given.settings,
        scope=given.scope,
        clock=given.clock,
        slots_of_pool=memory.pools.slots_of,
        on_change=workers_changed,
        on_death=podding.run_pods.worker_died,
        reach_of=memory.pools.reach_of,
        end_pod=pools.end_pod,
        not_begun_seconds=given.pace.not_begun,
    )
    return Working(waiting=waiting, offers=offers, registry=registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """What is asked of several rooms at once, and who may ask."""

    callers: Callers
    senders: Senders
    attempt_calls: AttemptCalls
    client_calls: ClientCalls
    gauges: EngineGauges


def wire_edges(
    given: Given,
    memory: Memory,
    running: Running,
    starting: Starting,
    storing: Storing,
    podding: Podding,
    working: Working,
) -> Edges:
    api, audience = given.api, given.settings.token_audience
    callers = Callers(
        api,
        key=given.token_key,
        audience=audience,
        scope=given.scope,
        find_pod=memory.workers.find_pod,
        clock=given.clock.timestamp,
    )
    return Edges(
        callers=callers,
        senders=Senders(api, callers, audience=audience, scope=given.scope, clock=given.clock.boot_time),
        attempt_calls=AttemptCalls(
            store=memory.store,
            runs=running.runs,
            registry=working.registry,
            run_pods=podding.run_pods,
            payloads=storing.payloads,
            clock=given.clock,
        ),
        client_calls=ClientCalls(
            store=memory.store,
            observer=memory.observer,
            reader=memory.reader,
            results=running.results,
            spawning=starting.spawning,
            streams=running.streams,
            workflows=running.workflows,
            registry=working.registry,
        ),
        gauges=EngineGauges(
            store=memory.store,
            workflows=running.workflows,
            pools=podding.pools,
            waiting=working.waiting,
            rate_limits=running.rate_limits,
            clock=given.clock,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """All rooms, by wing."""

    memory: Memory
    running: Running
    starting: Starting
    storing: Storing
    podding: Podding
    working: Working
    edges: Edges


def wire(given: Given) -> Rooms:
    """Make all rooms, and connect what they tell each other."""
    memory = remember(given)
    running = wire_running(given, memory)
    starting = wire_starting(given, memory, running)
    storing = wire_storing(given, memory)
    podding = wire_podding(given, memory, running, storing)
    working = wire_working(given, memory, running, podding)
    edges = wire_edges(given, memory, running, starting, storing, podding, working)
    rooms = Rooms(
        memory=memory,
        running=running,
        starting=starting,
        storing=storing,
        podding=podding,
        working=working,
        edges=edges,
    )
    connect(given, rooms)
    return rooms


def connect(given: Given, rooms: Rooms) -> None:
    """Say who reacts to what, and in which order."""
    memory, running, podding = rooms.memory, rooms.running, rooms.podding
    runs, signals = running.runs, memory.signals
    signals.workflow_changed.connect(rooms.starting.crons.workflow_changed, runs.workflow_changed)
    signals.told_to_stop.connect(podding.run_pods.told_to_stop)
    signals.pool_demand.connect(podding.pools.changed)
    signals.run_demand.connect(podding.run_pods.changed)
    signals.activity.connect(rooms.working.waiting.active)
    signals.room.connect(podding.pools.there_may_be_room, podding.run_pods.there_may_be_room)
    # First the queue, so that slots that are given back now do not go to runs that are about to end; last the
    # requeueing, which relies on what all the others know by then.
    memory.changes.react_with(
        runs.queue_follows,
        RunCounter(given.metrics, observer=memory.observer, workflows=running.workflows).run_changed,
        *((memory.traces.run_changed,) if memory.traces is not None else ()),
        running.streams.run_changed,
        memory.reader.changed,
        running.results.run_changed,
        podding.run_pods.run_changed,
        runs.groups.run_changed,
        rooms.storing.removal.run_changed,
        runs.requeue_family,
    )
