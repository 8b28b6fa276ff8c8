"""Listening to runs while they are running."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from hatchet_sdk._client.arguments import checked_text
from hatchet_sdk._client.run_ref import WorkflowRunRef

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk._client.streams import RunStream


class Listener:
    """Listens to runs; what it returns is iterated over with ``async for``, or ``for`` outside of async code."""

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client

    def stream(self, workflow_run_id: str | WorkflowRunRef) -> "RunStream":
        """Listen to one run; same as ``stream`` of a reference to it."""
        if isinstance(workflow_run_id, WorkflowRunRef):
            return workflow_run_id.stream()
        run_id = checked_text(workflow_run_id, what="stream(): workflow_run_id")
        return self._client().stream_of_run(run_id)

    def stream_by_additional_metadata(self, key: str, value: str) -> "RunStream":
        """Listen to all runs whose metadata have an entry, until all of them are over.

        If there is none, it waits for one.
        """
        checked_text(key, what="stream_by_additional_metadata(): key")
        checked_text(value, what="stream_by_additional_metadata(): value")
        return self._client().stream_of_metadata(key, value)
