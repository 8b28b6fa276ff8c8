"""The children that a step spawns: its calls on the client, which know the order of its spawns."""

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hatchet_sdk._client.admin import all_of
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import (
    ChildScheduleWorkflowOptions,
    ChildTriggerWorkflowOptions,
    ChildWorkflowRunDict,
    SpawningAttempt,
    checked_items,
    input_of,
)
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._client.typed import name_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hatchet_sdk._client.client import Client
    from hatchet_sdk._client.triggers import Trigger


class Spawns:
    """What one attempt spawns.

    Args:
        client: Sends it.
        parent: Returns the attempt as its children's parent.
        refuse_when_cancelled: Raises if the attempt may not spawn any more.
        on_block: Told of what a thread of the step waits for.
    """

    def __init__(
        self,
        client: "Client",
        parent: Callable[[], SpawningAttempt],
        *,
        refuse_when_cancelled: Callable[[], None],
        on_block: "Callable[[Future[Any]], None]",
    ) -> None:
        self._client = client
        self._parent = parent
        self._refuse_when_cancelled = refuse_when_cancelled
        self._on_block = on_block
        self._next_index = itertools.count(-1)  # as Hatchet counts; one counter for every kind of spawn

    def schedule(
        self,
        workflow_name: str | type,
        schedules: Sequence[datetime],
        input: JsonObject | None,
        key: str | None,
        options: ChildScheduleWorkflowOptions | None,
    ) -> "Future[list[str]]":
        """Create runs that start at given times; return their ids, in the future."""
        self._refuse_when_cancelled()
        index = next(self._next_index)  # before anything that may fail or be repeated, as for any child
        return self._client.schedule_children(
            name_of(workflow_name),
            schedules,
            {} if input is None else input,
            key=key,
            index=index,
            options=options,
            parent=self._parent(),
        )

    def refs_of(self, runs: list[str]) -> list[WorkflowRunRef]:
        return [WorkflowRunRef(run_id, self._client, on_block=self._on_block) for run_id in runs]

    def spawn(self, children: Sequence[ChildWorkflowRunDict], *, with_others: bool) -> "list[Trigger]":
        """Start runs; each trigger's answer is the id of one."""
        self._refuse_when_cancelled()
        triggers = [
            self._client.prepare_spawn(
                name_of(child["workflow_name"]),
                input_of(child),
                key=child.get("key"),
                index=index,
                options=child.get("options"),
                parent=self._parent(),
            )
            # Before anything that may fail or be repeated: the place in the code is the identity.
            for child, index in [
                (child, next(self._next_index)) for child in checked_items(children, ChildWorkflowRunDict)
            ]
        ]
        self._client.trigger(triggers, with_others=with_others)
        return triggers

    def refs(self, triggers: "Sequence[Trigger]") -> list[WorkflowRunRef]:
        return list(map(self.ref_of, triggers, all_of([trigger.answer for trigger in triggers])))

    def ref_of(self, trigger: "Trigger", run_id: str, *, model: type[Any] | None = None) -> WorkflowRunRef[Any]:
        return WorkflowRunRef(run_id, self._client, on_block=self._on_block, model=model, started_by=trigger)


def spawn_item(
    name: Any, input: JsonObject | None, key: str | None, options: ChildTriggerWorkflowOptions | None
) -> ChildWorkflowRunDict:
    return {"workflow_name": name, "input": input, "key": key, "options": options}
