"""Makes the `ObservedRun` that decisions about a run see, from what is known at this moment."""

from collections.abc import Callable
from dataclasses import replace

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import ObservedRun, ParentState, Policy, Wait
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.attempts import Attempts
from hatchet_operator.engine.runs.groups import Groups
from hatchet_operator.engine.runs.hold import Hold
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.placement import taken_of
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.replays import Replays
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.reasons import Phase, Stickiness


class Sight:
    """Observes a run, its parent, its groups, and its attempts.

    Args:
        store: All runs.
        observer: Says whether all of them are known yet.
        workflows: What they execute.
        attempts: What they have in flight.
        groups: Which runs may go on.
        hold: Which runs wait for workers from before the start.
        replays: Whether children are ready for a run that is replayed.
        policy: What is configured.
        starting, trouble_of, ending_of: See `Runs`.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        observer: RunObserver,
        workflows: Workflows,
        attempts: Attempts,
        groups: Groups,
        hold: Hold,
        replays: Replays,
        policy: Policy,
        trouble_of: Callable[[Attempt], str | None],
        starting: Callable[[Attempt], str | None],
        ending_of: Callable[[Attempt], str | None],
    ) -> None:
        self._store = store
        self._observer = observer
        self._workflows = workflows
        self._attempts = attempts
        self._groups = groups
        self._hold = hold
        self._replays = replays
        self._policy = policy
        self._trouble_of = trouble_of
        self._starting = starting
        self._ending_of = ending_of

    def of(self, record: RunRecord, graph: Graph | None) -> ObservedRun:
        """Return what is known of a run whose object is in memory, and that executes this graph."""
        live, waits = {}, {}
        for name, attempt in record.attempts.items():
            if (alive := attempt.live()) is not None:
                live[name] = replace(alive, ending=self._ending_of(attempt)) if attempt.run_uid is not None else alive
            elif attempt.worker is None:
                waits[name] = self._wait_of(attempt)
        tally = None if self._observer.loading else self._store.tally_of(record.uid)
        return ObservedRun(
            run=record.run,
            graph=graph,
            known_workflows=self._workflows.names_in(record.ref.namespace) if graph is None else (),
            without_graph=self._workflows.of(record.run) if graph is None else None,
            suspended=self._workflows.is_suspended(record.run),
            above_is_gone=record.above_is_gone,
            policy=self._policy,
            parent=self._parent_state(record),
            live=live,
            reports=record.reports,
            waits=waits,
            children=tally.counts() if tally else None,
            children_written_at=record.children_written_at,
            children_are_ready=self._replays.are_children_ready(record),
            waiting_told_at=record.waiting_told_at,
            taken=taken_of(record) if graph is not None and graph.sticky is not Stickiness.NONE else (),
            group=self._groups.state_of(record) if graph is not None and not record.is_final else None,
            awaits=self._hold.told_of(record),
        )

    def _wait_of(self, attempt: Attempt) -> Wait:
        wait = self._attempts.queue.wait_of(attempt)
        if wait.unserved_since is None:
            return wait
        return replace(wait, trouble=self._trouble_of(attempt), starting=self._starting(attempt))

    def _parent_state(self, record: RunRecord) -> ParentState | None:
        parent = self._store.parent_of(record)
        if parent is None:
            return None  # deleted: garbage collection removes the child
        return ParentState(
            cancelled=parent.cancelled or (parent.is_final and parent.phase is Phase.CANCELLED),
            closed=parent.is_final and parent.phase is not Phase.CANCELLED,
        )
