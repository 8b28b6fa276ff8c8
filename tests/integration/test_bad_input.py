"""What makes no sense is refused in words, and where its author will see them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, WORKFLOWS
from hatchet_operator.decisions.graph import DEFAULT_SCHEDULE_TIMEOUT
from hatchet_operator.errors import Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.limits import MAX_ERROR_BYTES
from hatchet_sdk import (
    ClientConfig,
    Context,
    Hatchet,
    InvalidDefinition,
    InvalidRequest,
    NotConfigured,
    OperatorUnavailable,
    RequestRefused,
    WorkflowNotFound,
    WorkflowRunFailed,
)
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced
from tests.integration.inprocess import (
    NAMESPACE,
    Instance,
    ScriptedWorker,
    errors_of,
    running_operator,
    step_of,
)

hatchet = Hatchet()  # for its decorators
DEEP = '{"a":' * 300 + "1" + "}" * 300


@pytest.fixture
async def world() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


@pytest.fixture
async def worker(world: Instance) -> ScriptedWorker:
    """A worker that registered nothing yet."""
    return await world.scripted()


async def refusal(call: Any, code: StatusCode = StatusCode.INVALID_ARGUMENT) -> str:
    """Return the words with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code
    return caught.value.details() or ""


@hatchet.workflow()
class Etl:
    @hatchet.step()
    async def work(self, context: Context) -> dict[str, Any]:
        return {"key": context.child_key()}


# --- Inputs


async def test_an_unknown_workflow_is_refused_at_once(world: Instance) -> None:
    admin = (await world.work(Etl())).admin
    with pytest.raises(WorkflowNotFound) as caught:
        await admin.aio.run_workflow("Elt", {})
    assert str(caught.value) == (
        'workflow "Elt" is not registered in namespace "default" (registered: Etl); did you mean "Etl"? '
        "Check the name, or start the worker that registers it (again, if the workflow was deleted)"
    )


@pytest.mark.parametrize(
    ("given", "kind", "want"),
    [
        pytest.param([1], TypeError, 'run_workflow("Etl"): input is a list (expected a mapping)', id="a list"),
        pytest.param(
            {"a": {"b": 1j}}, TypeError, 'input["a"]["b"] is a complex, which has no JSON form', id="not serializable"
        ),
        pytest.param({"a": float("nan")}, ValueError, 'input["a"] is nan, which has no JSON form', id="NaN"),
        pytest.param({"a": "x" * 300_000}, ValueError, "more than the limit of 262144 bytes (256 KiB)", id="too large"),
    ],
)
async def test_an_input_that_can_not_be_sent(world: Instance, given: Any, kind: type[Exception], want: str) -> None:
    admin = world.hatchet().admin
    with pytest.raises(kind) as caught:
        await asyncio.to_thread(admin.run_workflow, "Etl", given)
    assert want in str(caught.value)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("[1]", 'input for workflow "etl" is a JSON list; expected an object', id="a list"),
        pytest.param("{", 'input for workflow "etl" is not JSON', id="no JSON"),
        pytest.param('{"a":"' + "x" * 300_000 + '"}', "has 300008 bytes of JSON; at most 262144 (256 KiB)", id="large"),
        pytest.param(DEEP, 'input for workflow "etl" is nested deeper than 100 levels', id="deep"),
    ],
)
async def test_an_input_that_other_clients_send(world: Instance, worker: ScriptedWorker, text: str, want: str) -> None:
    await worker.put_workflow("etl")
    assert want in await refusal(worker.trigger("etl", text))


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"input": "text"}, "spec.input", id="an input that is a text"),
        pytest.param({"inputJson": 5}, "spec.inputJson", id="an input text that is a number"),
        pytest.param(
            {"workflow": "Etl"}, "spec.workflow: Invalid value", id="a workflow's exact name instead of its object's"
        ),
        pytest.param({"priority": 9}, "spec.priority", id="a priority beyond 3"),
        pytest.param({"ttl": "5x"}, "spec.ttl", id="a ttl without a unit"),
        pytest.param({"input": {}, "inputJson": "{}"}, "input", id="two inputs"),
    ],
)
async def test_kubectl_tells_what_is_wrong_with_a_run(world: Instance, spec: dict[str, Any], want: str) -> None:
    with pytest.raises(Refused) as caught:
        await world.create_run("r", **{"workflow": "etl", **spec})
    assert caught.value.status == 422
    assert want in caught.value.message


@pytest.mark.parametrize("depth", [101, 201, 300, 1100])
async def test_what_is_nested_too_deep_is_refused_in_words(world: Instance, worker: ScriptedWorker, depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("text", "etl", inputJson=deep)
    status = await world.finished("text")
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidInput")
    assert status["message"].startswith("spec.inputJson is nested deeper than 100 levels")
    assert 'metadata for workflow "etl" is nested deeper than 100 levels' in await refusal(
        worker.trigger("etl", additional_metadata=deep)
    )
    await worker.trigger("etl")
    await worker.complete(await worker.next(), text=deep)
    run = next(run for run in await world.runs() if run["metadata"]["name"] != "text")
    status = await world.finished(run["metadata"]["name"])
    assert 'what step "work" returned is nested deeper than 100 levels' in step_of(status)["error"]


async def test_the_embedded_api_server_stores_nothing_that_is_nested_too_deep(world: Instance) -> None:
    async with aiohttp.ClientSession(world.url) as session:
        body = f'{{"metadata":{{"name":"r"}},"spec":{{"workflow":"etl","input":{DEEP}}}}}'
        async with session.post(
            RUNS.path(NAMESPACE), data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"] == "the body of the request is nested deeper than 250 levels"


@pytest.mark.parametrize("number", ["9" * 5000, "²"])
async def test_what_somebody_writes_on_a_pod_stops_nobody(
    world: Instance, worker: ScriptedWorker, number: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = (await world.create_run("r", "nobodys"))["metadata"]["uid"]
    pod = {
        "metadata": {
            "name": "anybodys",
            "labels": {labels.POOL: "main", labels.RUN_UID: run},
            "annotations": {labels.POD_NUMBER: number, labels.REGISTRATION: number},
            "ownerReferences": [{"apiVersion": API_VERSION, "kind": "WorkflowRun", "name": "r", "uid": run}],
        },
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    uid = (await world.api.create(PODS, NAMESPACE, pod))["metadata"]["uid"]
    await world.until(lambda: world.engine.registry.find_pod(uid) is not None)
    await worker.put_workflow("etl")
    await worker.start()
    await worker.trigger("etl")
    assert await worker.next()
    assert "object not observed" not in caplog.messages


@pytest.mark.parametrize(
    ("container", "want"),
    [
        pytest.param({"env": {"A": "1"}}, "spec.template.spec.containers[0].env is a JSON dict", id="a mapping"),
        pytest.param({"env": None, "volumeMounts": None}, None, id="fields without a value"),
    ],
)
async def test_a_pool_says_what_is_wrong_with_its_template(
    world: Instance, container: dict[str, Any], want: str | None
) -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "etl:1", **container}]}}
    pool = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": "p"}, "spec": {"template": template}}
    await world.api.create(POOLS, NAMESPACE, pool)
    condition = await world.condition("p", "Valid", of=partial(world.api.get, POOLS, NAMESPACE))
    assert condition["status"] == ("True" if want is None else "False")
    assert condition["message"].startswith(want or "")


async def test_an_input_that_somebody_writes_as_an_object_has_the_same_limit(world: Instance) -> None:
    """The API server can't tell how large it is; so the run ends at once, in words, before it meets a worker."""
    await world.create_run("r", "etl", {"a": "x" * 300_000})
    status = await world.finished("r")
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidInput")
    assert status["message"].startswith("spec.input has 300008 bytes of JSON; at most 262144 (256 KiB) are taken")


async def test_a_run_whose_input_text_is_no_object_fails(world: Instance) -> None:
    await world.create_run("r", "etl", inputJson="[1]")
    status = await world.finished("r")
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidInput")
    assert status["message"].startswith("spec.inputJson is a JSON list; expected an object")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("k" * 10_000, id="of 10,000 characters"),
        pytest.param("🐣🐣", id="of emoji"),
        pytest.param("../../etc/passwd\n\t\0", id="of anything else"),
        pytest.param(" ", id="of a space"),
    ],
)
async def test_a_key_may_be_any_text(world: Instance, key: str) -> None:
    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> dict[str, Any]:
            first, second = [await context.aio.spawn_workflow("Etl", {}, key=key) for _ in range(2)]
            return {"same": str(first) == str(second), "key": (await first.result())["work"]["key"]}

    await world.work(Parent(), Etl())
    await world.create_run("r", "parent")
    assert json.loads(step_of(await world.finished("r"), "spawn")["output"]) == {"same": True, "key": key}


async def test_an_empty_key_is_refused(world: Instance) -> None:
    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> None:
            await context.aio.spawn_workflow("Etl", {}, key="")

    await world.work(Parent(), Etl())
    await world.create_run("r", "parent")
    status = await world.finished("r")
    want = 'ValueError: spawn_workflow("Etl"): key is empty (leave it out, or give it some text)'
    assert status["message"] == f'step "spawn" (attempt 1): {want}'


# --- Outputs and errors


@pytest.mark.parametrize(
    ("output", "want"),
    [
        pytest.param([1], 'what step "work" returned is a list (expected a mapping, or None for no output)', id="list"),
        pytest.param("text", 'what step "work" returned is a str', id="text"),
        pytest.param(
            {"a": object()}, 'what step "work" returned["a"] is an object, which has no JSON form', id="object"
        ),
        pytest.param({"a": "x" * 300_000}, 'what step "work" returned is 300008 bytes of JSON', id="too large"),
    ],
)
async def test_an_output_that_can_not_be_kept_fails_the_step(world: Instance, output: Any, want: str) -> None:
    @hatchet.workflow()
    class Returning:
        @hatchet.step()
        async def work(self, context: Context) -> Any:
            return output

    admin = (await world.work(Returning())).admin
    ref = await admin.aio.run_workflow("Returning", {})
    with pytest.raises(WorkflowRunFailed) as caught:
        await ref.result()
    assert want in caught.value.errors["work"]
    assert want in (await world.run(str(ref)))["status"]["message"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("[1]", 'step "work" returned a JSON list; expected a mapping or None', id="a list"),
        pytest.param("nonsense", 'step "work" returned something that is not JSON', id="no JSON"),
        pytest.param(
            '{"a":"' + "x" * 300_000 + '"}', 'step "work" returned 300008 bytes of JSON; at most 262144', id="too large"
        ),
    ],
)
async def test_an_output_that_other_clients_send(world: Instance, worker: ScriptedWorker, text: str, want: str) -> None:
    await worker.put_workflow("etl")
    await worker.start()
    await world.create_run("r", "etl")
    await worker.complete(await worker.next(), text=text)
    status = await world.finished("r")
    assert status["phase"] == "Failed"
    assert want in step_of(status)["error"]


async def test_a_run_whose_outputs_are_too_large_together(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl", [{"readable_id": f"s{n}"} for n in range(5)])
    await worker.start()
    await world.create_run("r", "etl")
    for _ in range(5):
        await worker.complete(await worker.next(), {"a": "x" * 250_000})
    status = await world.finished("r")
    assert status["phase"] == "Failed"
    failed = [step for step in status["steps"].values() if step["phase"] == "Failed"]
    assert len(failed) == 1
    assert "a run with its input and all outputs may have 1 MiB" in failed[0]["error"]


async def test_the_traceback_of_a_child_arrives_at_the_parent(world: Instance) -> None:
    seen: list[str] = []

    @hatchet.workflow()
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> None:
            for name in ("Broken", "Talkative"):
                child = await context.aio.spawn_workflow(name, {})
                with pytest.raises(WorkflowRunFailed) as caught:
                    await child.result()
                seen.append(caught.value.errors["work"])

    @hatchet.workflow()
    class Broken:
        @hatchet.step()
        async def work(self, context: Context) -> None:
            raise KeyError("it broke")

    @hatchet.workflow()
    class Talkative:
        @hatchet.step()
        def work(self, context: Context) -> None:
            raise ValueError("x" * 1_000_000)

    await world.work(Parent(), Broken(), Talkative())
    await world.create_run("r", "parent")
    assert (await world.finished("r"))["phase"] == "Succeeded"
    short, long = seen
    assert short.startswith("'it broke'\nTraceback (most recent call last):\n")
    assert 'raise KeyError("it broke")' in short
    assert len(long.encode()) <= MAX_ERROR_BYTES
    assert "bytes cut" in long


# --- Definitions


def test_impossible_classes_are_refused_where_they_are_written() -> None:
    with pytest.raises(InvalidDefinition, match="steps wait for each other"):

        @hatchet.workflow()
        class Cyclic:
            @hatchet.step(parents=["b"])
            def a(self, context: Context) -> None: ...

            @hatchet.step(parents=["a"])
            def b(self, context: Context) -> None: ...

    with pytest.raises(InvalidDefinition, match='step "a" names parent "x", which is not defined'):

        @hatchet.workflow()
        class Orphaned:
            @hatchet.step(parents=["x"])
            def a(self, context: Context) -> None: ...

    with pytest.raises(InvalidDefinition, match='two steps are named "a"'):

        @hatchet.workflow()
        class Doubled:
            @hatchet.step()
            def a(self, context: Context) -> None: ...

            @hatchet.step("A")
            def b(self, context: Context) -> None: ...

    with pytest.raises(InvalidDefinition, match="timeout is '5x' \\(expected a duration like \"90s\""):

        @hatchet.workflow()
        class Timeless:
            @hatchet.step(timeout="5x")
            def a(self, context: Context) -> None: ...


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param([], "has no steps; expected at least one", id="no steps"),
        pytest.param(
            [{"readable_id": "a", "parents": ["b"]}, {"readable_id": "b", "parents": ["a"]}],
            "its steps wait for each other in a cycle",
            id="a cycle",
        ),
        pytest.param(
            [{"parents": ["x"]}],
            'step "work" names parent "x", which is not defined (defined: work)',
            id="an unknown parent",
        ),
        pytest.param([{}, {}], 'has two steps named "work"; expected each name once', id="two of one name"),
        pytest.param(
            [{"timeout": "5x"}], 'step "work": its timeout: "5x" is not a duration; expected a number', id="a timeout"
        ),
        pytest.param([{"retries": -1}], 'step "work" has -1 retries; expected 0 or more', id="negative retries"),
        pytest.param([{"backoff_factor": 0.5}], "backoff", id="a backoff that shrinks"),
        pytest.param(
            [{"readable_id": "s" * 300}],
            f"can't be registered: name is '{'s' * 79}… (String should have at most 253 characters)",
            id="a name without end",
        ),
    ],
)
async def test_an_impossible_definition_is_refused(
    world: Instance, worker: ScriptedWorker, steps: list[dict[str, Any]], want: str
) -> None:
    words = await refusal(worker.put_workflow("etl", steps))
    assert words.startswith('workflow "etl"')
    assert want in words
    assert (await world.api.list_all(WORKFLOWS, NAMESPACE))[0] == []


async def test_two_names_that_become_one_object_name(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("Daily Report")
    assert await refusal(worker.put_workflow("daily.report")) == (
        'workflows "Daily Report" and "daily.report" would both be the Workflow object "default/daily-report"; '
        "rename one of them"
    )
    assert (await world.workflow("daily-report"))["spec"]["name"] == "Daily Report"


async def test_two_steps_that_a_worker_could_not_tell_apart(world: Instance, worker: ScriptedWorker) -> None:
    answers = await asyncio.gather(
        worker.put_workflow("a:b", [{"readable_id": "c"}]),
        worker.put_workflow("a", [{"readable_id": "b:c"}]),
        return_exceptions=True,
    )
    [words] = [
        answer.details() or "" for answer in answers if isinstance(answer, grpc.aio.AioRpcError)
    ]  # one of the two
    for part in ('step "c" of workflow "a:b"', 'step "b:c" of workflow "a"', 'both the action "a:b:c"', "rename one"):
        assert part in words
    [kept] = (await world.api.list_all(WORKFLOWS, NAMESPACE))[0]
    other = "a" if kept["metadata"]["name"] == "a-b" else "a:b"
    step = {"a": "b:c", "a:b": "c"}
    elsewhere = await world.scripted(pool="other")
    await elsewhere.put_workflow(other, [{"readable_id": step[other]}])  # whose workers are others

    # A person who brings them together is told, and the run waits instead of meeting the wrong code.
    moved = "a-b" if other == "a:b" else "a"
    await world.patch_workflow(moved, pool="main")

    told = await world.condition(moved, "Valid", status="False", of=world.workflow)
    assert 'both the action "a:b:c"' in told["message"]
    await worker.start()
    await world.create_run("r", moved)
    assert worker.has_nothing_new
    await world.patch_workflow(moved, pool="other")
    await elsewhere.start()
    assert (await elsewhere.next()).workflow_run_id == "r"


async def test_a_step_that_a_connected_worker_has_of_another_workflow(world: Instance, worker: ScriptedWorker) -> None:
    """Its newer code has the step no more; the worker of before would take it all the same."""
    await worker.put_workflow("a", [{"readable_id": "b:c"}])
    await worker.start()
    newer = await world.scripted()
    await newer.put_workflow("a", [{"readable_id": "b"}])
    words = await refusal(newer.put_workflow("a:b", [{"readable_id": "c"}]))
    assert 'step "b:c" of workflow "a"' in words
    await worker.close()
    world.fall_silent(worker)
    await newer.put_workflow("a:b", [{"readable_id": "c"}])


async def test_a_name_of_which_nothing_is_left(world: Instance, worker: ScriptedWorker) -> None:
    words = await refusal(worker.put_workflow("日本"))
    assert words.startswith('workflow name "日本" has no letter a-z or digit')


async def test_two_pools_register_one_workflow(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl")
    await worker.start()
    other = await world.scripted(pool="other")
    want = (
        'workflow "etl" belongs to pool "main", so pool "other" may not register it; rename the workflow, or set '
        "spec.pool of Workflow default/etl to the pool that should have it"
    )
    await world.until(lambda: world.connected() == 1)
    assert await refusal(other.put_workflow("etl")) == want
    assert await world.event("etl", "PoolConflict") == want

    await world.patch_workflow("etl", pool="other")
    await other.put_workflow("etl")
    await other.start()
    await world.create_run("r", "etl")
    await other.complete(await other.next(), {"n": 1})
    assert (await world.finished("r"))["phase"] == "Succeeded"
    assert worker.has_nothing_new


async def test_a_worker_that_is_refused_says_why_and_ends(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("Etl")
    await worker.start()
    await world.until(lambda: world.connected() == 1)
    refused = world.hatchet("other").worker("other-worker")
    refused.register_workflow(Etl())
    raised: list[BaseException] = []

    def run() -> None:
        try:
            refused.start()
        except InvalidRequest as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    await world.until(lambda: bool(raised))
    assert str(raised[0]).startswith('workflow "Etl" belongs to pool "main", so pool "other" may not register it')
    await asyncio.to_thread(thread.join, 5)


# --- Workflows that a person edits


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"scheduleTimeout": "5x"}, "spec.scheduleTimeout", id="a duration"),
        pytest.param({"steps": {"work": {"retries": -1}}}, "spec.steps.work.retries", id="retries"),
        pytest.param({"priority": 4}, "spec.priority", id="a priority"),
        pytest.param({"scheduleTimeoutCounts": "Sometimes"}, "spec.scheduleTimeoutCounts", id="a choice"),
    ],
)
async def test_kubectl_tells_what_is_wrong_with_a_workflow(world: Instance, spec: dict[str, Any], want: str) -> None:
    with pytest.raises(Refused) as caught:
        await world.create_workflow("etl", **spec)
    assert caught.value.status == 422
    assert want in caught.value.message


async def test_overrides_of_steps_that_are_not_there(world: Instance, worker: ScriptedWorker) -> None:
    await worker.put_workflow("etl")
    await worker.start()
    await world.patch_workflow("etl", steps={"wrok": {"retries": 1}})
    want = "spec.steps overrides wrok, which the workflow does not have (it has: work)"
    assert await world.event("etl", "UnknownStep") == want
    condition = await world.condition("etl", "Valid", status="False", of=world.workflow)
    assert (condition["reason"], condition["message"]) == ("UnknownStep", want)
    await world.create_run("r", "etl")
    await worker.complete(await worker.next())
    assert (await world.finished("r"))["phase"] == "Succeeded"


def make_definition(**changes: Any) -> dict[str, Any]:
    step = {"name": "work", "action": "etl:work", "timeout": "60s", "parents": ["work"]}
    return {"name": "etl", "scheduleTimeout": "5m", "steps": [step], **changes}


@pytest.mark.parametrize(
    ("definition", "want"),
    [
        pytest.param(make_definition(), "its steps wait for each other in a cycle (work -> work)", id="a cycle"),
        pytest.param(make_definition(steps=[]), "has no steps; expected at least one", id="no steps"),
    ],
)
async def test_a_definition_that_somebody_edited_disturbs_nobody_else(
    world: Instance, worker: ScriptedWorker, definition: dict[str, Any], want: str
) -> None:
    await worker.put_workflow("etl")
    await worker.put_workflow("other")
    await worker.start()
    await world.create_run("before", "etl")
    before = await worker.next()
    patch = {"status": {"definition": definition}}
    await world.api.patch(WORKFLOWS, NAMESPACE, "etl", patch, subresource="status")
    assert want in await world.event("etl", "InvalidDefinition")

    await world.create_run("r", "other")
    await worker.complete(await worker.next())
    assert (await world.finished("r"))["phase"] == "Succeeded"
    await worker.complete(before, {"n": 1})
    assert (await world.finished("before"))["phase"] == "Succeeded"

    await world.create_run("after", "etl")
    await world.condition("after", "WorkflowMissing")
    await worker.put_workflow("etl")
    await worker.complete(await worker.next())
    assert (await world.finished("after"))["phase"] == "Succeeded"
    conditions = {c["type"]: c["status"] for c in (await world.workflow("etl"))["status"]["conditions"]}
    assert conditions == {"Ready": "True", "Registered": "True", "Valid": "True"}


# --- What is not there


async def test_a_run_waits_for_its_workflow(world: Instance, worker: ScriptedWorker) -> None:
    await world.create_run("r", "etl")
    condition = await world.condition("r", "WorkflowMissing")
    assert condition["status"] == "True"
    want = 'no worker has registered workflow "etl" yet; the run starts when one does, and gives up at '
    assert condition["message"].startswith(want)
    assert condition["message"].endswith(
        "(workers register when they start: if the workflow was deleted, restart them)"
    )
    await worker.put_workflow("etl")
    await worker.start()
    await worker.complete(await worker.next())
    status = await world.finished("r")
    assert status["phase"] == "Succeeded"
    assert "WorkflowMissing" not in {condition["type"] for condition in status["conditions"]}


async def test_a_run_does_not_wait_for_ever(world: Instance) -> None:
    await world.create_run("r", "etl")
    await world.condition("r", "WorkflowMissing", status="True")
    await world.time_passes(DEFAULT_SCHEDULE_TIMEOUT.total_seconds(), "r")
    status = await world.finished("r")
    assert (status["phase"], status["reason"]) == ("Failed", "WorkflowMissing")
    assert status["message"].startswith('no worker registered workflow "etl" within 5m; check spec.workflow')


async def test_an_operator_that_is_not_there() -> None:
    config = ClientConfig(host_port="127.0.0.1:9", token="t", tls_strategy="none")
    admin = paced(Pace(patience=0.3), config).admin
    with pytest.raises(OperatorUnavailable) as caught:
        await asyncio.to_thread(admin.run_workflow, "Etl", {})
    assert "127.0.0.1:9" in str(caught.value)


def test_an_operator_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST_PORT", "TOKEN", "TLS_STRATEGY"):
        monkeypatch.delenv(f"HATCHET_CLIENT_{name}", raising=False)
    with pytest.raises(NotConfigured, match=r"The address of hatchet-operator is not configured\. In a worker pod"):
        Hatchet().admin.run_workflow("Etl", {})


async def test_a_token_of_somebody_else(world: Instance) -> None:
    config = ClientConfig(host_port=world.operator.grpc_address, token="e30.e30.e30", tls_strategy="none")
    stranger = ScriptedWorker(config)
    try:
        words = await refusal(stranger.trigger("etl"), StatusCode.UNAUTHENTICATED)
    finally:
        await stranger.close()
    assert "no valid token" in words


def has_lost(world: Instance, workers: int) -> bool:
    return world.metric("hatchet_operator_workers_lost_total") == workers


async def test_a_worker_that_dies_in_the_middle() -> None:
    async with running_operator(max_losses=2) as world:
        for losses in range(2):
            worker = await world.scripted()
            await worker.put_workflow("etl", [{"retries": 3}])
            await worker.start()
            if losses == 0:
                await world.create_run("r", "etl")
            action = await worker.next()
            assert action.retry_count == 0
            await worker.close()
            world.fall_silent(worker)
            await world.until(partial(has_lost, world, losses + 1))
        status = await world.finished("r")
        assert (status["phase"], status["reason"]) == ("Failed", "WorkerLost")
        error = step_of(status)["error"]
        assert error.startswith("WORKER_LOST: its worker died 2 times while the step ran; it was silent for")
        assert (step_of(status)["losses"], step_of(status)["attempt"]) == (2, 0)
        asking = await world.scripted()
        assert errors_of(await asking.result("r")) == [step_of(status)["error"]]


# --- The worker's own log


async def test_a_refused_registration_is_said_before_its_traceback(
    world: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    await world.work(Etl())
    clashing = type("ETL", (), {"work": hatchet.step("other")(lambda self, context: None)})
    worker = world.hatchet().worker("second")
    worker.register_workflow(hatchet.workflow()(clashing)())
    with pytest.raises(RequestRefused) as refused:
        await asyncio.to_thread(worker.start)
    assert str(refused.value).startswith('workflows "Etl" and "ETL"')
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"worker second can't start: {refused.value}"
    ]
