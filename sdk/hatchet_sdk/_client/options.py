"""What may be said about a run beside its input, and who asks for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict, TypeVar, cast

from hatchet_sdk._client.json_text import JsonObject

Item = TypeVar("Item", "WorkflowRunDict", "ChildWorkflowRunDict")


class TriggerWorkflowOptions(TypedDict, total=False):
    """Options of a root run.

    ``request_id``: two requests for one workflow with one id make one run; by default each call has an id of its own.
    """

    additional_metadata: Mapping[str, object]
    priority: int
    request_id: str


class ChildTriggerWorkflowOptions(TypedDict, total=False):
    """Options of a child run.

    ``additional_metadata``: put over the parent's.
    ``on_conflict="fail"``: raise SpawnConflict if the child that this parent already has differs in workflow or input.
    ``on_failed="retry"``: run the child that this parent already has again if it failed.
    ``on_parent_close="Cancel"``: cancel the child when its parent succeeds or fails.
    """

    additional_metadata: Mapping[str, object]
    priority: int
    on_conflict: Literal["fail"]
    on_failed: Literal["retry"]
    on_parent_close: Literal["Abandon", "Cancel"]


class WorkflowRunDict(TypedDict):
    """One of many root runs."""

    workflow_name: str
    input: NotRequired[JsonObject | None]
    options: NotRequired[TriggerWorkflowOptions | None]


class ChildWorkflowRunDict(TypedDict):
    """One of many child runs."""

    workflow_name: str
    input: NotRequired[JsonObject | None]
    key: NotRequired[str | None]
    options: NotRequired[ChildTriggerWorkflowOptions | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpawningAttempt:
    """Who spawns, and whether it still wants to."""

    workflow_run_id: str
    task_run_external_id: str
    additional_metadata: Mapping[str, object]
    is_current: Callable[[], bool]


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "on_conflict": ("fail",),
    "on_failed": ("retry",),
    "on_parent_close": ("Abandon", "Cancel"),
}


def checked_options(options: Mapping[str, object] | None, kind: type, *, what: str) -> dict[str, object]:
    """Return the options that are set, after refusing what ``kind`` does not know: nothing is ignored in silence."""
    known = cast("Mapping[str, object]", kind.__annotations__)
    found = {name: value for name, value in (options or {}).items() if value is not None}
    for name, value in found.items():
        if name not in known:
            raise ValueError(f'{what}: unknown option "{name}" (known: {", ".join(sorted(known))})')
        if value not in _CHOICES.get(name, (value,)):
            raise ValueError(f"{what}: {name} is {value!r} (expected {' or '.join(map(repr, _CHOICES[name]))})")
    return found


def input_of(item: WorkflowRunDict | ChildWorkflowRunDict) -> JsonObject:
    """Return the input of one of many runs; without one it is empty."""
    given = item.get("input")
    return {} if given is None else given


def checked_items(items: Sequence[Item], kind: type[Item]) -> Sequence[Item]:
    """Return the items of a bulk call, after refusing what ``kind`` does not know or lacks."""
    known = kind.__annotations__
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise TypeError(f"item {number} is {item!r} (expected a dict with workflow_name and input)")
        for name in item:
            if name not in known:
                raise ValueError(f'item {number}: unknown field "{name}" (known: {", ".join(sorted(known))})')
        if "workflow_name" not in item:
            raise ValueError(f"item {number} has no workflow_name")
    return items
