"""Names and ids that follow from what they name. Changing a rule breaks clusters that have names made by it.

Every function is pure: equal arguments give equal names, which is what makes a repeated create harmless.
"""

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

MAX_NAME = 63
_READABLE = 46
_GENERATED = 50
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PLAIN_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NOT_ALLOWED = re.compile(r"[^a-z0-9-]+")


class ObjectRef(NamedTuple):  # not a frozen dataclass: as a key, it is hashed and compared forty times for a child
    """Where an object is: its namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def _digest(*parts: str) -> str:
    # As JSON, parts can't run into each other whatever they hold, and lone surrogates have a form too.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _readable(text: str) -> str:
    return _NOT_ALLOWED.sub("-", text.lower())[:_READABLE].strip("-")


def spawn_identity(*, key: str | None, index: int) -> str:
    """Return what identifies a child within its parent's step: tagged, so that key "0" and index 0 differ."""
    return f"index:{index}" if key is None else f"key:{key}"


def child_run_name(parent_name: str, parent_uid: str, *, step: str, spawn: str) -> str:
    """Name the run that ``step`` of a parent run spawns.

    The UID takes part, since a parent that is deleted and created again under its old name must not inherit children.

    Args:
        parent_name: The parent's name, of which the first 46 characters stay readable.
        parent_uid: The parent's UID.
        step: Name of the spawning step; two steps may use the same key.
        spawn: What ``spawn_identity`` returned.

    Returns:
        A DNS label (RFC 1123) of at most 63 characters: readable prefix, a hyphen, 16 hex digits of SHA-256.
    """
    return _named(parent_name, _digest(parent_uid, step, spawn))


def root_run_name(workflow: str, request_id: str) -> str:
    """Name a run without a parent: the same request for the same workflow gives the same name."""
    return _named(workflow, _digest(workflow, request_id))


def tick_run_name(workflow: str, *, schedule: str, zone: str, tick: datetime) -> str:
    """Name the run that a cron starts at a tick, so that it is started once, whoever starts it."""
    return _named(workflow, _digest("cron", workflow, schedule, zone, tick.astimezone(UTC).isoformat()))


def cron_label(schedule: str, zone: str) -> str:
    """Return the value of the label by which the runs of one cron of a workflow are found."""
    return _digest(schedule, zone)


def rate_limit_name(key: str) -> str:
    """Name the RateLimit that a program sets: after its key, where that can be a name."""
    return key if _PLAIN_NAME.fullmatch(key) else _named(_readable(key) or "limit", _digest("rate limit", key))


def event_run_name(workflow: str, event_id: str, *, let_in_by: str | None = None) -> str:
    """Name the run of a workflow that an event starts, so that it is started once however often it is pushed.

    Args:
        workflow: Object name of the Workflow.
        event_id: The event's id.
        let_in_by: Which of the workflow's filters let it in, since each has a run of its own; None: it has none.
    """
    more = () if let_in_by is None else (let_in_by,)
    return _named(workflow, _digest("event", workflow, event_id, *more))


def event_label(event_id: str) -> str:
    """Return the value of the label by which the runs of an event are found: its id, if a label can have it."""
    return event_id if _LABEL.fullmatch(event_id) else _digest(event_id)


def dedupe_run_name(workflow: str, value: str) -> str:
    """Name the run of a workflow that has a deduplication value: there can be one of this name."""
    return _named(workflow, _digest("dedupe", workflow, value))


def idempotent_run_name(workflow: str, key: str, *, after: str) -> str:
    """Name the run that has an idempotency key next: of all that ask for it at once, one gets it.

    Args:
        workflow: Object name of the Workflow.
        key: The key.
        after: UID of the run that had the key before, as long as that is there; "": none.
    """
    return _named(workflow, _digest("idempotency", workflow, key, after))


def idempotency_label(key: str) -> str:
    """Return the value of the label by which runs with an idempotency key are found; see `event_label`."""
    return event_label(key)


def dedupe_label(value: str) -> str:
    """Return the value of the label by which the run with a deduplication value is found; see `event_label`."""
    return event_label(value)


def revision_name(workflow: str, definition_json: str) -> str:
    """Name the ControllerRevision that keeps a definition: equal definitions share one."""
    return _named(workflow, _digest(definition_json))


def _named(readable: str, digest: str) -> str:
    # A name must begin with a letter or digit, and `readable` may have none.
    return f"{_readable(readable) or 'run'}-{digest}"


def generate_name(owner: str) -> str:
    """Return `metadata.generateName` of an object that is made for another: the API server appends five characters."""
    return f"{owner[:_GENERATED].rstrip('-.')}-"  # a name may have dots, but none before a hyphen


def worker_lease_name(worker_id: str) -> str:
    """Name the Lease that keeps the registration of a worker outside of Pods."""
    return f"hatchet-worker-{_digest(worker_id)}"


def workflow_object_name(exact: str) -> str:
    """Name the Workflow object of a workflow: lower-cased, other characters as "-", at most 63.

    Raises:
        ValueError: Nothing of the name is left.
    """
    name = _NOT_ALLOWED.sub("-", exact.lower())[:MAX_NAME].strip("-")
    if not name:
        raise ValueError(
            f'workflow name "{exact[:80]}" has no letter a-z or digit, so no object can be named after it; '
            "give the workflow a name with at least one"
        )
    return name


def root_label(root_name: str) -> str:
    """Return the label of a whole tree: the root run's name, cut where a label's value must end.

    A run's name may have 253 characters and dots, a label's value 63; a longer name is cut and told apart by a hash.
    """
    return root_name if len(root_name) <= MAX_NAME else f"{root_name[:_READABLE].rstrip('-.')}-{_digest(root_name)}"


def action_id(workflow: str, step: str) -> str:
    """What a worker offers and a step asks for: ``<workflow>:<step>``, lower-cased, as Hatchet's clients make it."""
    return f"{workflow.lower()}:{step.lower()}"


_ATTEMPTS = uuid.UUID("6f1a6a5e-7f0c-5c46-9a53-6a2f8d0b6c11")
_STEPS = uuid.UUID("c1d1b2a8-3f5e-5b0c-9a36-41b1a0a7f0de")
_TENANTS = uuid.UUID("0b9f3b7e-52a4-5d0e-8c0f-3d2f6f1f7a55")


@lru_cache(maxsize=10_000)  # asked for several times in an attempt's life
def attempt_id(run_uid: str, *, rerun: int, step: str, attempt: int, dispatch: int) -> str:
    """Return the id that fences an attempt: its results, cancellations and spawns are accepted under this id alone.

    It differs for each dispatch, and is derived, so that an operator computes the same one after a restart.
    """
    return str(uuid.uuid5(_ATTEMPTS, f"{run_uid}/{rerun}/{step}/{attempt}/{dispatch}"))


def job_id(revision: str, *, on_failure: bool) -> str:
    """Return the id of a job: Hatchet's clients tell the on-failure step from the others by it."""
    return f"{revision}/{'on-failure' if on_failure else 'main'}"


def step_uuid(revision: str, step: str) -> str:
    """Return the UUID by which clients of Hatchet's REST API know a step of a definition."""
    return str(uuid.uuid5(_STEPS, f"{revision}/{step}"))


MAX_TASKS = 257
"""Steps of a workflow, and its on-failure step."""
_LOW_DIGITS = 3  # of the UID, which hold more than there are tasks


def task_run_id(run_uid: str, number: int) -> str:
    """Return the id of a task for clients of Hatchet's REST API: its run's UID, whose end the number changes.

    `runs_of_task` finds the run again from the id alone, so none is stored.

    Args:
        run_uid: The run.
        number: Which of its tasks, from 1; 0 is the run itself.
    """
    high, low = run_uid[:-_LOW_DIGITS], run_uid[-_LOW_DIGITS:]
    return f"{high}{int(low, 16) ^ number:0{_LOW_DIGITS}x}"


def runs_of_task(task_id: str) -> list[str]:
    """Return the UIDs of the runs that a task of this id could be of, in the order of its number, from 1.

    Raises:
        ValueError: It is the id of nothing.
    """
    return [task_run_id(task_id, number) for number in range(1, MAX_TASKS + 1)]


@lru_cache(maxsize=1_000)  # asked for in each call of a worker
def tenant_id(namespace: str) -> str:
    """Return the UUID by which Hatchet's clients know a namespace, as their tenant."""
    return str(uuid.uuid5(_TENANTS, namespace))
