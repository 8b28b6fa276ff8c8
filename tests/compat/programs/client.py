"""Runs workflows from outside of any worker: ``client.py '[{"workflow": …, "input": …, "options": …}, …]'``.

Prints one JSON list: for each its run id and result, or the error that the SDK raised.
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import json
import sys

from hatchet_sdk import Hatchet


async def one(hatchet: Hatchet, item) -> dict:
    try:
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


async def main() -> None:
    hatchet = Hatchet()  # its channels belong to the loop that runs when it is made
    print(json.dumps([await one(hatchet, item) for item in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    asyncio.run(main())
