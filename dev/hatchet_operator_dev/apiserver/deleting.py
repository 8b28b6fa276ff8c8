"""What a DELETE asks for, what it may not delete, and what keeps an object that is being deleted."""

from __future__ import annotations

from dataclasses import dataclass

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.kinds import Kind
from hatchet_operator_dev.apiserver.metadata import timestamp
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.store import Stored

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
DEFINITION_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
LASTING_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Body and query parameters of a DELETE."""

    dry_run: bool = False
    grace_seconds: int | None = None
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """The effect of a DELETE: the object's last (or marked) state, and whether it was removed."""

    stored: Stored
    gone: bool


def check_preconditions(kind: Kind, metadata: Object, options: DeleteOptions) -> None:
    if options.uid and options.uid != metadata["uid"]:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
        raise status.conflict(kind.group, kind.kind, metadata["name"], why)
    if options.resource_version and options.resource_version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
            f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been modified"
        )
        raise status.conflict(kind.group, kind.kind, metadata["name"], why)


def finalizers_after(metadata: Object, propagation: str | None) -> list[str]:
    finalizers = list(metadata.get("finalizers") or ())
    if propagation is None:
        return finalizers
    kept = [name for name in finalizers if name not in (FOREGROUND, ORPHAN)]
    match propagation:
        case "Foreground":
            return [*kept, FOREGROUND]
        case "Orphan":
            return [*kept, ORPHAN]
        case "Background":
            return kept
    wrong = status.not_supported("propagationPolicy", propagation, ("Foreground", "Background", "Orphan", "nil"))
    raise status.unprocessable("meta.k8s.io", "DeleteOptions", "", [wrong])


def marked_for_deletion(obj: Object, finalizers: list[str], grace: int) -> Object:
    """Mark an object as being deleted; a second delete may only shorten the grace period."""
    metadata = dict(obj["metadata"])
    first_time = "deletionTimestamp" not in metadata
    if first_time or grace < metadata.get("deletionGracePeriodSeconds", 0):
        metadata["deletionTimestamp"] = timestamp(grace)
        metadata["deletionGracePeriodSeconds"] = grace
    if first_time and "generation" in metadata:
        metadata["generation"] += 1
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    return {**obj, "metadata": metadata}


def is_done(kind: Kind, obj: Object) -> bool:
    """Tell whether an object that is being deleted has nothing left that keeps it."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    return kind.resource != "namespaces" or not obj.get("spec", {}).get("finalizers")
