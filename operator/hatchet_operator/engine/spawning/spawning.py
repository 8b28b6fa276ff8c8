"""Triggering runs: a child's or request's identity becomes an object name, and the API server's uniqueness the lock.

    request ─► identity ─► name ─► in memory? ─ yes ─► is it this child? ─► answer
                                       │ no
                                       └─► create ─► created                ─► answer
                                                  └─► AlreadyExists ─► GET ─► is it this child? ─► answer

A name alone proves nothing: owner UID and stored identity must match. A create that was not answered is retried, and
finds itself.
"""

from collections.abc import Callable

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.children import Children
from hatchet_operator.engine.spawning.creation import Creation
from hatchet_operator.engine.spawning.keys import Keys
from hatchet_operator.engine.spawning.root_labels import RootLabels
from hatchet_operator.engine.spawning.roots import Roots
from hatchet_operator.engine.spawning.trigger import Trigger
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.base import Json


class Spawning:
    """Creates runs, each exactly once."""

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        observer: RunObserver,
        reader: RunReader,
        root_labels: RootLabels,
        runs: Runs,
        workflows: Workflows,
        events: EventRecorder,
        metrics: Metrics,
        clock: Clock,
        may_begin_light: bool,
        place_in_trace: Callable[[Json, RunRecord, str], None] | None = None,
    ) -> None:
        creation = Creation(api, observer=observer, workflows=workflows)
        keys = Keys(store, workflows, clock=clock)
        self.roots = Roots(creation=creation, keys=keys, store=store, observer=observer, events=events, metrics=metrics)
        self.children = Children(
            api,
            creation=creation,
            keys=keys,
            store=store,
            observer=observer,
            reader=reader,
            root_labels=root_labels,
            runs=runs,
            workflows=workflows,
            events=events,
            metrics=metrics,
            may_begin_light=may_begin_light,
            place_in_trace=place_in_trace,
        )

    async def trigger(self, trigger: Trigger) -> str:
        """Ensure that the run exists.

        Returns:
            Its name.

        Raises:
            UnknownObject: There is no such workflow, or the parent run is gone.
            NotPermitted: The spawning attempt was assigned to another worker.
            StaleAttempt: The spawning attempt is not the current one of its step.
            SpawnConflict: The name belongs to another run, or the child differs and must not.
            DedupeViolation: Another run of the workflow has its deduplication value.
            IdempotencyCollision: Another run of the workflow has its idempotency key.
            InvalidRequest: The API server refused the object.
        """
        if trigger.parent is None:
            return await self.roots.trigger(trigger)
        return await self.children.trigger(trigger, trigger.parent)

    async def trigger_as(self, name: str, trigger: Trigger) -> bool:
        """See `Roots.trigger_as`."""
        return await self.roots.trigger_as(name, trigger)
