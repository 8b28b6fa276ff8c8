"""Runs, their trees and the writes of their statuses: what happens between two awaits and in failures."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS, Resource
from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.registry import RegistrationRequest
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    POOL,
    SECONDS,
    child_trigger,
    connect,
    finish,
    hold_up_writes,
    make_definition,
    make_run,
    next_attempt,
    observed,
    on_status,
    phase_of,
    requests_to,
    running_loop,
    session_of,
    started,
    until,
)
from tests.kube.eventually import eventually
from tests.kube.session import Call


async def test_a_tree_with_a_running_child_outlives_its_roots_ttl_when_the_operator_starts(
    server: ApiServer, api: Api
) -> None:
    root = await api.create(RUNS, NAMESPACE, make_run("a-root"))
    await finish(api, "a-root", at=running_loop().now() - timedelta(days=2))
    child = make_run("b-child", parent={"name": "a-root", "uid": root["metadata"]["uid"], "step": "work", "index": 0})
    owner = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "name": "a-root", "uid": root["metadata"]["uid"]}
    child["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    await api.create(RUNS, NAMESPACE, child)
    async with started(server):
        assert await phase_of(api, "a-root") == "Succeeded"
        await finish(api, "b-child", at=running_loop().now())

        async def gone() -> bool:
            return not (await api.list_all(RUNS, NAMESPACE))[0]

        await eventually(gone, within_seconds=SECONDS)


async def test_a_chain_of_thousands_of_runs_is_deleted_as_a_whole(engine: Engine) -> None:
    parent: Json = {}
    for number in range(3000):
        run = make_run(f"run-{number}")
        if parent:
            run["spec"]["parent"] = parent
        run["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(1_000_000 + number)}
        run["status"] = {"phase": "Succeeded", "finishedAt": running_loop().now().isoformat()}
        engine.observer.observe("ADDED", run)
        parent = {"name": run["metadata"]["name"], "uid": run["metadata"]["uid"], "step": "work", "index": 0}
    root = make_run("run-0")
    root["metadata"] |= {"uid": "uid-0", "resourceVersion": "2000000"}
    root["status"] = {"phase": "Succeeded", "finishedAt": (running_loop().now() - timedelta(days=2)).isoformat()}
    deleted: list[str] = []

    async def be_told(delete: Call, resource: Resource, namespace: str, name: str, **_: Any) -> None:
        deleted.append(name)

    session_of(engine).detours["delete"] = be_told
    engine.observer.observe("MODIFIED", root)
    await until(lambda: deleted == ["run-0"])


async def test_no_descendant_that_waits_is_given_out_while_its_tree_is_collected(engine: Engine, api: Api) -> None:
    worker, stream = await connect(engine, "etl", slots=2)
    root = await api.create(RUNS, NAMESPACE, make_run("run"))
    in_root = await next_attempt(stream)
    middle = await engine.spawning.trigger(child_trigger(in_root, "run", workflow="etl", key="middle"))
    in_middle = await next_attempt(stream)
    for number in range(3):
        for attempt, name in ((in_root, "run"), (in_middle, middle)):
            await engine.spawning.trigger(child_trigger(attempt, name, workflow="etl", key=str(number)))
    await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 6)
    engine.observer.observe("DELETED", root)
    assert list(worker.assigned) == [in_middle]
    engine.observer.observe("DELETED", await api.get(RUNS, NAMESPACE, middle))
    assert not worker.assigned
    assert not engine.runs.attempts.queue.depth()


async def test_a_child_that_is_seen_after_its_parents_deletion_is_not_given_out(engine: Engine, api: Api) -> None:
    worker, stream = await connect(engine, "etl")
    root = await api.create(RUNS, NAMESPACE, make_run("run"))
    name = await engine.spawning.trigger(child_trigger(await next_attempt(stream), "run", workflow="etl"))
    child = await api.get(RUNS, NAMESPACE, name)
    late = child | {"metadata": {**child["metadata"], "uid": "late", "name": "late", "resourceVersion": "1000"}}
    for kind, obj in (("DELETED", child), ("DELETED", root), ("ADDED", late)):
        engine.observer.observe(kind, obj)
    assert engine.store.by_uid("late") is not None
    await asyncio.sleep(0)  # the queue takes its turn
    assert not worker.assigned
    late["metadata"] |= {"ownerReferences": [], "resourceVersion": "1001"}  # somebody keeps it
    engine.observer.observe("MODIFIED", late)
    await until(lambda: len(worker.assigned) == 1)


async def test_a_run_that_is_to_be_executed_again_outlives_the_end_of_its_ttl(engine: Engine, api: Api) -> None:
    async def execute_again_and_delete(delete: Call, resource: Any, namespace: Any, name: str, **options: Any) -> None:
        patch = {"spec": {"reruns": 1}}
        await api.patch(RUNS, NAMESPACE, name, patch)  # while the decision to delete it is on its way
        try:
            await delete(resource, namespace, name, **options)
        finally:
            answered.set()

    answered = asyncio.Event()
    session_of(engine).detours["delete"] = execute_again_and_delete
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await finish(api, "run", at=running_loop().now() - timedelta(days=2))
    await answered.wait()
    assert (await api.get(RUNS, NAMESPACE, "run"))["spec"]["reruns"] == 1


async def test_a_shorter_ttl_of_a_workflow_counts_for_runs_that_have_finished(engine: Engine, api: Api) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await finish(api, "run", at=running_loop().now())
    record = await observed(engine, "run")
    await until(lambda: record.is_final)
    workflow = await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"ttl": "100ms"}})
    engine.workflows.observe("MODIFIED", workflow)
    async with asyncio.timeout(SECONDS):
        await record.until_gone()


async def test_a_finished_run_is_kept_small_and_found_whole(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    for execution in range(2):
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload=f'{{"n": {execution}}}')
        record = await observed(engine, "run")
        await until(lambda record=record: record.whole is None)  # type: ignore[misc]  # a default is the loop's value
        results = engine.results.open(MAIN)
        results.add("run")
        async with asyncio.timeout(SECONDS):
            (result,) = await anext(results.results())
        assert [step.output for step in result.steps] == [f'{{"n": {execution}}}']
        await api.patch(RUNS, NAMESPACE, "run", {"spec": {"reruns": execution + 1}})


async def test_a_normal_fan_out_reads_no_child(server: ApiServer, engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl", slots=30)
    await api.create(RUNS, NAMESPACE, make_run("parent"))
    parent = await next_attempt(stream)
    names: list[str] = []
    for number in range(20):
        trigger = child_trigger(parent, "parent", workflow="etl", key=str(number))
        names.append(await engine.spawning.trigger(trigger))
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload=f'{{"n": {number}}}')
    # a parent that spawns all before it asks for the first, and takes longer than objects are kept for others
    await asyncio.sleep(2.5)
    results = engine.results.open(MAIN)
    for number, name in enumerate(names):
        results.add(name)
        async with asyncio.timeout(SECONDS):
            (result,) = await anext(results.results())
        assert [step.output for step in result.steps] == [f'{{"n": {number}}}']
    assert requests_to(server, "get", "workflowruns") == 0


async def test_a_right_that_is_missing_for_a_while_fails_no_run(server: ApiServer, api: Api) -> None:
    on_status(server, action="status", code=403, times=3)
    async with started(server) as engine:
        _, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"


async def test_conflicts_without_end_are_met_with_patience(server: ApiServer, engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    on_status(server, action="status", code=409, times=0)
    reporting = asyncio.create_task(engine.report(MAIN, attempt, Outcome.COMPLETED))
    await until(lambda: requests_to(server, "update", "workflowruns/status") >= 2)  # it is tried again
    await asyncio.sleep(1)  # what is tested is how much happens in this time
    assert requests_to(server, "update", "workflowruns/status") < 15
    server.faults.clear()
    async with asyncio.timeout(SECONDS):
        await reporting
    assert await phase_of(api, "run") == "Succeeded"


async def test_a_status_of_which_the_server_keeps_nothing_is_not_written_for_ever(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    async def replace_and_keep_nothing(
        replace: Call, resource: Any, namespace: Any, name: str, body: Json, **_: Any
    ) -> Json:
        writes.append(body)
        return await session.get(resource, namespace, name)

    writes: list[Json] = []
    session = session_of(engine)
    session.detours["replace"] = replace_and_keep_nothing
    await api.create(RUNS, NAMESPACE, make_run("run"))
    record = await observed(engine, "run")
    await until(lambda: record.refused)
    assert len(writes) == 1


async def test_parallel_steps_whose_outputs_are_too_large_together_fail_one_by_one(engine: Engine, api: Api) -> None:
    names = [f"step-{number}" for number in range(6)]
    steps = tuple(StepDefinition(name=name, action=f"etl:{name}", timeout=timedelta(minutes=1)) for name in names)
    definition = WorkflowDefinition(name="etl", steps=steps, schedule_timeout=timedelta(minutes=5))
    await engine.workflows.register(NAMESPACE, POOL, definition)
    request = RegistrationRequest(name="worker", actions=tuple(step.action for step in steps))
    _, stream = engine.registry.listen(MAIN, (await engine.registry.register(MAIN, request)).id, [])
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempts = [await next_attempt(stream) for _ in steps]
    output = '{"text": "' + "x" * 250_000 + '"}'
    await asyncio.gather(*(engine.report(MAIN, attempt, Outcome.COMPLETED, payload=output) for attempt in attempts))
    status = (await api.get(RUNS, NAMESPACE, "run"))["status"]
    phases = sorted(step["phase"] for step in status["steps"].values())
    assert phases == ["Failed", "Failed", "Succeeded", "Succeeded", "Succeeded", "Succeeded"]
    assert "has room for" in status["message"]


async def test_a_run_that_only_its_creator_saw_is_forgotten_after_a_relist(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    hold_up_writes(engine)  # one of its status would find out, too
    run = await api.create(RUNS, NAMESPACE, make_run("run"))
    await api.delete(RUNS, NAMESPACE, "run")
    await until(lambda: engine.store.was_deleted(run["metadata"]["uid"]))
    ghost = run | {"metadata": {**run["metadata"], "uid": "created-and-deleted-while-the-watch-was-away"}}
    engine.observer.observe("ADDED", ghost)
    record = await observed(engine, "run")
    match = {"verb": ["watch"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "gone"}])
    async with asyncio.timeout(SECONDS):
        await record.until_gone()


async def test_a_late_answer_about_an_earlier_run_of_that_name_changes_nothing(engine: Engine, api: Api) -> None:
    earlier = await api.create(RUNS, NAMESPACE, make_run("run"))
    earlier["metadata"]["uid"] = "an-object-that-was-never-observed"
    await api.delete(RUNS, NAMESPACE, "run")
    later = await api.create(RUNS, NAMESPACE, make_run("run"))
    await until(lambda: engine.store.by_uid(later["metadata"]["uid"]) is not None)
    engine.observer.observe("MODIFIED", earlier)
    assert engine.store.by_uid(later["metadata"]["uid"]) is not None


async def test_a_run_that_can_not_be_reconciled_acknowledges_nothing(
    engine: Engine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("hatchet_operator.engine.runs.reconciler.plan_run", broken)
        reporting = asyncio.create_task(engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}"))
        await until(lambda: any(record.refused for record in engine.store))
    assert not reporting.done()
    await api.patch(RUNS, NAMESPACE, "run", {"metadata": {"labels": {"somebody": "changed-it"}}})
    async with asyncio.timeout(SECONDS):
        await reporting


async def test_a_status_is_written_over_what_it_was_decided_for_only(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta(hours=1)) as engine:  # nothing else is written
        _, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        record = engine.store.get(ObjectRef(NAMESPACE, "run"))
        assert record is not None
        run = await api.get(RUNS, NAMESPACE, "run")
        done = {"phase": "Succeeded", "reruns": 0, "steps": {"work": {"phase": "Succeeded", "output": "{}"}}}
        watch = {"verb": ["watch"], "resource": ["workflowruns"]}
        server.faults.install([{"match": watch, "action": "silent", "times": 0}])  # it is slower than what follows
        theirs = await api.replace(RUNS, NAMESPACE, "run", {**run, "status": done}, subresource="status")
        failed = Report(
            attempt_id=attempt, outcome=Outcome.FAILED, at=running_loop().now(), error="late", may_retry=False
        )
        may_write = hold_up_writes(engine)
        engine.runs.report(attempt, failed)
        await until(lambda: record.writing)
        engine.observer.observe("MODIFIED", theirs)  # after the decision, before the request
        may_write.set()
        await until(lambda: not record.writing)
        assert await phase_of(api, "run") == "Succeeded"
