"""Functions as workflows, as SDKs from 1.0 on write them: a parent with keyed children, errors, a graph, a limit.

python tasks.py worker                     a worker, for good
python tasks.py run sync NAME INPUT        run a workflow from a plain program; its result, or its error, as JSON
python tasks.py run async NAME INPUT       likewise from async code
python tasks.py later N                    schedule a run in a second
python tasks.py same ID                    run a workflow twice with one key, singly and among others; all ids
python tasks.py many NAME INPUTS           run a workflow for each input, in both ways
python tasks.py push SCOPE PAYLOAD         push the event order:paid with a scope, and order:lost with many others
"""

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hatchet_sdk.clients.events import BulkPushEventWithMetadata, PushEventOptions
from pydantic import BaseModel

from hatchet_sdk import (
    BulkTriggerIdempotencyCollisionError,
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Context,
    DefaultFilter,
    EmptyModel,
    Hatchet,
    IdempotencyCollisionError,
    NonRetryableException,
    RetryAfterException,
    StickyStrategy,
    TTLBasedIdempotencyConfig,
)
from hatchet_sdk.labels import DesiredWorkerLabel

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])
hatchet = Hatchet()


class Number(BaseModel):
    n: int = 0


class Given(BaseModel):
    model_config = {"extra": "allow"}


@hatchet.task(name="Double", input_validator=Number)
async def double(input: Number, context: Context) -> dict[str, Any]:
    with (DIRECTORY / "doubled").open("a") as file:
        file.write(f"{input.n}\n")
    return {"n": input.n * 2, "retry": context.retry_count}


@hatchet.task(name="FanOut", retries=1)
async def fan_out(input: EmptyModel, context: Context) -> dict[str, Any]:
    children = [await double.aio_run(Number(n=n), wait_for_result=False, child_key=f"child{n}") for n in range(3)]
    results = await asyncio.gather(*(child.aio_result() for child in children))
    if context.retry_count == 0:
        raise ValueError("once more")
    return {"results": [result["n"] for result in results], "ids": [child.workflow_run_id for child in children]}


@hatchet.task(name="SyncFanOut", input_validator=Number)
def sync_fan_out(input: Number, context: Context) -> dict[str, Any]:
    return {"results": [double.run(Number(n=n))["n"] for n in range(input.n)]}


@hatchet.task(name="Broken")
async def broken(input: EmptyModel, context: Context) -> dict[str, Any]:
    raise ValueError("it broke")


@hatchet.task(name="Busy", retries=2)
async def busy(input: EmptyModel, context: Context) -> dict[str, Any]:
    """Asks for a wait of its own, and then never to be tried again."""
    with (DIRECTORY / "busy").open("a") as file:
        file.write(f"{time.time()}\n")
    if context.retry_count == 0:
        raise RetryAfterException("503", after=timedelta(seconds=1.2))
    raise NonRetryableException("404")


@hatchet.task(name="Streaming")
async def streaming(input: EmptyModel, context: Context) -> dict[str, Any]:
    for number in range(20):
        await context.aio_put_stream(f"word {number}")
    return {"said": 20}


graph = hatchet.workflow(name="Graph", input_validator=Number)


@graph.task()
async def first(input: Number, context: Context) -> dict[str, Any]:
    if input.n < 0:
        raise ValueError("less than nothing")
    return {"n": input.n + 1}


@graph.task(parents=[first])
async def second(input: Number, context: Context) -> dict[str, Any]:
    return {"n": context.task_output(first)["n"] * 10}


@graph.task(parents=[second])
async def third(input: Number, context: Context) -> dict[str, Any]:
    return {"n": context.task_output(second)["n"] + 5}


@graph.on_failure_task()
async def tidy(input: Number, context: Context) -> dict[str, Any]:
    (DIRECTORY / "tidied").write_text(json.dumps(context.task_run_errors))
    return {}


@hatchet.task(
    name="Limited",
    input_validator=Given,
    concurrency=[
        ConcurrencyExpression(
            expression="input.user", max_runs=1, limit_strategy=ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN
        )
    ],
)
async def limited(input: Given, context: Context) -> dict[str, Any]:
    with (DIRECTORY / "turns").open("a") as file:
        file.write("begin\n")
    await asyncio.sleep(0.2)
    with (DIRECTORY / "turns").open("a") as file:
        file.write("end\n")
    return {}


@hatchet.task(
    name="Labelled", desired_worker_labels=[DesiredWorkerLabel(key="model", value="large", required=True, weight=5)]
)
async def labelled(input: EmptyModel, context: Context) -> dict[str, Any]:
    return {"worker": context.worker_id}


@hatchet.task(name="Relabel", input_validator=Given)
async def relabel(input: Given, context: Context) -> dict[str, Any]:
    context.upsert_worker_labels(input.model_dump())
    return {}


@hatchet.task(name="OnEvent", on_events=["order:*"], input_validator=Given)
async def on_event(input: Given, context: Context) -> dict[str, Any]:
    return {"input": input.model_dump(), "to": context.filter_payload.get("to")}


@hatchet.task(
    name="Filtered",
    on_events=["order:paid"],
    input_validator=Given,
    default_filters=[
        DefaultFilter(expression="input.amount > 50", scope="shop", payload={"to": "large"}),
        DefaultFilter(expression="input.amount > 90", scope="shop", payload={"to": "huge"}),
        DefaultFilter(expression="input.amount < 50", scope="shop", payload={"to": "small"}),
        DefaultFilter(expression="true", scope="elsewhere"),
    ],
)
async def filtered(input: Given, context: Context) -> dict[str, Any]:
    return {"to": context.filter_payload.get("to")}


@hatchet.task(name="OnCron", on_crons=["30 6 * * MON-FRI", "@daily"], cron_input=Number(n=7), input_validator=Number)
async def on_cron(input: Number, context: Context) -> dict[str, Any]:
    return {"n": input.n}


@hatchet.task(name="Endless")
async def endless(input: EmptyModel, context: Context) -> dict[str, Any]:
    (DIRECTORY / "endless").write_text("began")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        (DIRECTORY / "endless").write_text(f"cancelled {context.exit_flag}")
        raise
    return {}


stuck = hatchet.workflow(name="Stuck", sticky=StickyStrategy.HARD)


@stuck.task()
async def stuck_first(input: EmptyModel, context: Context) -> dict[str, Any]:
    return {"id": context.worker_id}


@stuck.task(parents=[stuck_first])
async def stuck_second(input: EmptyModel, context: Context) -> dict[str, Any]:
    return {"id": context.worker_id}


@hatchet.task(name="Parents")
async def parents(input: EmptyModel, context: Context) -> dict[str, Any]:
    result = await stuck.aio_run(EmptyModel(), sticky=True)
    return {"own": context.worker_id, "child": [each["id"] for each in result.values()]}


@hatchet.task(
    name="Same",
    input_validator=Given,
    idempotency=TTLBasedIdempotencyConfig(key_expression="input.id", ttl=timedelta(minutes=5)),
)
async def same(input: Given, context: Context) -> dict[str, Any]:
    return {}


@hatchet.durable_task(name="Durable")
async def durable(input: EmptyModel, context: Any) -> dict[str, Any]:
    return {}


_ALL = (
    *(double, fan_out, sync_fan_out, broken, busy, streaming, graph, limited, labelled, relabel, stuck, parents),
    *(on_event, filtered, on_cron, endless, same),
)
WORKFLOWS = {each.name: each for each in _ALL}


async def stream(workflow: Any) -> list[str]:
    ref = await workflow.aio_run(wait_for_result=False)
    return [chunk async for chunk in hatchet.runs.subscribe_to_stream(ref.workflow_run_id)]


def push(scope: str, text: str) -> None:
    hatchet.event.push("order:paid", json.loads(text), PushEventOptions(scope=scope or None))
    hatchet.event.bulk_push([BulkPushEventWithMetadata(key="order:lost", payload=json.loads(text))])


def run_same(identity: str) -> None:
    first = same.run(Given(id=identity), wait_for_result=False).workflow_run_id
    try:
        same.run(Given(id=identity), wait_for_result=False)
    except IdempotencyCollisionError as error:
        existing = error.existing_run_external_id
    try:
        same.run_many(
            [same.create_bulk_run_item(input=Given(id=each)) for each in (identity, f"not {identity}")],
            wait_for_result=False,
        )
    except BulkTriggerIdempotencyCollisionError as error:
        created = error.successful_workflow_run_external_ids
        collisions = [each.existing_run_external_id for each in error.collisions]
    print(json.dumps({"first": first, "existing": existing, "created": created, "collisions": collisions}))


def run_many(name: str, text: str) -> None:
    """Run a workflow for each input: in one call, from a plain program and from async code."""
    workflow = WORKFLOWS[name]
    items = [workflow.create_bulk_run_item(input=Number.model_validate(each)) for each in json.loads(text)]
    print(json.dumps([workflow.run_many(items), asyncio.run(workflow.aio_run_many(items))]))


def run(how: str, name: str, text: str) -> None:
    workflow = WORKFLOWS[name]
    given = (Number if name in ("Double", "SyncFanOut", "Graph") else EmptyModel).model_validate_json(text)
    try:
        if how == "stream":
            print(json.dumps(asyncio.run(stream(workflow))))
            return
        result = workflow.run(given) if how == "sync" else asyncio.run(workflow.aio_run(given))
    except Exception as error:  # noqa: BLE001  # whatever it is, the test wants to see it
        members = [str(each) for each in getattr(error, "exceptions", ())]
        print(json.dumps({"error": str(error), "members": members}))
    else:
        print(json.dumps({"result": result}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", *more]:
            workflows = [*WORKFLOWS.values(), *([durable] if "durable" in more else [])]
            labels = {"model": "small"}
            hatchet.worker("tasks", slots=20, workflows=workflows, labels=labels).start()
        case ["push", scope, text]:
            push(scope, text)
            print("{}")
        case ["later", number]:
            at = datetime.now(UTC) + timedelta(seconds=1)
            double.schedule(at, Number(n=int(number)))
            print(json.dumps({"at": at.timestamp()}))
        case ["same", identity]:
            run_same(identity)
        case ["many", name, text]:
            run_many(name, text)
        case ["run", how, name, text]:
            run(how, name, text)
