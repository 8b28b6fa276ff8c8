"""The WorkflowRun object of a trigger."""

from datetime import UTC

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.spawning.trigger import Trigger, dedupe_value_of
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json, owner_reference
from hatchet_operator.resources.names import (
    dedupe_label,
    idempotency_label,
    root_label,
)
from hatchet_operator.resources.run import ParentRef


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
    spec: Json = {"workflow": workflow, "inputJson": trigger.input_json, **_options_of(trigger)}
    own, additional = metadata["labels"], dict(trigger.metadata)
    if trigger.origin is not None:
        said = trigger.origin.to_metadata()
        own |= said["labels"]
        metadata["annotations"] = said["annotations"]
    if pool:
        own[labels.POOL] = pool
    if additional and (value := dedupe_value_of(trigger, parent)) is not None:
        own[labels.DEDUPE] = dedupe_label(value)
    if key is not None:
        own[labels.IDEMPOTENCY] = idempotency_label(key)
    if parent is not None and child is not None:
        above = parent.run
        additional = {**(above.spec.additional_metadata or {}), **additional}
        if above.spec.propagate_labels:
            spec["propagateLabels"] = list(above.spec.propagate_labels)
        own |= _inherited_labels(parent)
        metadata["ownerReferences"] = [owner_reference(above)]
        spec["parent"] = child.to_wire()
    own.setdefault(labels.ROOT, root_label(name))
    if additional:
        spec["additionalMetadata"] = additional
    return {"apiVersion": API_VERSION, "kind": RUNS.kind, "metadata": metadata, "spec": spec}


def _options_of(trigger: Trigger) -> Json:
    options: Json = {}
    if trigger.start_at is not None:
        options["startAt"] = trigger.start_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if trigger.filter_payload is not None:
        options["filterPayload"] = trigger.filter_payload
    if trigger.priority is not None:
        options["priority"] = trigger.priority
    if trigger.worker_id is not None:
        options["stickyWorker"] = {"id": trigger.worker_id}
    return options


def _inherited_labels(parent: RunRecord) -> dict[str, str]:
    """Return the labels that a child has because of its parent: its tree's, and those that are propagated."""
    above, uid = parent.run, parent.uid
    given = above.metadata.labels
    propagated = {key: given[key] for key in above.spec.propagate_labels or () if key in given}
    is_root = above.spec.parent is None  # labels that a person put on a root must not name another tree
    root = above.metadata.name if is_root else given.get(labels.ROOT, above.metadata.name)
    root_uid = uid if is_root else given.get(labels.ROOT_UID, uid)
    return {**propagated, labels.PARENT_UID: uid, labels.ROOT_UID: root_uid, labels.ROOT: root_label(root)}
