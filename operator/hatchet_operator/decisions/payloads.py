"""Who owns a payload, and when it may be removed. Pure.

    <store>/<namespace>/<owner>/<sha256>     owner: the UID of a run whose step stored it, or what names a request

A payload stays while an input or output of some run refers to it. A run's outputs, and the inputs of its children, are
under its own UID; the input of a root run, which has no UID yet when it is stored, is under a name of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from hatchet_operator.decisions.inputs import input_reference
from hatchet_operator.resources.run import WorkflowRun
from hatchet_sdk.payloads.reference import BadReference, is_digest, is_owner, reference_in


class Owner(NamedTuple):
    """A folder of the store: everything in it is removed together."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def owner_of_path(path: str, *, namespace: str | None = None) -> Owner | None:
    """Return the owner of an object by its path; None: it is not ours, and left alone.

    Args:
        path: Below the store's root, or below the namespace's.
        namespace: The one whose folder was listed; None: the whole store was.
    """
    parts = path.split("/")
    if namespace is not None:
        parts = [namespace, *parts]
    if len(parts) != 3 or not parts[0] or not is_owner(parts[1]) or not is_digest(parts[2]):
        return None
    return Owner(parts[0], parts[1])


def owners_referenced(run: WorkflowRun) -> frozenset[Owner]:
    """Return what a run refers to."""
    texts = [input_reference(run.spec), *(state.output for state in run.status.steps.values())]
    return frozenset(_owners(run.metadata.namespace, texts))


def _owners(namespace: str, texts: Iterable[str | None]) -> Iterable[Owner]:
    for text in texts:
        try:
            reference = reference_in(text)
        except BadReference:  # clients that try to read it are told
            continue
        if reference is not None and reference.owner is not None:
            yield Owner(namespace, reference.owner)


def removable(
    newest: Mapping[Owner, datetime], *, is_referenced: Callable[[Owner], bool], now: datetime, after: timedelta
) -> list[Owner]:
    """Return what may be removed of what a scan of the store found.

    Args:
        newest: What is there: when the newest object of each owner was stored.
        is_referenced: Whether a run refers to it, or may soon.
        now: The time of day.
        after: How long an unreferenced payload is left: it may be on its way into a run.
    """
    return [owner for owner, stored_at in newest.items() if now - stored_at > after and not is_referenced(owner)]
