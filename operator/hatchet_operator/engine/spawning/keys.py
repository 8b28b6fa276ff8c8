"""Idempotency keys: which run has one, and for how long nobody else gets it."""

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

from hatchet_operator.decisions.expressions import UnusableKeyError
from hatchet_operator.decisions.idempotency import idempotency_key, keeps_key
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.trigger import Trigger
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import (
    InvalidRequest,
)
from hatchet_operator.resources.names import (
    ObjectRef,
    idempotency_label,
)
from hatchet_operator.resources.nesting import parse_object


@dataclass(frozen=True, slots=True)
class KeyedRun:
    """The newest run with an idempotency key, and whether it still has it."""

    ref: ObjectRef
    uid: str
    has_key: bool


class Keys:
    """The idempotency keys of all workflows that have them.

    Args:
        store: Who has which key.
        workflows: Whose runs have keys.
        clock: Tells the time.
    """

    def __init__(self, store: RunStore, workflows: Workflows, *, clock: Clock) -> None:
        self._store = store
        self._workflows = workflows
        self._clock = clock
        self._locks: WeakValueDictionary[tuple[ObjectRef, str], asyncio.Lock] = WeakValueDictionary()

    def key_of(self, trigger: Trigger, workflow: ObjectRef) -> str | None:
        """Return a run's idempotency key; None: its workflow has none, or the run is scheduled, or has a value."""
        graph = self._workflows.current_graph(workflow)
        if graph is None or graph.idempotency is None or trigger.start_at is not None:
            return None
        try:
            given = parse_object(trigger.input_json, what=f'input for workflow "{trigger.workflow}"')
            return idempotency_key(graph.idempotency, input=given, metadata=trigger.metadata)
        except UnusableKeyError as error:
            raise InvalidRequest(f'a run of workflow "{trigger.workflow}" gets no idempotency key: {error}') from error

    def lock(self, workflow: ObjectRef, key: str) -> asyncio.Lock:
        """Return the lock under which a key changes hands."""
        return self._locks.setdefault((workflow, key), asyncio.Lock())

    def newest_with(self, workflow: ObjectRef, key: str) -> KeyedRun | None:
        """Return the newest run that has or had a key."""
        found = self._store.newest_with_key(workflow, idempotency_label(key))
        graph = self._workflows.current_graph(workflow)
        if found is None or graph is None or graph.idempotency is None:
            return None
        record, created_at = found
        has_key = keeps_key(graph.idempotency, created_at=created_at, is_final=record.is_final, now=self._clock.now())
        return KeyedRun(record.ref, record.uid, has_key)
