"""Root runs: one per request, per purpose, per deduplication value or per idempotency key."""

import uuid

from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.decisions.inputs import input_text, is_same_json
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.cause import is_for_the_same, purpose_of
from hatchet_operator.engine.spawning.creation import Creation
from hatchet_operator.engine.spawning.keys import Keys
from hatchet_operator.engine.spawning.run_object import run_body
from hatchet_operator.engine.spawning.trigger import Trigger, at_position, dedupe_violation
from hatchet_operator.errors import (
    AlreadyExists,
    IdempotencyCollision,
    SpawnConflict,
)
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import (
    ObjectRef,
    dedupe_run_name,
    idempotent_run_name,
    root_run_name,
)
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.run import WorkflowRun


class Roots:
    """Creates root runs, each exactly once."""

    def __init__(
        self,
        *,
        creation: Creation,
        keys: Keys,
        store: RunStore,
        observer: RunObserver,
        events: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._creation = creation
        self._keys = keys
        self._store = store
        self._observer = observer
        self._events = events
        self._metrics = metrics

    async def trigger_as(self, name: str, trigger: Trigger) -> bool:
        """Ensure that the root run of this name exists, which is derived from its purpose; false: it existed before.

        Raises:
            UnknownObject: There is no such workflow.
            SpawnConflict: The name is that of a run with another purpose.
            IdempotencyCollision: Another run of the workflow has its idempotency key.
            InvalidRequest: The API server refused the object.
        """
        workflow = self._creation.known_workflow(trigger)
        if (key := self._keys.key_of(trigger, workflow)) is None:
            return await self._create_as(name, trigger, workflow)
        async with self._keys.lock(workflow, key):
            newest = self._keys.newest_with(workflow, key)
            if newest is not None and newest.has_key and newest.ref.name != name:
                raise IdempotencyCollision(newest.ref.name)
            return await self._create_as(name, trigger, workflow, key)

    async def _create_as(self, name: str, trigger: Trigger, workflow: ObjectRef, key: str | None = None) -> bool:
        body = run_body(trigger, workflow=workflow.name, name=name, pool=self._creation.pool_of(workflow), key=key)
        while True:
            try:
                created = await self._creation.create(trigger, body)
            except AlreadyExists:
                existing = await self._creation.read(ObjectRef(trigger.namespace, name))
                if existing is None:
                    continue  # deleted between the two answers
                self._check_purpose(existing, body)
                return False
            self._observer.observe("ADDED", created)
            return True

    def _check_purpose(self, existing: WorkflowRun, wanted: Json) -> None:
        """Refuse an existing run that has the wanted name but another purpose."""
        is_root_of_it = existing.spec.parent is None and existing.spec.workflow == wanted["spec"]["workflow"]
        if is_root_of_it and is_for_the_same(existing.metadata.labels, wanted["metadata"]["labels"]):
            return
        self._metrics.conflicted.inc()
        raise SpawnConflict(
            f"run {existing.ref} is there, but it is not that of {purpose_of(wanted['metadata']['labels'])}: "
            f"{_said_of(existing)}; somebody else created it: delete it, and the next try creates the right one"
        )

    async def trigger(self, trigger: Trigger) -> str:
        """Create the run that is asked for, or find the one that the same request created before.

        Returns:
            The run's name.

        Raises:
            UnknownObject: No worker registered the workflow.
            SpawnConflict: A run of that name is another workflow's, or has another purpose.
            InvalidRequest: The API server refused the run.
        """
        workflow = self._creation.known_workflow(trigger)
        if (value := dedupe_value(trigger.metadata)) is not None:
            return await self._trigger_once(trigger, workflow, value)
        if (key := self._keys.key_of(trigger, workflow)) is not None:
            async with self._keys.lock(workflow, key):
                return await self._trigger_with_key(trigger, workflow, key)
        name = root_run_name(workflow.name, at_position(trigger, trigger.request_id or uuid.uuid4().hex))
        body = run_body(trigger, workflow=workflow.name, name=name, pool=self._creation.pool_of(workflow))
        try:
            created = await self._creation.create(trigger, body)
        except AlreadyExists:
            existing = await self._creation.read(ObjectRef(trigger.namespace, name))
            if existing is not None and (existing.spec.workflow != workflow.name or existing.spec.parent is not None):
                raise SpawnConflict(
                    f'request id "{trigger.request_id}" leads to run {name}, which is another workflow\'s; '
                    "use another request id"
                ) from None
            if existing is not None and not is_same_json(input_text(existing.spec), trigger.input_json):
                message = f'request id "{trigger.request_id}" came before with another input; this run is used as it is'
                self._metrics.conflicted.inc()
                self._events.warn(existing, Reason.SPAWN_INPUT_DIFFERS, message)
            return name  # the same request a second time; if its run was deleted meanwhile, awaiting it says so
        self._observer.observe("ADDED", created)
        return name

    async def _trigger_once(self, trigger: Trigger, workflow: ObjectRef, value: str) -> str:
        """Create the run with a deduplication value; the same request, a second time, finds it."""
        name = dedupe_run_name(workflow.name, value)
        request = trigger.request_id or uuid.uuid4().hex
        body = run_body(trigger, workflow=workflow.name, name=name, pool=self._creation.pool_of(workflow))
        body["metadata"].setdefault("annotations", {})[labels.REQUEST] = request
        while True:
            try:
                created = await self._creation.create(trigger, body)
            except AlreadyExists:
                existing = await self._creation.read_object(ObjectRef(trigger.namespace, name))
                if existing is None:
                    continue  # deleted between the two answers
                if existing["metadata"].get("annotations", {}).get(labels.REQUEST) == request:
                    return name
                raise dedupe_violation(trigger, value, name) from None
            self._observer.observe("ADDED", created)
            return name

    async def _trigger_with_key(self, trigger: Trigger, workflow: ObjectRef, key: str) -> str:
        """Create the run with an idempotency key; the same request, a second time, finds it."""
        request = trigger.request_id or uuid.uuid4().hex
        while True:
            newest = self._keys.newest_with(workflow, key)
            if newest is not None and newest.has_key:
                if trigger.request_id is not None and await self._is_of(request, newest.ref):
                    return newest.ref.name
                raise IdempotencyCollision(newest.ref.name)
            name = idempotent_run_name(workflow.name, key, after=newest.uid if newest is not None else "")
            body = run_body(trigger, workflow=workflow.name, name=name, pool=self._creation.pool_of(workflow), key=key)
            body["metadata"].setdefault("annotations", {})[labels.REQUEST] = request
            try:
                created = await self._creation.create(trigger, body)
            except AlreadyExists:
                if await self._is_of(request, ObjectRef(trigger.namespace, name)):
                    return name
                if self._store.get(ObjectRef(trigger.namespace, name)) is None:
                    continue  # deleted between the two answers
                raise IdempotencyCollision(name) from None
            self._observer.observe("ADDED", created)
            return name

    async def _is_of(self, request: str, ref: ObjectRef) -> bool:
        existing = await self._creation.read_object(ref)
        return existing is not None and existing["metadata"].get("annotations", {}).get(labels.REQUEST) == request


def _said_of(run: WorkflowRun) -> str:
    if run.spec.parent is not None:
        return f'it is a child of run "{run.spec.parent.name}"'
    return f'it is a run of workflow "{run.spec.workflow}" that {purpose_of(run.metadata.labels)} started'
