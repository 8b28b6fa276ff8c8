"""What programs of Hatchet's published SDKs from 1.0 on do with this operator: functions as workflows."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from tests.compat.limits import assert_counted, assert_measured
from tests.compat.published import PROGRAMS, PublishedCluster
from tests.integration.harness import NAMESPACE, output_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = PROGRAMS / "tasks.py"
NAMES = (
    *("double", "fanout", "syncfanout", "broken", "busy", "streaming", "graph", "limited"),
    *("labelled", "relabel", "stuck", "parents"),
    *("onevent", "filtered", "oncron", "endless", "same"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tasks(cluster: PublishedCluster) -> PublishedCluster:
    await cluster.until_listening(cluster.start_program(PROGRAM, "worker", name="tasks"), *NAMES)
    return cluster


async def ask(cluster: PublishedCluster, how: str, name: str, **input: Any) -> Any:
    return await call(cluster, "run", how, name, json.dumps(input))


async def call(cluster: PublishedCluster, *arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        cluster.sdk.python,
        str(PROGRAM),
        *arguments,
        env=os.environ | cluster.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_run_and_its_result(tasks: PublishedCluster, how: str) -> None:
    assert await ask(tasks, how, "Double", n=21) == {"result": {"n": 42, "retry": 0}}


async def test_a_retried_parent_finds_its_keyed_children_again(tasks: PublishedCluster) -> None:
    file = tasks.directory / "doubled"
    before = len(file.read_text().splitlines()) if file.exists() else 0
    await tasks.create_run("fan", "fanout")
    output = output_of(await tasks.finished("fan"), "fanout")
    assert output["results"] == [0, 2, 4]
    assert len(file.read_text().splitlines()) == before + 3, "each child ran once"
    children = await tasks.children_of("fan")
    assert {child["metadata"]["uid"] for child in children} == set(output["ids"])
    assert sorted(child["spec"]["parent"]["key"] for child in children) == ["child0", "child1", "child2"]


async def test_children_from_a_sync_task(tasks: PublishedCluster) -> None:
    assert await ask(tasks, "async", "SyncFanOut", n=2) == {"result": {"results": [0, 2]}}


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_failed_run_raises_its_own_error_once(tasks: PublishedCluster, how: str) -> None:
    answer = await ask(tasks, how, "Broken")
    assert "it broke" in json.dumps(answer), answer


async def test_an_error_says_when_or_whether_it_is_tried_again(tasks: PublishedCluster) -> None:
    assert "404" in json.dumps(await ask(tasks, "sync", "Busy"))
    first, second = map(float, (tasks.directory / "busy").read_text().split())
    assert second - first >= 1.2


async def test_a_stream_of_what_a_task_says(tasks: PublishedCluster) -> None:
    assert await ask(tasks, "stream", "Streaming") == [f"word {number}" for number in range(20)]


async def test_a_graph(tasks: PublishedCluster) -> None:
    assert await ask(tasks, "sync", "Graph", n=1) == {
        "result": {"first": {"n": 2}, "second": {"n": 20}, "third": {"n": 25}}
    }


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_graph_that_fails_raises_one_error_and_tidies_up(tasks: PublishedCluster, how: str) -> None:
    answer = await ask(tasks, how, "Graph", n=-1)
    assert len(answer["members"]) == 1, answer
    assert "less than nothing" in answer["members"][0]
    assert "less than nothing" in (tasks.directory / "tidied").read_text()


async def test_a_run_that_is_scheduled_starts_at_its_time(tasks: PublishedCluster) -> None:
    at = (await call(tasks, "later", "21"))["at"]
    (run,) = await tasks.runs("hatchet-operator.dev/triggered-by=schedule")
    done = await tasks.finished(run["metadata"]["name"])
    assert output_of(done, "double")["n"] == 42
    assert datetime.fromisoformat(done["status"]["startedAt"]).timestamp() >= at


async def test_a_second_run_with_a_key_raises_an_error_that_names_the_first(tasks: PublishedCluster) -> None:
    told = await call(tasks, "same", "ada")
    assert told["existing"] == told["first"]
    assert told["collisions"] == [told["first"]]
    runs = await tasks.runs("hatchet-operator.dev/workflow=same")
    assert {run["metadata"]["uid"] for run in runs} == {told["first"], *told["created"]}
    assert len(told["created"]) == 1


async def test_a_limit_of_runs_at_a_time(tasks: PublishedCluster) -> None:
    for number in range(3):
        await tasks.create_run(f"limited-{number}", "limited", user="ada")
    for number in range(3):
        await tasks.finished(f"limited-{number}")
    assert (tasks.directory / "turns").read_text().split() == ["begin", "end"] * 3


async def test_a_task_waits_for_the_label_that_it_requires(tasks: PublishedCluster) -> None:
    await tasks.create_run("labelled", "labelled")

    async def is_told() -> bool:
        message = (await tasks.run("labelled"))["status"].get("message", "")
        return 'the label that it requires: "model" Equal "large" (there is: "model" is "small")' in message

    await eventually(is_told)
    await tasks.create_run("relabelling", "relabel", model="large")
    await tasks.finished("relabelling")
    assert output_of(await tasks.finished("labelled"), "labelled")["worker"]


async def test_many_runs_in_one_call(tasks: PublishedCluster) -> None:
    answers = await call(tasks, "many", "Double", json.dumps([{"n": n} for n in range(30)]))
    assert answers == [[{"n": 2 * n, "retry": 0} for n in range(30)]] * 2


async def outputs_of(cluster: PublishedCluster, workflow: str, count: int, step: str) -> list[Any]:
    """Wait until a workflow has so many runs and all have ended; return what they returned."""

    async def are_there() -> bool:
        return len(await cluster.runs(f"hatchet-operator.dev/workflow={workflow}")) == count

    await eventually(are_there)
    runs = await cluster.runs(f"hatchet-operator.dev/workflow={workflow},hatchet-operator.dev/triggered-by=event")
    return [output_of(await cluster.finished(run["metadata"]["uid"]), step) for run in runs]


async def test_events_start_runs_and_filters_say_which(tasks: PublishedCluster) -> None:
    await call(tasks, "push", "shop", '{"amount": 100}')
    got = await outputs_of(tasks, "onevent", 2, "onevent")
    assert got == [{"input": {"amount": 100}, "to": None}] * 2, "of both keys, whatever the scope"
    outputs = await outputs_of(tasks, "filtered", 2, "filtered")
    assert sorted(output["to"] for output in outputs) == ["huge", "large"], "one run for each filter that is true"
    await call(tasks, "push", "", '{"amount": 100}')
    assert len(await outputs_of(tasks, "onevent", 4, "onevent")) == 4
    assert len(await outputs_of(tasks, "filtered", 2, "filtered")) == 2, "none without a scope"


async def test_crons_tick_as_they_were_registered(tasks: PublishedCluster) -> None:
    async def tick() -> bool:
        crons = (await tasks.api.get(WORKFLOWS, NAMESPACE, "oncron"))["status"].get("crons", [])
        return [cron["schedule"] for cron in crons if "nextTick" in cron] == ["30 6 * * MON-FRI", "@daily"]

    await eventually(tick)
    definition = (await tasks.api.get(WORKFLOWS, NAMESPACE, "oncron"))["status"]["definition"]
    assert json.loads(definition["cronInput"]) == {"n": 7}


async def test_a_run_that_is_cancelled_tells_its_task(tasks: PublishedCluster) -> None:
    file = tasks.directory / "endless"
    await tasks.create_run("endless-1", "endless")

    async def began() -> bool:
        return file.exists()

    await eventually(began)
    await tasks.api.patch(RUNS, NAMESPACE, "endless-1", {"spec": {"cancelled": True}})
    assert (await tasks.finished("endless-1"))["status"]["phase"] == "Cancelled"

    async def was_told() -> bool:
        return file.read_text() == "cancelled True"

    await eventually(was_told)


async def test_a_sticky_child_goes_to_the_worker_of_its_parent(tasks: PublishedCluster) -> None:
    other = tasks.start_program(PROGRAM, "worker", name="tasks-2")
    await tasks.until_listening(other, "parents")
    for number in range(3):
        await tasks.create_run(f"parents-{number}", "parents")
    for number in range(3):
        said = output_of(await tasks.finished(f"parents-{number}"), "parents")
        assert said["child"] == [said["own"]] * 2


async def test_a_durable_task_is_refused_by_name(tasks: PublishedCluster) -> None:
    program = tasks.start_program(PROGRAM, "worker", "durable", name="durable")

    async def refused() -> bool:
        return "asks for durable execution" in program.tail()

    await eventually(refused)
    assert 'workflow "Durable": task "durable" asks for durable execution (durable_task)' in program.tail()


async def test_limits_that_a_program_sets_hold_for_tasks(cluster: PublishedCluster) -> None:
    program = cluster.start_program(PROGRAMS / "limited_tasks.py", name="limited")
    await cluster.until_listening(program, "counted", "measured")
    await assert_counted(cluster)
    await assert_measured(cluster)
