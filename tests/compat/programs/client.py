"""Runs workflows from outside of any worker: ``client.py '[{"workflow": …, "input": …, "options": …}, …]'``.

Prints one JSON list: for each its run id and result, or the error that the SDK raised.
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import json
import sys
from datetime import datetime

from hatchet_sdk import Hatchet


async def one(hatchet: Hatchet, item) -> dict:
    try:
        if "event" in item:
            event = hatchet.client.event.push(item["event"], item["payload"], {"additional_metadata": {"by": "me"}})
            return {"event": event.eventId if hasattr(event, "eventId") else event.event_id}
        if "times" in item:
            times = [datetime.fromisoformat(each) for each in item["times"]]
            answer = hatchet.client.admin.schedule_workflow(item["workflow"], times, item["input"])
            return {"runs": [each.id for each in getattr(answer, "scheduled_workflows", ())]}
        if "listen" in item:
            return {"events": [(str(each.type), each.payload) async for each in listening(hatchet, item)]}
        if "run" in item:
            ref = hatchet.client.admin.get_workflow_run(item["run"])
        else:
            ref = await hatchet.client.admin.aio.run_workflow(
                item["workflow"], item.get("input", {}), item.get("options")
            )
    except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the answer
        return {"refused": f"{type(error).__name__}: {error}"}
    try:
        return {"run": ref.workflow_run_id, "result": await ref.result()}
    except Exception as error:  # noqa: BLE001  # whatever the SDK raises is the answer
        return {"run": ref.workflow_run_id, "error": f"{type(error).__name__}: {error}"}


async def listening(hatchet: Hatchet, item):
    """Listen to a run, or to all runs with an entry of metadata, of which one is started then."""
    admin, listener = hatchet.client.admin.aio, hatchet.listener
    chat = item["listen"]  # of its own: what is listened to by metadata may be a run that ended a moment ago
    options = {"additional_metadata": {"chat": chat}}
    if item["listen"] == "metadata":
        stream = listener.stream_by_additional_metadata("chat", chat)
        await admin.run_workflow(item["workflow"], {}, options)
    else:
        stream = (await admin.run_workflow(item["workflow"], {}, options)).stream()
    async for each in stream:
        yield each


async def main() -> None:
    hatchet = Hatchet()  # its channels belong to the loop that runs when it is made
    print(json.dumps([await one(hatchet, item) for item in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    asyncio.run(main())
