"""Options of runs, besides their input, and the attempt that spawns one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict, TypeVar, cast

from hatchet_sdk._client.json_text import JsonObject

Item = TypeVar("Item", "WorkflowRunDict", "ChildWorkflowRunDict")


class TriggerWorkflowOptions(TypedDict, total=False):
    """Options of a root run.

    ``request_id``: requests for a workflow with the same id create only one run; by default each call has its own id.
    """

    additional_metadata: Mapping[str, object]
    priority: int
    request_id: str


class ChildTriggerWorkflowOptions(TypedDict, total=False):
    """Options of a child run.

    ``additional_metadata``: merged over the parent's.
    ``on_conflict="fail"``: raise SpawnConflict if the parent's existing child differs in workflow or input.
    ``on_failed="retry"``: if the parent's existing child failed, run it again.
    ``on_parent_close="Cancel"``: cancel the child when its parent succeeds or fails.
    ``sticky=True``: send the child to this worker; its workflow must be sticky, and decides what happens if it is busy.
    ``record="result"``: create the child's object only when it has finished, failed or run for a second: it costs one
    write, and runs again if the operator ends before that; "full": at once. By default its workflow decides.
    """

    additional_metadata: Mapping[str, object]
    priority: int
    record: Literal["full", "result"]
    on_conflict: Literal["fail"]
    on_failed: Literal["retry"]
    on_parent_close: Literal["Abandon", "Cancel"]
    sticky: bool


class ChildScheduleWorkflowOptions(TypedDict, total=False):
    """Options of child runs that start at given times.

    ``additional_metadata``: put over the parent's.
    """

    additional_metadata: Mapping[str, object]
    priority: int


class WorkflowRunDict(TypedDict):
    """One of many root runs."""

    workflow_name: str | type
    input: NotRequired[JsonObject | None]
    options: NotRequired[TriggerWorkflowOptions | None]


class ChildWorkflowRunDict(TypedDict):
    """One of many child runs."""

    workflow_name: str | type
    input: NotRequired[JsonObject | None]
    key: NotRequired[str | None]
    options: NotRequired[ChildTriggerWorkflowOptions | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpawningAttempt:
    """The attempt that spawns, and whether it still wants to."""

    workflow_run_id: str
    task_run_external_id: str
    additional_metadata: Mapping[str, object]
    is_current: Callable[[], bool]
    run_uid: str = ""
    worker_id: str = ""


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "on_conflict": ("fail",),
    "on_failed": ("retry",),
    "on_parent_close": ("Abandon", "Cancel"),
    "record": ("full", "result"),
}


def checked_options(options: Mapping[str, object] | None, kind: type, *, what: str) -> dict[str, object]:
    """Return the options that are set, after refusing what ``kind`` does not know: nothing is silently ignored."""
    known = cast("Mapping[str, object]", kind.__annotations__)
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"{what}: options is {options!r} (expected a dict with {', '.join(sorted(known))})")
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
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise TypeError(f"the runs are {items!r} (expected a list of dicts with workflow_name and input)")
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise TypeError(f"item {number} is {item!r} (expected a dict with workflow_name and input)")
        for name in item:
            if name not in known:
                raise ValueError(f'item {number}: unknown field "{name}" (known: {", ".join(sorted(known))})')
        if "workflow_name" not in item:
            raise ValueError(f"item {number} has no workflow_name (expected the name of a registered workflow)")
    return items
