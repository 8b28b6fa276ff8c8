"""Triggering runs: a child's or request's identity becomes an object name, and the API server's uniqueness the lock.

    request ─► identity ─► name ─► in memory? ─ yes ─► is it this child? ─► answer
                                       │ no
                                       └─► create ─► created                ─► answer
                                                  └─► AlreadyExists ─► GET ─► is it this child? ─► answer

A name alone proves nothing: owner UID and stored identity must match. A create that was not answered is retried, and
finds itself.
"""

import asyncio
import difflib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.deduplication import dedupe_value
from hatchet_operator.decisions.expressions import UnusableKeyError
from hatchet_operator.decisions.idempotency import idempotency_key, is_held
from hatchet_operator.decisions.inputs import input_text, is_same_json
from hatchet_operator.decisions.recording import Spawned, begins_light
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.cause import Origin, is_for_the_same, purpose_of
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.reconciler import Runs
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.root_labels import RootLabels
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import (
    AlreadyExists,
    Conflict,
    DedupeViolation,
    IdempotencyCollision,
    InvalidRequest,
    NotFound,
    NotPermitted,
    NotReady,
    Refused,
    SpawnConflict,
    StaleAttempt,
    UnknownObject,
    Unsupported,
)
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json, owner_reference
from hatchet_operator.resources.names import (
    ObjectRef,
    child_run_name,
    dedupe_label,
    dedupe_run_name,
    idempotency_label,
    idempotent_run_name,
    root_label,
    root_run_name,
    spawn_identity,
    workflow_object_name,
)
from hatchet_operator.resources.nesting import depth_problem, read_json
from hatchet_operator.resources.reasons import OnParentClose, Phase, Reason, Record, Stickiness
from hatchet_operator.resources.run import ParentRef, WorkflowRun
from hatchet_operator.resources.worker_labels import StickyWorker


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentAttempt:
    """The spawning attempt of a step, and which of its children is meant."""

    attempt_id: str
    run: str
    key: str | None
    index: int
    fail_on_conflict: bool = False
    retry_failed: bool = False
    on_parent_close: OnParentClose = OnParentClose.ABANDON
    record: Record | None = None  # what its object is to hold; None: its workflow decides
    is_kept_by_client: bool = False  # who spawns it again, if it was lost without an object


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """A request for a run: of a workflow, with an input, as a child or as a root."""

    caller: Caller
    workflow: str  # exact name
    input_json: str
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    parent: ParentAttempt | None = None
    request_id: str | None = None
    origin: Origin | None = None
    filter_payload: str | None = None
    start_at: datetime | None = None
    position: int | None = None  # among the scheduled times of one request
    worker_id: str | None = None  # where it should go, if its workflow is sticky

    @property
    def namespace(self) -> str:
        return self.caller.namespace


@dataclass(frozen=True, slots=True)
class _Holder:
    """The newest run with an idempotency key, and whether it still has it."""

    ref: ObjectRef
    uid: str
    is_held: bool


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
    ) -> None:
        self._clock = clock
        self._api = api
        self._may_begin_light = may_begin_light
        self._store = store
        self._observer = observer
        self._reader = reader
        self._root_labels = root_labels
        self._runs = runs
        self._workflows = workflows
        self._events = events
        self._metrics = metrics
        self._creating: WeakValueDictionary[ObjectRef, asyncio.Lock] = WeakValueDictionary()

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
            return await self._trigger_root(trigger)
        return await self._trigger_child(trigger, trigger.parent)

    # --- Root runs

    async def trigger_as(self, name: str, trigger: Trigger) -> bool:
        """Ensure that the root run of this name exists, which is derived from its purpose; false: it existed before.

        Raises:
            UnknownObject: There is no such workflow.
            SpawnConflict: The name is that of a run with another purpose.
            IdempotencyCollision: Another run of the workflow has its idempotency key.
            InvalidRequest: The API server refused the object.
        """
        workflow = self._known_workflow(trigger)
        if (key := self._key_of(trigger, workflow)) is None:
            return await self._create_as(name, trigger, workflow)
        async with self._key_lock(workflow, key):
            holder = self._holder_of(workflow, key)
            if holder is not None and holder.is_held and holder.ref.name != name:
                raise IdempotencyCollision(holder.ref.name)
            return await self._create_as(name, trigger, workflow, key)

    async def _create_as(self, name: str, trigger: Trigger, workflow: ObjectRef, key: str | None = None) -> bool:
        body = run_body(trigger, workflow=workflow.name, name=name, pool=self._pool_of(workflow), key=key)
        while True:
            try:
                created = await self._create(trigger, body)
            except AlreadyExists:
                existing = await self._read(ObjectRef(trigger.namespace, name))
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

    async def _trigger_root(self, trigger: Trigger) -> str:
        workflow = self._known_workflow(trigger)
        if (value := dedupe_value(trigger.metadata)) is not None:
            return await self._trigger_once(trigger, workflow, value)
        if (key := self._key_of(trigger, workflow)) is not None:
            async with self._key_lock(workflow, key):
                return await self._trigger_with_key(trigger, workflow, key)
        name = root_run_name(workflow.name, _at(trigger, trigger.request_id or uuid.uuid4().hex))
        body = run_body(trigger, workflow=workflow.name, name=name, pool=self._pool_of(workflow))
        try:
            created = await self._create(trigger, body)
        except AlreadyExists:
            existing = await self._read(ObjectRef(trigger.namespace, name))
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
        body = run_body(trigger, workflow=workflow.name, name=name, pool=self._pool_of(workflow))
        body["metadata"].setdefault("annotations", {})[labels.REQUEST] = request
        while True:
            try:
                created = await self._create(trigger, body)
            except AlreadyExists:
                existing = await self._read_object(ObjectRef(trigger.namespace, name))
                if existing is None:
                    continue  # deleted between the two answers
                if existing["metadata"].get("annotations", {}).get(labels.REQUEST) == request:
                    return name
                raise _dedupe_violation(trigger, value, name) from None
            self._observer.observe("ADDED", created)
            return name

    # --- Idempotency keys

    def _key_of(self, trigger: Trigger, workflow: ObjectRef) -> str | None:
        """Return a run's idempotency key; None: its workflow has none, or the run is scheduled, or has a value."""
        graph = self._workflows.current_graph(workflow)
        if graph is None or graph.idempotency is None or trigger.start_at is not None:
            return None
        try:
            given = parse_object(trigger.input_json, what=f'input for workflow "{trigger.workflow}"')
            return idempotency_key(graph.idempotency, input=given, metadata=trigger.metadata)
        except UnusableKeyError as error:
            raise InvalidRequest(f'a run of workflow "{trigger.workflow}" gets no idempotency key: {error}') from error

    def _key_lock(self, workflow: ObjectRef, key: str) -> asyncio.Lock:
        # no object has such a name, so it is nobody else's lock
        return self._creating.setdefault(ObjectRef(workflow.namespace, f"{workflow.name}={key}"), asyncio.Lock())

    def _holder_of(self, workflow: ObjectRef, key: str) -> _Holder | None:
        """Return the newest run that has or had a key."""
        found = self._store.key_holder(workflow, idempotency_label(key))
        graph = self._workflows.current_graph(workflow)
        if found is None or graph is None or graph.idempotency is None:
            return None
        record, created_at = found
        held = is_held(graph.idempotency, created_at=created_at, is_final=record.is_final, now=self._clock.now())
        return _Holder(record.ref, record.uid, held)

    async def _trigger_with_key(self, trigger: Trigger, workflow: ObjectRef, key: str) -> str:
        """Create the run with an idempotency key; the same request, a second time, finds it."""
        request = trigger.request_id or uuid.uuid4().hex
        while True:
            holder = self._holder_of(workflow, key)
            if holder is not None and holder.is_held:
                if trigger.request_id is not None and await self._is_of(request, holder.ref):
                    return holder.ref.name
                raise IdempotencyCollision(holder.ref.name)
            name = idempotent_run_name(workflow.name, key, after=holder.uid if holder is not None else "")
            body = run_body(trigger, workflow=workflow.name, name=name, pool=self._pool_of(workflow), key=key)
            body["metadata"].setdefault("annotations", {})[labels.REQUEST] = request
            try:
                created = await self._create(trigger, body)
            except AlreadyExists:
                if await self._is_of(request, ObjectRef(trigger.namespace, name)):
                    return name
                if self._store.get(ObjectRef(trigger.namespace, name)) is None:
                    continue  # deleted between the two answers
                raise IdempotencyCollision(name) from None
            self._observer.observe("ADDED", created)
            return name

    async def _is_of(self, request: str, ref: ObjectRef) -> bool:
        existing = await self._read_object(ref)
        return existing is not None and existing["metadata"].get("annotations", {}).get(labels.REQUEST) == request

    # --- Children

    async def _trigger_child(self, trigger: Trigger, child: ParentAttempt) -> str:
        parent, step = self._admit(trigger, child)
        if parent.light is not None:  # its children's names follow from its UID, and it owns them
            await self._runs.record_now(parent)
            parent, step = self._admit(trigger, child)
        spawn = spawn_identity(key=child.key, index=child.index)
        name = child_run_name(parent.ref.name, parent.uid, step=step, spawn=_at(trigger, spawn))
        ref = ObjectRef(trigger.namespace, name)
        identity = ParentRef(name=parent.ref.name, uid=parent.uid, step=step, key=child.key, index=child.index)
        lock = self._creating.setdefault(ref, asyncio.Lock())
        async with lock:  # the same spawn twice at once: the second finds what the first created
            deduplicated = self._store.deduplicated_child(parent.uid, step, spawn)
            if deduplicated is not None:  # its key says which child it is, whatever value is given now
                ref = deduplicated.ref
            elif self._store.get(ref) is None and (value := _dedupe_value_of(trigger, parent)) is not None:
                ref = ObjectRef(trigger.namespace, dedupe_run_name(_object_of(trigger).name, value))
            elif self._store.get(ref) is None and (key := self._key_of(trigger, _object_of(trigger))) is not None:
                return await self._spawn_with_key(trigger, child, parent, identity, key)
            await self._create_or_find(trigger, child, parent, ref, identity)
        return ref.name

    async def _spawn_with_key(
        self, trigger: Trigger, child: ParentAttempt, parent: RunRecord, identity: ParentRef, key: str
    ) -> str:
        workflow = _object_of(trigger)
        async with self._key_lock(workflow, key):
            holder = self._holder_of(workflow, key)
            if holder is not None and holder.is_held:
                raise IdempotencyCollision(holder.ref.name)
            name = idempotent_run_name(workflow.name, key, after=holder.uid if holder is not None else "")
            await self._create_or_find(trigger, child, parent, ObjectRef(trigger.namespace, name), identity, key)
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
        parent: RunRecord,
        ref: ObjectRef,
        identity: ParentRef,
        key: str | None = None,
    ) -> None:
        while True:
            record = self._store.get(ref)
            existing = await self._reader.read(record) if record else None
            if existing is None:
                parent, _ = self._admit(trigger, child)  # again: waiting for our turn, or reading, may have taken long
                workflow = self._known_workflow(trigger)  # looked up only now: an existing child no longer needs it
                body = run_body(
                    trigger,
                    workflow=workflow.name,
                    name=ref.name,
                    pool=self._pool_of(workflow),
                    parent=parent,
                    child=identity,
                    key=key,
                )
                body["spec"]["onParentClose"] = child.on_parent_close.value
                if trigger.worker_id is not None:
                    body["spec"]["stickyWorker"] = self._worker_of(child, trigger.worker_id).to_wire()
                if self._begins_light(trigger, child, parent, workflow):
                    body["spec"]["begunAs"] = str(uuid.uuid4())
                    self._metrics.spawned.inc()
                    self._observer.begin_light(body)
                    self._root_labels.spawned(parent)
                    return
                try:
                    created = await self._create(trigger, body)
                except AlreadyExists:
                    existing = await self._read(ref)
                    if existing is None:
                        continue  # deleted between the two answers
                else:
                    self._metrics.spawned.inc()
                    self._observer.observe("ADDED", created)
                    self._root_labels.spawned(parent)
                    return
            if key is not None and not _is_child(existing, identity):
                raise IdempotencyCollision(ref.name)
            if labels.DEDUPE in existing.metadata.labels and not _is_child(existing, identity):
                raise _dedupe_violation(trigger, _dedupe_value_of(trigger, parent) or "", ref.name)
            if existing.metadata.deletion_timestamp is not None:
                await self._wait_until_gone(existing)
                self._admit(trigger, child)  # which may have taken long
                continue
            await self._attach(trigger, child, existing, identity)
            return

    def _begins_light(self, trigger: Trigger, child: ParentAttempt, parent: RunRecord, workflow: ObjectRef) -> bool:
        if not self._may_begin_light:
            return False
        return begins_light(
            Spawned(
                asked=child.record,
                is_kept_by_client=child.is_kept_by_client,
                graph=self._workflows.current_graph(workflow),
                is_deduplicated=_dedupe_value_of(trigger, parent) is not None,
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
        workflow = _object_of(trigger).name
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
                fresh = await self._read(ref)
                if fresh is None:
                    return
                existing = fresh
                continue
            except Refused as error:
                raise InvalidRequest(f"run {ref}, which failed, can't be run again: {error.message}") from error
            self._observer.observe("MODIFIED", answer)
            return

    async def _wait_until_gone(self, run: WorkflowRun) -> None:
        record = self._store.get(run.ref)
        if record is None or record.uid != run.metadata.uid:
            obj = await self._read(run.ref)  # known only to the API server; the watch delivers its end
            record = self._store.get(run.ref) if obj else None
        if record is not None and record.uid == run.metadata.uid:
            await record.until_gone()

    # --- Shared

    def _known_workflow(self, trigger: Trigger) -> ObjectRef:
        ref = _object_of(trigger)
        workflow = self._workflows.get(ref)
        if workflow is None or ref not in self._workflows or workflow.exact_name != trigger.workflow:
            known = sorted(other.exact_name for _, other in self._workflows.in_namespace(trigger.namespace))
            shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "") if known else "none"
            raise UnknownObject(
                f'workflow "{trigger.workflow}" is not registered in namespace "{trigger.namespace}" '
                f"(registered: {shown}){_guess(trigger.workflow, known)} Check the name, or start the worker that "
                "registers it (again, if the workflow was deleted)"
            )
        self._check_sticky(trigger, ref)
        return ref

    def _check_sticky(self, trigger: Trigger, ref: ObjectRef) -> None:
        """Refuse, as Hatchet does, a request for a worker if the workflow is not sticky."""
        graph = self._workflows.current_graph(ref)
        if trigger.worker_id is not None and graph is not None and graph.sticky is Stickiness.NONE:
            raise Unsupported(
                f'the run of workflow "{trigger.workflow}" asks for one worker (sticky=True), but the workflow is not '
                "sticky; declare it with sticky=StickyStrategy.SOFT or HARD, or spec.sticky, or leave the option out"
            )

    def _worker_of(self, child: ParentAttempt, worker_id: str) -> StickyWorker:
        """Return where a sticky child goes; usually to its parent's worker, whose name is known."""
        attempt = self._runs.attempts.get(child.attempt_id)
        worker = attempt.worker if attempt is not None else None
        is_there = worker is not None and worker.id == worker_id
        return StickyWorker(id=worker_id, name=worker.shown_name if worker is not None and is_there else None)

    def _pool_of(self, ref: ObjectRef) -> str | None:
        workflow = self._workflows.get(ref)
        return (workflow.spec.pool or workflow.status.pool) if workflow else None

    async def _create(self, trigger: Trigger, body: Json) -> Json:
        try:
            return await self._api.until_answered(self._api.create, RUNS, trigger.namespace, body)
        except Refused as error:
            raise InvalidRequest(f'a run of workflow "{trigger.workflow}" was refused: {error.message}') from error

    async def _read(self, ref: ObjectRef) -> WorkflowRun | None:
        obj = await self._read_object(ref)
        return WorkflowRun.model_validate(obj) if obj is not None else None

    async def _read_object(self, ref: ObjectRef) -> Json | None:
        try:
            obj = await self._api.until_answered(self._api.get, RUNS, ref.namespace, ref.name)
        except NotFound:
            return None
        self._observer.observe("MODIFIED", obj)
        return obj


def _is_child(existing: WorkflowRun, identity: ParentRef) -> bool:
    """Whether a run is the child that is meant; its name alone proves nothing."""
    stored = existing.spec.parent
    return (
        stored is not None
        and any(owner.controller and owner.uid == identity.uid for owner in existing.metadata.owner_references)
        and (stored.uid, stored.step) == (identity.uid, identity.step)
        and spawn_identity(key=stored.key, index=stored.index) == spawn_identity(key=identity.key, index=identity.index)
    )


def _dedupe_value_of(trigger: Trigger, parent: RunRecord | None) -> str | None:
    above = (parent.run.spec.additional_metadata or {}) if parent is not None else None
    return dedupe_value(trigger.metadata, above=above)


def _dedupe_violation(trigger: Trigger, value: str, name: str) -> DedupeViolation:
    return DedupeViolation(value[:80], f'run {name} of workflow "{trigger.workflow}" has it until it is deleted')


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else "."


def _object_of(trigger: Trigger) -> ObjectRef:
    try:
        return ObjectRef(trigger.namespace, workflow_object_name(trigger.workflow))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _said_of(run: WorkflowRun) -> str:
    if run.spec.parent is not None:
        return f'it is a child of run "{run.spec.parent.name}"'
    return f'it is a run of workflow "{run.spec.workflow}" that {purpose_of(run.metadata.labels)} started'


def _shown(identity: ParentRef) -> str:
    which = f'child "{identity.key[:80]}"' if identity.key is not None else f"child number {identity.index}"
    return f'{which} of step "{identity.step}" of run {identity.name}'


def _at(trigger: Trigger, identity: str) -> str:
    """Distinguish the runs that one request schedules, by their order: a retried step gives later times."""
    return identity if trigger.position is None else f"{identity}@{trigger.position}"


def run_body(
    trigger: Trigger,
    *,
    workflow: str,
    name: str,
    pool: str | None,
    parent: RunRecord | None = None,
    child: ParentRef | None = None,
    key: str | None = None,
) -> Json:
    """Build the WorkflowRun object of a trigger; ``key`` is the run's idempotency key."""
    metadata: Json = {"name": name, "namespace": trigger.namespace, "labels": {labels.WORKFLOW: workflow}}
    spec: Json = {"workflow": workflow, "inputJson": trigger.input_json}
    own, root = metadata["labels"], name
    if trigger.origin is not None:
        said = trigger.origin.to_metadata()
        own |= said["labels"]
        metadata["annotations"] = said["annotations"]
    if pool:
        own[labels.POOL] = pool
    if trigger.start_at is not None:
        spec["startAt"] = trigger.start_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if trigger.filter_payload is not None:
        spec["filterPayload"] = trigger.filter_payload
    if trigger.priority is not None:
        spec["priority"] = trigger.priority
    if trigger.worker_id is not None:
        spec["stickyWorker"] = {"id": trigger.worker_id}
    additional = dict(trigger.metadata)
    if additional and (value := _dedupe_value_of(trigger, parent)) is not None:
        own[labels.DEDUPE] = dedupe_label(value)
    if key is not None:
        own[labels.IDEMPOTENCY] = idempotency_label(key)
    if parent is not None and child is not None:
        additional = {**(parent.run.spec.additional_metadata or {}), **additional}
        above = parent.run
        if above.spec.propagate_labels:
            spec["propagateLabels"] = list(above.spec.propagate_labels)
            given = above.metadata.labels
            own |= {key: given[key] for key in above.spec.propagate_labels if key in given}
        is_root = above.spec.parent is None  # labels that a person put on a root must not name another tree
        root = above.metadata.name if is_root else above.metadata.labels.get(labels.ROOT, above.metadata.name)
        root_uid = parent.uid if is_root else above.metadata.labels.get(labels.ROOT_UID, parent.uid)
        own |= {labels.PARENT_UID: parent.uid, labels.ROOT_UID: root_uid}
        metadata["ownerReferences"] = [owner_reference(parent.run)]
        spec["parent"] = child.to_wire()
    own[labels.ROOT] = root_label(root)
    if additional:
        spec["additionalMetadata"] = additional
    return {"apiVersion": API_VERSION, "kind": RUNS.kind, "metadata": metadata, "spec": spec}


def parse_object(text: str, *, what: str) -> dict[str, Any]:
    """Parse the text of a JSON object.

    Raises:
        InvalidRequest: It is not one; the message begins with ``what``.
    """
    try:
        value = read_json(text or "{}")
    except ValueError as error:
        raise InvalidRequest(f"{what} is not JSON ({error}); expected the text of an object") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} is a JSON {type(value).__name__}; expected an object")
    if (problem := depth_problem(value, what)) is not None:
        raise InvalidRequest(problem)
    return value


def check_dedupe(metadata: dict[str, Any], *, what: str) -> None:
    """Refuse an invalid deduplication value.

    Raises:
        InvalidRequest: The message begins with ``what``.
    """
    try:
        dedupe_value(metadata)
    except ValueError as error:
        raise InvalidRequest(f"{what}: {error}") from error
