"""Triggering runs: a child's or request's identity becomes an object name, and the API server's uniqueness the lock.

    request ─► identity ─► name ─► in memory? ─ yes ─► is it this child? ─► answer
                                       │ no
                                       └─► create ─► created                ─► answer
                                                  └─► AlreadyExists ─► GET ─► is it this child? ─► answer

A name is taken on trust from nobody: owner UID and stored identity must match. A create that was not answered is
repeated, and finds itself.
"""

import asyncio
import difflib
import uuid
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.inputs import input_text, is_same_json
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.records import RunRecord, RunStore
from hatchet_operator.engine.runs import Runs
from hatchet_operator.engine.workflows import Workflows
from hatchet_operator.errors import (
    AlreadyExists,
    Conflict,
    InvalidRequest,
    NotFound,
    NotPermitted,
    NotReady,
    Refused,
    SpawnConflict,
    StaleAttempt,
    UnknownObject,
)
from hatchet_operator.identity import Caller
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, owner_reference
from hatchet_operator.resources.names import (
    ObjectRef,
    child_run_name,
    root_label,
    root_run_name,
    spawn_identity,
    workflow_object_name,
)
from hatchet_operator.resources.nesting import depth_problem, read_json
from hatchet_operator.resources.reasons import OnParentClose, Phase, Reason
from hatchet_operator.resources.run import ParentRef, WorkflowRun


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentAttempt:
    """Who spawns: an attempt of a step, and which of its children is meant."""

    attempt_id: str
    run: str
    key: str | None
    index: int
    fail_on_conflict: bool = False
    retry_failed: bool = False
    on_parent_close: OnParentClose = OnParentClose.ABANDON


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """A request for a run: of a workflow, with an input, as a child or on its own."""

    caller: Caller
    workflow: str  # exact name
    input_json: str
    metadata: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    parent: ParentAttempt | None = None
    request_id: str | None = None

    @property
    def namespace(self) -> str:
        return self.caller.namespace


class Spawning:
    """Creates runs, each exactly once."""

    def __init__(
        self,
        api: Api,
        *,
        store: RunStore,
        runs: Runs,
        workflows: Workflows,
        events: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._api = api
        self._store = store
        self._runs = runs
        self._workflows = workflows
        self._events = events
        self._metrics = metrics
        self._creating: WeakValueDictionary[ObjectRef, asyncio.Lock] = WeakValueDictionary()

    async def trigger(self, trigger: Trigger) -> str:
        """Make sure that the run exists.

        Returns:
            Its name.

        Raises:
            UnknownObject: There is no such workflow, or the parent run is gone.
            NotPermitted: The spawning attempt was given to somebody else.
            StaleAttempt: The spawning attempt is not the current one of its step.
            SpawnConflict: The name is somebody else's, or the child differs and may not.
            InvalidRequest: The API server refused the object.
        """
        if trigger.parent is None:
            return await self._trigger_root(trigger)
        return await self._trigger_child(trigger, trigger.parent)

    # --- Root runs

    async def _trigger_root(self, trigger: Trigger) -> str:
        workflow = self._known_workflow(trigger)
        name = root_run_name(workflow.name, trigger.request_id or uuid.uuid4().hex)
        body = _body(trigger, workflow=workflow.name, name=name, pool=self._pool_of(workflow))
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
            return name  # the same request, a second time; if its run was deleted meanwhile, awaiting it says so
        self._runs.observe("ADDED", created)
        return name

    # --- Children

    async def _trigger_child(self, trigger: Trigger, child: ParentAttempt) -> str:
        parent, step = self._admit(trigger, child)
        spawn = spawn_identity(key=child.key, index=child.index)
        name = child_run_name(parent.ref.name, parent.uid, step=step, spawn=spawn)
        ref = ObjectRef(trigger.namespace, name)
        identity = ParentRef(name=parent.ref.name, uid=parent.uid, step=step, key=child.key, index=child.index)
        lock = self._creating.setdefault(ref, asyncio.Lock())
        async with lock:  # the same spawn twice at once: the second finds what the first made
            await self._create_or_find(trigger, child, parent, ref, identity)
        return name

    def _admit(self, trigger: Trigger, child: ParentAttempt) -> tuple[RunRecord, str]:
        """Return the parent and the spawning step, if that attempt may still spawn."""
        attempt = self._runs.attempts.get(child.attempt_id)
        parent = self._store.get(attempt.ref) if attempt else self._store.find(trigger.namespace, child.run)
        if parent is None or parent.ref.namespace != trigger.namespace:
            raise UnknownObject(f'run "{child.run}" is gone, so its step can spawn nothing')
        caller = trigger.caller
        if not (attempt.is_of(caller) if attempt else self._runs.may_have_unclaimed(caller, parent)):
            raise NotPermitted(f'{caller} was not given that step of run "{child.run}", so it can spawn nothing in it')
        if parent.is_deleting:
            raise StaleAttempt(f'run "{child.run}" is being deleted, so its step can spawn nothing')
        step = attempt.step.name if attempt else self._runs.step_of(parent, child.attempt_id)
        if step is None and parent.whole is not None and self._workflows.is_loading(parent.run):
            raise NotReady(f'the definition of run "{child.run}" is being read; repeat the call')
        if step is None or parent.is_final:
            raise StaleAttempt(
                f'this attempt of a step of run "{child.run}" is over (it was cancelled, timed out or given to another '
                "worker), so it can spawn nothing"
            )
        return parent, step

    async def _create_or_find(
        self, trigger: Trigger, child: ParentAttempt, parent: RunRecord, ref: ObjectRef, identity: ParentRef
    ) -> None:
        while True:
            record = self._store.get(ref)
            existing = await self._runs.read(record) if record else None
            if existing is None:
                parent, _ = self._admit(trigger, child)  # still: to wait for our turn, or to read, may have taken long
                workflow = self._known_workflow(trigger)  # asked only now: a child that is there needs none any more
                body = _body(
                    trigger,
                    workflow=workflow.name,
                    name=ref.name,
                    pool=self._pool_of(workflow),
                    parent=parent,
                    child=identity,
                )
                body["spec"]["onParentClose"] = child.on_parent_close.value
                try:
                    created = await self._create(trigger, body)
                except AlreadyExists:
                    existing = await self._read(ref)
                    if existing is None:
                        continue  # deleted between the two answers
                else:
                    self._metrics.spawned.inc()
                    self._runs.observe("ADDED", created)
                    self._runs.label_root(parent)
                    return
            if existing.metadata.deletion_timestamp is not None:
                await self._wait_until_gone(existing)
                self._admit(trigger, child)  # which may have taken long
                continue
            await self._attach(trigger, child, existing, identity)
            return

    async def _attach(self, trigger: Trigger, child: ParentAttempt, existing: WorkflowRun, identity: ParentRef) -> None:
        """Answer with a child that is there: it must be this one, whatever its state."""
        stored = existing.spec.parent
        same = (
            stored is not None
            and any(owner.controller and owner.uid == identity.uid for owner in existing.metadata.owner_references)
            and (stored.uid, stored.step) == (identity.uid, identity.step)
            and spawn_identity(key=stored.key, index=stored.index)
            == spawn_identity(key=identity.key, index=identity.index)
        )
        if not same:
            self._metrics.conflicted.inc()
            raise SpawnConflict(
                f"run {existing.ref} is there, but it is not the child that {_shown(identity)} means; "
                "somebody else made it: delete it, or spawn under another key"
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
        while existing.status.phase is Phase.FAILED and existing.spec.reruns <= existing.status.reruns:
            if existing.spec.rerun_requested_by == attempt_id:
                return  # this attempt asked already, and the child failed again
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
            self._runs.observe("MODIFIED", answer)
            return

    async def _wait_until_gone(self, run: WorkflowRun) -> None:
        record = self._store.get(run.ref)
        if record is None or record.uid != run.metadata.uid:
            obj = await self._read(run.ref)  # known to the API server only; its end comes by the watch
            record = self._store.get(run.ref) if obj else None
        if record is not None and record.uid == run.metadata.uid:
            await record.until_gone()

    # --- Shared

    def _known_workflow(self, trigger: Trigger) -> ObjectRef:
        ref = _object_of(trigger)
        workflow = self._workflows.get(ref)
        if workflow is None or ref not in self._workflows or workflow.exact_name != trigger.workflow:
            known = sorted(
                other.exact_name
                for known in self._workflows.known()
                if known.namespace == trigger.namespace and (other := self._workflows.get(known)) is not None
            )
            shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "") if known else "none"
            raise UnknownObject(
                f'workflow "{trigger.workflow}" is not registered in namespace "{trigger.namespace}" '
                f"(registered: {shown}){_guess(trigger.workflow, known)} Check the name, or start the worker that "
                "registers it (anew, if the workflow was deleted)"
            )
        return ref

    def _pool_of(self, ref: ObjectRef) -> str | None:
        workflow = self._workflows.get(ref)
        return (workflow.spec.pool or workflow.status.pool) if workflow else None

    async def _create(self, trigger: Trigger, body: Json) -> Json:
        try:
            return await self._api.until_answered(self._api.create, RUNS, trigger.namespace, body)
        except Refused as error:
            raise InvalidRequest(f'a run of workflow "{trigger.workflow}" was refused: {error.message}') from error

    async def _read(self, ref: ObjectRef) -> WorkflowRun | None:
        try:
            obj = await self._api.until_answered(self._api.get, RUNS, ref.namespace, ref.name)
        except NotFound:
            return None
        self._runs.observe("MODIFIED", obj)
        return WorkflowRun.model_validate(obj)


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else "."


def _object_of(trigger: Trigger) -> ObjectRef:
    try:
        return ObjectRef(trigger.namespace, workflow_object_name(trigger.workflow))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _shown(identity: ParentRef) -> str:
    which = f'child "{identity.key[:80]}"' if identity.key is not None else f"child number {identity.index}"
    return f'{which} of step "{identity.step}" of run {identity.name}'


def _body(
    trigger: Trigger,
    *,
    workflow: str,
    name: str,
    pool: str | None,
    parent: RunRecord | None = None,
    child: ParentRef | None = None,
) -> Json:
    """Make the WorkflowRun object of a trigger."""
    metadata: Json = {"name": name, "namespace": trigger.namespace, "labels": {labels.WORKFLOW: workflow}}
    spec: Json = {"workflow": workflow, "inputJson": trigger.input_json}
    own, root = metadata["labels"], name
    if pool:
        own[labels.POOL] = pool
    if trigger.priority is not None:
        spec["priority"] = trigger.priority
    additional = dict(trigger.metadata)
    if parent is not None and child is not None:
        additional = {**(parent.run.spec.additional_metadata or {}), **additional}
        above = parent.run
        if above.spec.propagate_labels:
            spec["propagateLabels"] = list(above.spec.propagate_labels)
            given = above.metadata.labels
            own |= {key: given[key] for key in above.spec.propagate_labels if key in given}
        is_root = above.spec.parent is None  # what a person wrote on a root names no other tree
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
    """Read the text of a JSON object.

    Raises:
        InvalidRequest: It is none; the message begins with ``what``.
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
