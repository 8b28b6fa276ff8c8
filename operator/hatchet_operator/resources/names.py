"""Names and ids that follow from what they name. They are an interface once a cluster holds them.

Every function is pure: equal arguments give equal names, which is what makes a repeated create harmless.
"""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache

MAX_NAME = 63
_READABLE = 46
_GENERATED = 50
_NOT_ALLOWED = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
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
    """Tag what names a child within its parent step, so that key "0" and index 0 differ."""
    return f"index:{index}" if key is None else f"key:{key}"


def child_run_name(parent_name: str, parent_uid: str, *, step: str, spawn: str) -> str:
    """Name the run that ``step`` of a parent run spawns.

    The UID takes part, since a parent deleted and made anew under its old name must not inherit children.

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


def revision_name(workflow: str, definition_json: str) -> str:
    """Name the ControllerRevision that keeps a definition: equal definitions share one."""
    return _named(workflow, _digest(definition_json))


def _named(readable: str, digest: str) -> str:
    # A name must begin with a letter or digit, and `readable` may have none.
    return f"{_readable(readable) or 'run'}-{digest}"


def generate_name(owner: str) -> str:
    """Begin the names of objects that are made for another, to which the API server adds five characters."""
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
_TENANTS = uuid.UUID("0b9f3b7e-52a4-5d0e-8c0f-3d2f6f1f7a55")


@lru_cache(maxsize=10_000)  # asked for several times in an attempt's life
def attempt_id(run_uid: str, *, rerun: int, step: str, attempt: int, dispatch: int) -> str:
    """The fence: results, cancels and spawns of an attempt are accepted by this id alone.

    It differs for every giving-out, and is derived, so that an operator that restarts knows it again.
    """
    return str(uuid.uuid5(_ATTEMPTS, f"{run_uid}/{rerun}/{step}/{attempt}/{dispatch}"))


def tenant_id(namespace: str) -> str:
    """A namespace as Hatchet's clients want it: a UUID."""
    return str(uuid.uuid5(_TENANTS, namespace))
