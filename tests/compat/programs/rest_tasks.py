"""Functions as workflows whose programs ask Hatchet's REST API, as SDKs from 1.0 on do.

python rest_tasks.py worker       a worker, for good
python rest_tasks.py ask CALLS    calls of ``hatchet``, see rest_calls.py
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import asyncio
import sys
from datetime import datetime, timedelta
from types import SimpleNamespace

from hatchet_sdk.features.runs import BulkCancelReplayOpts
from rest_calls import answers_to

from hatchet_sdk import Context, EmptyModel, Hatchet
from hatchet_sdk.labels import DesiredWorkerLabel

hatchet = Hatchet()


@hatchet.task(name="Double", on_events=["rest:asked"])
async def double(input: EmptyModel, context: Context):
    return {"doubled": 2}


@hatchet.task(name="Family")
async def family(input: EmptyModel, context: Context):
    for number in range(2):
        await double.aio_run(child_key=f"child{number}")
    return {"id": context.step_run_id}


@hatchet.task(name="Endless", execution_timeout=timedelta(seconds=60))
async def endless(input: EmptyModel, context: Context):
    await asyncio.sleep(60)


@hatchet.task(name="Quitter", execution_timeout=timedelta(seconds=60))
async def quitter(input: EmptyModel, context: Context):
    await context.aio_cancel()
    await asyncio.sleep(60)


@hatchet.task(
    name="Waiting", desired_worker_labels=[DesiredWorkerLabel(key="nobody", value="has it", required=True, weight=5)]
)
async def waiting(input: EmptyModel, context: Context):
    return {}


graph = hatchet.workflow(name="Graph")


@graph.task()
async def load(input: EmptyModel, context: Context):
    return {"n": 20}


@graph.task(parents=[load])
async def add(input: EmptyModel, context: Context):
    raise ValueError("it broke")


@graph.on_failure_task()
async def tell(input: EmptyModel, context: Context):
    return {"told": True}


class Calls:
    """Calls whose arguments or answers are objects."""

    def cancel(self, **filters):
        hatchet.runs.bulk_cancel(BulkCancelReplayOpts(filters=filters))

    def created(self, since, until):
        return hatchet.runs.list(since=datetime.fromisoformat(since), until=datetime.fromisoformat(until))

    def push(self, key):
        return hatchet.event.push(key, {}).event_id

    def replay(self, ids):
        hatchet.runs.bulk_replay(BulkCancelReplayOpts(ids=ids))


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        print(answers_to(SimpleNamespace(hatchet=hatchet, calls=Calls(), double=double), sys.argv[2]))
        sys.exit()
    hatchet.worker("rest", slots=10, workflows=[double, family, endless, quitter, waiting, graph]).start()
