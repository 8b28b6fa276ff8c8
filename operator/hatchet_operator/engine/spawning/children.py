"""Children: their names follow from what identifies a spawn, so a run that has the name already is checked for it."""

import asyncio
import uuid
from collections.abc import Callable
from weakref import WeakValueDictionary

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.inputs import input_text, is_same_json
from hatchet_operator.decisions.recording import Spawned, begins_light
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.creation import Creation
from hatchet_operator.engine.spawning.keys import Keys
from hatchet_operator.engine.spawning.root_labels import RootLabels
from hatchet_operator.engine.spawning.run_object import run_body
from hatchet_operator.engine.spawning.trigger import (
    ParentAttempt,
    Trigger,
    at_position,
    dedupe_value_of,
    dedupe_violation,
    workflow_ref_of,
)
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import (
    AlreadyExists,
    Conflict,
    IdempotencyCollision,
    InvalidRequest,
    NotFound,
    NotPermitted,
    NotReady,
    Refused,
    SpawnConflict,
    StaleAttempt,
    UnknownObject,
)
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import (
    ObjectRef,
    child_run_name,
    dedupe_run_name,
    idempotent_run_name,
    spawn_identity,
)
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import ParentRef, WorkflowRun
from hatchet_operator.resources.worker_labels import StickyWorker

_LOOK_AGAIN_SECONDS = 1
"""Between two looks at a run that is being deleted and that is not watched here."""


class Children:
    """Creates children, each exactly once.

    Args:
        api: Where they are.
        creation: Creates and reads objects.
        keys: Their idempotency keys.
        store: What is known of runs.
        observer: Observes what the API server answers.
        reader: Reads runs that are over.
        root_labels: Labels the roots of their trees.
        runs: Has the attempts that spawn.
        workflows: Says whether children may begin without an object.
        events: Records on a child that it was spawned with another input.
        metrics: Counts spawns.
        may_begin_light: Whether any child may begin without an object.
        place_in_trace: Says in a child's object which attempt of its parent spawned it; None: nothing is traced.
    """

    def __init__(
        self,
        api: Api,
        *,
        creation: Creation,
        keys: Keys,
        store: RunStore,
        observer: RunObserver,
        reader: RunReader,
        root_labels: RootLabels,
        runs: Runs,
        workflows: Workflows,
        events: EventRecorder,
        metrics: Metrics,
        may_begin_light: bool,
        place_in_trace: Callable[[Json, RunRecord, str], None] | None = None,
    ) -> None:
        self._api = api
        self._creation = creation
        self._keys = keys
        self._store = store
        self._observer = observer
        self._reader = reader
        self._root_labels = root_labels
        self._runs = runs
        self._workflows = workflows
        self._events = events
        self._metrics = metrics
        self._may_begin_light = may_begin_light
        self._place_in_trace = place_in_trace
        self.locks: WeakValueDictionary[ObjectRef, asyncio.Lock] = WeakValueDictionary()
        """Held while a child of this name is created or found."""

    async def trigger(self, trigger: Trigger, child: ParentAttempt) -> str:
        """Create a child of a running step, or find the one that the step spawned before under that key or index.

        Returns:
            The child's name.

        Raises:
            InvalidRequest: The API server refused the run.
        """
        parent, step = self._admit(trigger, child)
        if parent.light is not None:  # its children's names follow from its UID, and it owns them
            await self._runs.recording.record_now(parent)
            parent, step = self._admit(trigger, child)
        spawn = spawn_identity(key=child.key, index=child.index)
        name = child_run_name(parent.ref.name, parent.uid, step=step, spawn=at_position(trigger, spawn))
        ref = ObjectRef(trigger.namespace, name)
        identity = ParentRef(name=parent.ref.name, uid=parent.uid, step=step, key=child.key, index=child.index)
        lock = self.locks.setdefault(ref, asyncio.Lock())
        async with lock:  # the same spawn twice at once: the second finds what the first created
            deduplicated = self._store.deduplicated_child(parent.uid, step, spawn)
            if deduplicated is not None:  # its key says which child it is, whatever value is given now
                ref = deduplicated.ref
            elif self._store.get(ref) is None:
                workflow = workflow_ref_of(trigger)
                if (value := dedupe_value_of(trigger, parent)) is not None:
                    ref = ObjectRef(trigger.namespace, dedupe_run_name(workflow.name, value))
                elif (key := self._keys.key_of(trigger, workflow)) is not None:
                    return await self._spawn_with_key(trigger, child, identity, key)
            await self._create_or_find(trigger, child, ref, identity)
        return ref.name

    async def _spawn_with_key(self, trigger: Trigger, child: ParentAttempt, identity: ParentRef, key: str) -> str:
        workflow = workflow_ref_of(trigger)
        async with self._keys.lock(workflow, key):
            newest = self._keys.newest_with(workflow, key)
            if newest is not None and newest.has_key:
                raise IdempotencyCollision(newest.ref.name)
            name = idempotent_run_name(workflow.name, key, after=newest.uid if newest is not None else "")
            await self._create_or_find(trigger, child, ObjectRef(trigger.namespace, name), identity, key)
            return name

    def _admit(self, trigger: Trigger, child: ParentAttempt) -> tuple[RunRecord, str]:
        """Return the parent and the spawning step, if that attempt may still spawn."""
        attempt = self._runs.attempts.get(child.attempt_id)
        parent = self._store.get(attempt.ref) if attempt else self._store.find(trigger.namespace, child.run)
        if parent is None or parent.ref.namespace != trigger.namespace:
            raise UnknownObject(f'run "{child.run}" is gone, so its step can spawn nothing')
        caller = trigger.caller
        if not (attempt.is_of(caller) if attempt else self._runs.hold.may_have_unclaimed(caller, parent)):
            raise NotPermitted(f'{caller} was not given that step of run "{child.run}", so it can spawn nothing in it')
        if parent.is_deleting:
            raise StaleAttempt(f'run "{child.run}" is being deleted, so its step can spawn nothing')
        step = attempt.step.name if attempt else self._runs.definitions.step_of(parent, child.attempt_id)
        if step is None and parent.whole is not None and self._workflows.begin_loading(parent.run):
            raise NotReady(f'the definition of run "{child.run}" is being read; repeat the call')
        if step is None or parent.is_final:
            raise StaleAttempt(
                f'this attempt of a step of run "{child.run}" is over (it was cancelled, timed out or given to another '
                "worker), so it can spawn nothing"
            )
        return parent, step

    async def _create_or_find(
        self,
        trigger: Trigger,
        child: ParentAttempt,
        ref: ObjectRef,
        identity: ParentRef,
        key: str | None = None,
    ) -> None:
        while True:
            record = self._store.get(ref)
            existing = await self._reader.read(record) if record else None
            if existing is None:
                try:
                    await self._begin(trigger, child, ref, identity, key)
                except AlreadyExists:
                    existing = await self._creation.read(ref)
                    if existing is None:
                        continue  # deleted between the two answers
                else:
                    return
            self._refuse_if_taken(trigger, existing, identity, key)
            if existing.metadata.deletion_timestamp is not None:
                await self._wait_until_gone(existing)
                self._admit(trigger, child)  # which may have taken long
                continue
            await self._attach(trigger, child, existing, identity)
            return

    async def _begin(
        self, trigger: Trigger, child: ParentAttempt, ref: ObjectRef, identity: ParentRef, key: str | None
    ) -> None:
        """Create a child, with an object or without one yet.

        Raises:
            AlreadyExists: There is an object of this name.
        """
        parent, _ = self._admit(trigger, child)  # again: waiting for our turn, or reading, may have taken long
        workflow = self._creation.known_workflow(trigger)  # only now: an existing child no longer needs it
        pool = self._creation.pool_of(workflow)
        body = run_body(
            trigger, workflow=workflow.name, name=ref.name, pool=pool, parent=parent, child=identity, key=key
        )
        body["spec"]["onParentClose"] = child.on_parent_close.value
        if self._place_in_trace is not None:
            self._place_in_trace(body, parent, child.attempt_id)
        if trigger.worker_id is not None:
            body["spec"]["stickyWorker"] = self._worker_of(child, trigger.worker_id).to_wire()
        if self._begins_light(trigger, child, parent, workflow):
            body["spec"]["begunAs"] = str(uuid.uuid4())
            self._observer.begin_light(body)
        else:
            self._observer.observe("ADDED", await self._creation.create(trigger, body))
        self._metrics.spawned.inc()
        self._root_labels.spawned(parent)

    def _refuse_if_taken(self, trigger: Trigger, existing: WorkflowRun, identity: ParentRef, key: str | None) -> None:
        """Refuse a child whose key or value another run has."""
        if _is_child(existing, identity):
            return
        if key is not None:
            raise IdempotencyCollision(existing.ref.name)
        if labels.DEDUPE in existing.metadata.labels:
            value = dedupe_value_of(trigger, self._store.by_uid(identity.uid))
            raise dedupe_violation(trigger, value or "", existing.metadata.name)

    def _begins_light(self, trigger: Trigger, child: ParentAttempt, parent: RunRecord, workflow: ObjectRef) -> bool:
        if not self._may_begin_light:
            return False
        return begins_light(
            Spawned(
                asked=child.record,
                is_kept_by_client=child.is_kept_by_client,
                graph=self._workflows.current_graph(workflow),
                is_deduplicated=dedupe_value_of(trigger, parent) is not None,
                is_scheduled=trigger.start_at is not None,
            )
        )

    async def _attach(self, trigger: Trigger, child: ParentAttempt, existing: WorkflowRun, identity: ParentRef) -> None:
        """Answer with an existing child: it must be this one, whatever its state."""
        if not _is_child(existing, identity):
            self._metrics.conflicted.inc()
            raise SpawnConflict(
                f"run {existing.ref} is there, but it is not the child that {_shown(identity)} means; "
                "somebody else created it: delete it, or spawn under another key"
            )
        workflow = workflow_ref_of(trigger).name
        other_workflow = existing.spec.workflow != workflow
        if other_workflow or not is_same_json(input_text(existing.spec), trigger.input_json):
            what = "workflow" if other_workflow else "input"
            message = f"{_shown(identity)} was spawned before with another {what}; the existing run is used as it is"
            self._metrics.conflicted.inc()
            self._events.warn(existing, Reason.SPAWN_INPUT_DIFFERS, message)
            if child.fail_on_conflict:
                raise SpawnConflict(
                    f"{_shown(identity)} was spawned before, as run {existing.ref.name}, with another {what}; "
                    'spawn it under another key, or without on_conflict="fail" to get the existing one'
                )
        self._metrics.attached.inc()
        if child.retry_failed:
            await self._run_again(existing, child.attempt_id)

    async def _run_again(self, existing: WorkflowRun, attempt_id: str) -> None:
        """Raise a failed child's reruns, once per attempt of the parent."""
        while existing.status.phase is Phase.FAILED and existing.spec.reruns_wanted <= existing.status.reruns:
            if existing.spec.rerun_requested_by == attempt_id or existing.spec.cancelled:
                return  # this attempt asked already, and the child failed again; or it was cancelled
            patch: Json = {
                "metadata": {"uid": existing.metadata.uid, "resourceVersion": existing.metadata.resource_version},
                "spec": {"reruns": existing.status.reruns + 1, "rerunRequestedBy": attempt_id},
            }
            ref = existing.ref
            try:
                answer = await self._api.until_answered(self._api.patch, RUNS, ref.namespace, ref.name, patch)
            except (Conflict, NotFound):
                fresh = await self._creation.read(ref)
                if fresh is None:
                    return
                existing = fresh
                continue
            except Refused as error:
                raise InvalidRequest(f"run {ref}, which failed, can't be run again: {error.message}") from error
            self._observer.observe("MODIFIED", answer)
            return

    async def _wait_until_gone(self, run: WorkflowRun) -> None:
        """Return when a leaving run is gone, or, if no watch would tell us that, when it is time to look again."""
        record = self._store.get(run.ref)
        if record is None or record.uid != run.metadata.uid:
            if await self._creation.read(run.ref) is None:
                return
            record = self._store.get(run.ref)
        if record is not None and record.uid == run.metadata.uid:
            await record.until_gone()
        else:  # another controller's, say
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    def _worker_of(self, child: ParentAttempt, worker_id: str) -> StickyWorker:
        """Return where a sticky child goes; usually to its parent's worker, whose name is known."""
        attempt = self._runs.attempts.get(child.attempt_id)
        worker = attempt.worker if attempt is not None else None
        is_there = worker is not None and worker.id == worker_id
        return StickyWorker(id=worker_id, name=worker.shown_name if worker is not None and is_there else None)


def _is_child(existing: WorkflowRun, identity: ParentRef) -> bool:
    """Whether a run is the child that is meant: anybody can create one of its name."""
    stored = existing.spec.parent
    return (
        stored is not None
        and any(owner.controller and owner.uid == identity.uid for owner in existing.metadata.owner_references)
        and (stored.uid, stored.step) == (identity.uid, identity.step)
        and spawn_identity(key=stored.key, index=stored.index) == spawn_identity(key=identity.key, index=identity.index)
    )


def _shown(identity: ParentRef) -> str:
    which = f'child "{identity.key[:80]}"' if identity.key is not None else f"child #{identity.ordinal}"
    return f'{which} of step "{identity.step}" of run {identity.name}'
