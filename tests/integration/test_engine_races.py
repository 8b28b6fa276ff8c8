"""The engine against the embedded API server, without gRPC: what happens between two awaits and in failures."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hatchet_operator.apiserver import ApiServer
from hatchet_operator.cluster.api import Api, Endpoint, Json, always
from hatchet_operator.cluster.kinds import PODS, POOLS, REVISIONS, RUNS, SECRETS, WORKFLOWS, Resource
from hatchet_operator.decisions.observed import ObservedRun, Outcome, Report, RunPlan
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.dispatcher.translation import registration_request
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.records import RunRecord
from hatchet_operator.engine.registry import Held, RegistrationRequest
from hatchet_operator.engine.rejoin import HandedOver, read_handed_over, write_handed_over
from hatchet_operator.engine.spawning import ParentAttempt, Trigger
from hatchet_operator.engine.workers import CancelCommand, StartCommand, Worker, WorkerStream
from hatchet_operator.errors import InvalidRequest, NotPermitted, NotReady, Refused, UnknownObject
from hatchet_operator.identity import Caller
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import RunStatus, WorkflowRun
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition
from hatchet_operator.settings import Settings
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.service_accounts import create_pod
from tests.kube.eventually import eventually

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "default"
POOL = "main"
MAIN = Caller(namespace=NAMESPACE, pool=POOL)
STRANGER = Caller(namespace=NAMESPACE, pool="other")
SECONDS = 10.0


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    server.load_definitions(CRDS)
    await server.start()
    yield server
    missed = server.faults.missed()
    await server.stop()
    assert not missed, f"faults that never fired, so that nothing was tested with them: {missed}"


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[Api]:
    """For what people and other controllers do."""
    async with Api(Endpoint(server=url_of(server)), user_agent="test", may_write=always) as api:
        yield api


def url_of(server: ApiServer) -> str:
    assert server._runner is not None
    host, port = server._runner.addresses[0][:2]
    return f"http://{host}:{port}"


def requests_to(server: ApiServer, verb: str, path: str) -> int:
    """Count the operator's requests to a resource, as in "workflowruns" or "workflowruns/status"."""
    resource, _, subresource = path.partition("/")
    want = (verb, resource, subresource, "hatchet-operator")
    return sum(
        count
        for (done, _, plural, below, _, agent), count in server.requests.items()
        if (done, plural, below, agent) == want
    )


@asynccontextmanager
async def started(
    server: ApiServer, *, token_key: str = "k" * 64, handed_over: HandedOver | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    """Run an engine that has read everything and lets workers in."""
    async with Api(Endpoint(server=url_of(server)), may_write=always) as api:
        engine = Engine(api, Settings(**settings), token_key=token_key, is_leading=always, on_absence=lambda: None)
        try:
            await engine.start()
            engine.admit_workers("127.0.0.1:1", handed_over)
            yield engine
        finally:
            await engine.stop()


@pytest.fixture
async def engine(server: ApiServer) -> AsyncIterator[Engine]:
    async with started(server) as engine:
        yield engine


async def connect(
    engine: Engine, *workflows: str, pool: str = POOL, namespace: str = NAMESPACE, **changes: Any
) -> tuple[Worker, WorkerStream]:
    """Register workflows of one step "work" each and a worker for them, and listen."""
    for name in workflows:
        await engine.workflows.register(namespace, pool, make_definition(name))
    caller = Caller(namespace=namespace, pool=pool)
    request = RegistrationRequest(name="worker", actions=tuple(f"{name}:work" for name in workflows), **changes)
    worker = await engine.registry.register(caller, request)
    return engine.registry.listen(caller, worker.id, [])


def make_definition(name: str) -> WorkflowDefinition:
    step = StepDefinition(name="work", action=f"{name}:work", timeout=timedelta(minutes=1))
    return WorkflowDefinition(name=name, steps=(step,), schedule_timeout=timedelta(minutes=5))


async def next_attempt(stream: WorkerStream) -> str:
    async with asyncio.timeout(SECONDS):
        async for command in stream.commands():
            if isinstance(command, StartCommand):
                command.attempt.sent = True
                return command.attempt.id
    raise AssertionError("the stream ended")


def make_run(name: str, workflow: str = "etl", **spec: Any) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"workflow": workflow, **spec},
    }


async def finish(api: Api, name: str, *, at: datetime) -> Json:
    """Write a run's status as an operator does that finished it, whatever another one wrote meanwhile."""
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    status = {"phase": "Succeeded", "reason": "Completed", "finishedAt": moment, "reruns": 0}
    return await api.patch(RUNS, NAMESPACE, name, {"status": status}, subresource="status")


def child_trigger(
    attempt: str, parent: str, *, workflow: str = "child", key: str = "a", caller: Caller | None = None
) -> Trigger:
    child = ParentAttempt(attempt_id=attempt, run=parent, key=key, index=0)
    return Trigger(caller=caller or MAIN, workflow=workflow, input_json="{}", parent=child)


async def until(holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await eventually(check, within_seconds=SECONDS)


async def observed(engine: Engine, name: str) -> RunRecord:
    """Wait until the engine knows a run."""
    ref = ObjectRef(NAMESPACE, name)
    await until(lambda: engine.store.get(ref) is not None)
    record = engine.store.get(ref)
    assert record is not None
    return record


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def phase_of(api: Api, name: str) -> str:
    run = await api.get(RUNS, NAMESPACE, name)
    return str(run.get("status", {}).get("phase", "Pending"))


async def until_phase(api: Api, name: str, phase: str) -> None:
    async def holds() -> bool:
        return await phase_of(api, name) == phase

    await eventually(holds, within_seconds=SECONDS)


# --- Starts


async def test_a_tree_with_a_running_child_outlives_its_roots_ttl_when_the_operator_starts(
    server: ApiServer, api: Api
) -> None:
    root = await api.create(RUNS, NAMESPACE, make_run("a-root"))
    await finish(api, "a-root", at=datetime.now(UTC) - timedelta(days=2))
    child = make_run("b-child", parent={"name": "a-root", "uid": root["metadata"]["uid"], "step": "work", "index": 0})
    owner = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "name": "a-root", "uid": root["metadata"]["uid"]}
    child["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    await api.create(RUNS, NAMESPACE, child)
    async with started(server) as engine:
        await asyncio.gather(*engine.runs._tasks)
        assert await phase_of(api, "a-root") == "Succeeded"
        await finish(api, "b-child", at=datetime.now(UTC))

        async def gone() -> bool:
            return not (await api.list_all(RUNS, NAMESPACE))[0]

        await eventually(gone, within_seconds=SECONDS)


async def test_a_workflow_registered_during_a_resync_stays_known(server: ApiServer, engine: Engine) -> None:
    async def list_and_then_register(*arguments: Any, **options: Any) -> tuple[list[Json], str]:
        answer = await list_all(*arguments, **options)
        if arguments[0] is WORKFLOWS:
            await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        return answer

    list_all = engine._api.list_all
    engine._api.list_all = list_and_then_register  # type: ignore[method-assign]  # what happens while the answer travels
    await engine.resync()
    assert ObjectRef(NAMESPACE, "etl") in engine.workflows


async def test_a_worker_that_does_not_come_back_costs_a_write_for_what_was_with_it_only(
    server: ApiServer, api: Api
) -> None:
    async with started(server, running_after=timedelta()) as engine:
        _, stream = await connect(engine, "etl", slots=1)
        await api.create(RUNS, NAMESPACE, make_run("out"))
        await next_attempt(stream)
        await until_phase(api, "out", "Running")
        for number in range(3):
            await api.create(RUNS, NAMESPACE, make_run(f"waits-{number}"))
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 3)
    before = requests_to(server, "update", "workflowruns/status")
    untold = timedelta(hours=1)  # why they wait, which would be a write for each
    async with started(server, rejoin=timedelta(seconds=0.2), waiting_told_after=untold) as engine:
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 4)
    assert requests_to(server, "update", "workflowruns/status") == before + 1
    step = (await api.get(RUNS, NAMESPACE, "out"))["status"]["steps"]["work"]
    assert (step["phase"], step["dispatch"]) == ("Pending", 1)


# --- Trees


async def test_a_chain_of_thousands_of_runs_is_deleted_as_a_whole(engine: Engine) -> None:
    parent: Json = {}
    for number in range(3000):
        run = make_run(f"run-{number}")
        if parent:
            run["spec"]["parent"] = parent
        run["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(1_000_000 + number)}
        run["status"] = {"phase": "Succeeded", "finishedAt": datetime.now(UTC).isoformat()}
        engine.runs.observe("ADDED", run)
        parent = {"name": run["metadata"]["name"], "uid": run["metadata"]["uid"], "step": "work", "index": 0}
    root = engine.store.by_uid("uid-0")
    assert root is not None
    assert engine.runs._tree_is_final(root)


def family(size: int) -> list[Json]:
    """Make a root run and its children, as events bring them."""
    runs = [make_run("root"), *(make_run(f"run-{number}") for number in range(size))]
    for number, run in enumerate(runs):
        run["metadata"] |= {"uid": run["metadata"]["name"], "resourceVersion": str(1_000_000 + number)}
        if number:
            run["spec"]["parent"] = {"name": "root", "uid": "root", "step": "work", "index": number}
    return runs


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(
            lambda engine, root: engine.runs.observe(
                "MODIFIED",
                root
                | {
                    "metadata": {**root["metadata"], "resourceVersion": "2000000"},
                    "spec": {**root["spec"], "cancelled": True},
                },
            ),
            id="a parent is cancelled",
        ),
        pytest.param(
            lambda engine, root: engine._workflow_changed(ObjectRef(NAMESPACE, "etl")),
            id="a workflow changed",
        ),
        pytest.param(lambda engine, root: engine.runs.release_hold(losses_of=lambda record: {}), id="the hold ends"),
    ],
)
async def test_many_runs_are_decided_about_in_portions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, act: Callable[[Engine, Json], None]
) -> None:
    monkeypatch.setattr("hatchet_operator.cluster.turns._TURN_SECONDS", 0.0)
    monkeypatch.setattr(engine.runs._writer, "write", forever)  # none of them is really there
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    engine.runs.loading = True  # so that all of them are of before the start
    root, *children = family(100)
    for run in (root, *children):
        engine.runs.observe("ADDED", run)
    engine.runs.loading = False
    decided: list[str] = []

    def decide(seen: ObservedRun, now: datetime) -> RunPlan:
        decided.append(seen.run.metadata.name)
        return plan_run(seen, now)

    monkeypatch.setattr("hatchet_operator.engine.runs.plan_run", decide)
    act(engine, root)
    assert len(decided) <= 10 + 1
    await until(lambda: {run["metadata"]["name"] for run in children} <= set(decided))


async def forever(*_: object) -> None:
    await asyncio.Event().wait()


async def test_no_descendant_that_waits_is_given_out_while_its_tree_is_collected(engine: Engine, api: Api) -> None:
    worker, stream = await connect(engine, "etl", slots=2)
    root = await api.create(RUNS, NAMESPACE, make_run("run"))
    in_root = await next_attempt(stream)
    middle = await engine.spawning.trigger(child_trigger(in_root, "run", workflow="etl", key="middle"))
    in_middle = await next_attempt(stream)
    for number in range(3):
        for attempt, name in ((in_root, "run"), (in_middle, middle)):
            await engine.spawning.trigger(child_trigger(attempt, name, workflow="etl", key=str(number)))
    assert engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 6
    engine.runs.observe("DELETED", root)
    assert list(worker.out) == [in_middle]
    engine.runs.observe("DELETED", await api.get(RUNS, NAMESPACE, middle))
    assert not worker.out
    assert not engine.runs.attempts.queue.depth()


async def test_a_child_that_is_seen_after_its_parents_deletion_is_not_given_out(engine: Engine, api: Api) -> None:
    worker, stream = await connect(engine, "etl")
    root = await api.create(RUNS, NAMESPACE, make_run("run"))
    name = await engine.spawning.trigger(child_trigger(await next_attempt(stream), "run", workflow="etl"))
    child = await api.get(RUNS, NAMESPACE, name)
    late = child | {"metadata": {**child["metadata"], "uid": "late", "name": "late", "resourceVersion": "1000"}}
    for kind, obj in (("DELETED", child), ("DELETED", root), ("ADDED", late)):
        engine.runs.observe(kind, obj)
    assert engine.store.by_uid("late") is not None
    assert not worker.out
    late["metadata"] |= {"ownerReferences": [], "resourceVersion": "1001"}  # somebody keeps it
    engine.runs.observe("MODIFIED", late)
    assert len(worker.out) == 1


async def test_a_run_that_is_to_be_executed_again_outlives_the_end_of_its_ttl(
    server: ApiServer, engine: Engine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def execute_again_and_delete(resource: Any, namespace: Any, name: str, **options: Any) -> None:
        patch = {"spec": {"reruns": 1}}
        await api.patch(RUNS, NAMESPACE, name, patch)  # while the decision to delete it is on its way
        await delete(resource, namespace, name, **options)

    delete = engine._api.delete
    monkeypatch.setattr(engine._api, "delete", execute_again_and_delete)
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await finish(api, "run", at=datetime.now(UTC) - timedelta(days=2))
    await until(lambda: requests_to(server, "delete", "workflowruns") >= 1)
    await asyncio.gather(*engine.runs._expiry._tasks)
    assert (await api.get(RUNS, NAMESPACE, "run"))["spec"]["reruns"] == 1


async def test_a_shorter_ttl_of_a_workflow_counts_for_runs_that_have_finished(engine: Engine, api: Api) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await finish(api, "run", at=datetime.now(UTC))
    record = await observed(engine, "run")
    await until(lambda: record.is_final)
    workflow = await api.patch(WORKFLOWS, NAMESPACE, "etl", {"spec": {"ttl": "100ms"}})
    engine.workflows.observe("MODIFIED", workflow)
    async with asyncio.timeout(SECONDS):
        await record.until_gone()


async def test_a_finished_run_is_kept_small_and_found_whole(
    engine: Engine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatchet_operator.engine.runs._WHOLE_SECONDS", 0.0)
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    for execution in range(2):
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED, payload=f'{{"n": {execution}}}')
        record = await observed(engine, "run")
        await until(lambda record=record: record.whole is None)  # type: ignore[misc]  # a default is the loop's value
        results = engine.results.open(MAIN)
        results.add("run")
        async with asyncio.timeout(SECONDS):
            result = await anext(results.results())
        assert [step.output for step in result.steps] == [f'{{"n": {execution}}}']
        await api.patch(RUNS, NAMESPACE, "run", {"spec": {"reruns": execution + 1}})


# --- What clients may not do


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="none at all"),
        pytest.param("../../../../../api/v1/namespaces/default/secrets/keys", id="a path that leads elsewhere"),
        pytest.param("run/status", id="a path that leads below"),
        pytest.param("run?watch=true", id="a query"),
        pytest.param("nobody", id="of a run that is not there"),
    ],
)
async def test_whoever_awaits_what_can_not_be_found_is_told_so(server: ApiServer, engine: Engine, name: str) -> None:
    await until(lambda: all(requests_to(server, "watch", kind) for kind in ("workflowruns", "pods")))
    before = server.requests.total()
    stream = engine.results.open(MAIN)
    stream.add(name)
    async with asyncio.timeout(SECONDS):
        result = await anext(stream.results())
    assert (result.run, result.phase) == (name, "Deleted")
    assert server.requests.total() - before == (1 if name == "nobody" else 0)


async def test_a_worker_id_of_another_pool_is_nobodys(engine: Engine) -> None:
    theirs, stream = await connect(engine, "etl")
    mine, _ = await connect(engine, "other", pool="other", worker_id=theirs.id)
    assert mine.id != theirs.id
    assert theirs.stream is stream
    with pytest.raises(UnknownObject):
        engine.registry.listen(STRANGER, theirs.id, [])
    with pytest.raises(UnknownObject):
        engine.registry.drain(STRANGER, theirs.id)


async def test_a_worker_whose_name_fits_in_no_status_is_refused() -> None:
    request = wire.WorkerRegisterRequest(worker_name="w" * 254, actions=["etl:work"])
    with pytest.raises(InvalidRequest, match="254 characters"):
        registration_request(request)


async def test_a_worker_id_is_kept_when_its_worker_registers_again(engine: Engine, api: Api) -> None:
    worker, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    again, _ = await connect(engine, "etl", worker_id=worker.id)
    assert (again.id, list(again.out), again.occupied) == (worker.id, [attempt], 1)


async def test_only_the_pool_that_has_an_attempt_may_speak_of_it(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl")
    await connect(engine, "child", pool="other")
    run = await api.create(RUNS, NAMESPACE, make_run("run"))
    mine = await api.create(RUNS, NAMESPACE, make_run("mine", "child"))
    attempt = await next_attempt(stream)
    with pytest.raises(NotPermitted):
        await engine.spawning.trigger(child_trigger(attempt, "run", caller=STRANGER))
    for uid in (None, run["metadata"]["uid"], mine["metadata"]["uid"]):
        with pytest.raises(NotPermitted):
            await engine.report(STRANGER, attempt, Outcome.COMPLETED, run_uid=uid)
    with pytest.raises(NotPermitted):
        engine.release_slot(STRANGER, attempt)
    with pytest.raises(NotPermitted):
        engine.refresh_timeout(STRANGER, attempt, timedelta(hours=1))
    assert engine.runs.attempts[attempt].occupies_slot
    await engine.spawning.trigger(child_trigger(attempt, "run"))
    await engine.report(MAIN, attempt, Outcome.COMPLETED)
    assert await phase_of(api, "run") == "Succeeded"


async def test_a_worker_gets_no_attempt_of_another_pool_by_claiming_to_hold_it(server: ApiServer, api: Api) -> None:
    async with started(server) as engine:
        await connect(engine, "etl")
        await connect(engine, "child", pool="other")
        run = await api.create(RUNS, NAMESPACE, make_run("run", "etl"))
        await until(lambda: bool(engine.runs.attempts))
        (attempt,) = engine.runs.attempts
        uid = run["metadata"]["uid"]
    async with started(server) as engine:  # the new operator does not know yet who has it
        request = RegistrationRequest(name="thief", actions=("etl:work",))
        worker = await engine.registry.register(STRANGER, request)
        held = Held(run="run", attempt_id=attempt, step="work", started_at=datetime.now(UTC))
        _, stream = engine.registry.listen(STRANGER, worker.id, [held])
        assert not worker.out
        command = await anext(stream.commands())
        assert isinstance(command, CancelCommand)
        assert not engine.may_report(STRANGER, attempt, uid)
        await engine.report(STRANGER, attempt, Outcome.COMPLETED, run_uid=uid)
        assert await phase_of(api, "run") != "Succeeded"


async def test_a_pod_speaks_of_attempts_from_before_a_restart_once_it_listens(server: ApiServer, api: Api) -> None:
    pods = [await create_pod(api, name, pool=POOL) for name in ("a", "b")]
    of_a, of_b = map(caller_of, pods)
    request = RegistrationRequest(name="worker", actions=("etl:work", "child:work"))
    async with started(server) as engine:
        for name in ("etl", "child"):
            await engine.workflows.register(NAMESPACE, POOL, make_definition(name))
        worker = await engine.registry.register(of_a, request)
        _, stream = engine.registry.listen(of_a, worker.id, [])
        run = await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
    uid = run["metadata"]["uid"]
    async with started(server) as engine:
        for caller in (of_a, of_b):
            with pytest.raises(NotReady):
                await engine.report(caller, attempt, Outcome.COMPLETED, run_uid=uid)
            with pytest.raises(NotReady):
                await engine.spawning.trigger(child_trigger(attempt, "run", caller=caller))
        held = Held(run="run", attempt_id=attempt, step="work", started_at=datetime.now(UTC))
        engine.registry.listen(of_a, worker.id, [held])
        with pytest.raises(NotPermitted):
            await engine.report(of_b, attempt, Outcome.COMPLETED, run_uid=uid)
        with pytest.raises(NotPermitted):
            await engine.spawning.trigger(child_trigger(attempt, "run", caller=of_b))
        await engine.spawning.trigger(child_trigger(attempt, "run", caller=of_a))
        await engine.report(of_a, attempt, Outcome.COMPLETED, run_uid=uid)
        assert await phase_of(api, "run") == "Succeeded"


def caller_of(pod: Json) -> Caller:
    return Caller(namespace=NAMESPACE, pool=POOL, pod_name=pod["metadata"]["name"], pod_uid=pod["metadata"]["uid"])


async def test_what_a_pod_had_that_died_while_no_operator_was_there_goes_out_at_once(
    server: ApiServer, api: Api
) -> None:
    pod = await create_pod(api, "drained", pool=POOL)
    request = RegistrationRequest(name="worker", actions=("etl:work",))
    async with started(server, running_after=timedelta()) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        worker = await engine.registry.register(caller_of(pod), request)
        _, stream = engine.registry.listen(caller_of(pod), worker.id, [])
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await next_attempt(stream)
        await until_phase(api, "run", "Running")
    await api.delete(PODS, NAMESPACE, "drained", grace_seconds=0)
    async with started(server) as engine:
        _, stream = await connect(engine, "etl")
        attempt = await next_attempt(stream)
        await engine.report(MAIN, attempt, Outcome.COMPLETED)
        run = await api.get(RUNS, NAMESPACE, "run")
        assert (run["status"]["phase"], run["status"]["steps"]["work"].get("losses", 0)) == ("Succeeded", 0)


HIDDEN: Json = {
    "rejoin": timedelta(seconds=0.2),
    "worker_silent": timedelta(seconds=0.5),
    "running_after": timedelta(),
}


async def connect_for_good(engine: Engine) -> tuple[Worker, WorkerStream]:
    """Connect a worker that is never silent, however slowly this process runs."""
    worker, stream = await connect(engine, "etl")
    assert worker.silence is not None
    worker.silence.cancel()
    return worker, stream


async def runs_on(api: Api, pod: str, *, since: str = "2020-01-01T00:00:00Z", ready: str = "True") -> None:
    """Write what a kubelet writes of a pod whose container runs."""
    state = {"running": {"startedAt": since}}
    container = {"name": "worker", "state": state, "ready": True, "restartCount": 0, "image": "etl:1", "imageID": ""}
    conditions = [{"type": "Ready", "status": ready}]
    status = {"phase": "Running", "containerStatuses": [container], "conditions": conditions}
    await api.patch(PODS, NAMESPACE, pod, {"status": status}, subresource="status")


async def leave_a_step_with_a_pod(server: ApiServer, api: Api, name: str = "hidden") -> tuple[Worker, str]:
    """Have an operator give a step to a worker in a pod, and go away; return the worker and the attempt."""
    pod = await create_pod(api, name, pool=POOL)
    async with started(server, running_after=timedelta()) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        request = RegistrationRequest(name="worker", actions=("etl:work",))
        worker = await engine.registry.register(caller_of(pod), request)
        _, stream = engine.registry.listen(caller_of(pod), worker.id, [])
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        await until_phase(api, "run", "Running")
        return worker, attempt


async def test_what_a_pod_has_that_runs_on_is_held_longer(server: ApiServer, api: Api) -> None:
    hidden, attempt = await leave_a_step_with_a_pod(server, api)
    await runs_on(api, "hidden")
    async with started(server, rejoin_running=timedelta(seconds=30), **HIDDEN) as engine:
        other, stream = await connect_for_good(engine)
        await api.create(RUNS, NAMESPACE, make_run("new"))
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED)
        await asyncio.sleep(1)  # in which it would be taken for dead, if its pod did not run on
        assert engine.registry.rejoin.is_waiting
        assert not other.out
        caller = Caller(namespace=NAMESPACE, pool=POOL, pod_name="hidden", pod_uid=hidden.pod_uid)
        held = Held(run="run", attempt_id=attempt, step="work", started_at=datetime.now(UTC))
        engine.registry.listen(caller, hidden.id, [held])
        await until(lambda: not engine.runs.holding)
        await engine.report(caller, attempt, Outcome.COMPLETED)
        run = await api.get(RUNS, NAMESPACE, "run")
        assert (run["status"]["phase"], run["status"]["steps"]["work"].get("losses", 0)) == ("Succeeded", 0)
        assert not other.out
        assert not other.dead


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"since": "2999-01-01T00:00:00Z"}, id="its container was started again"),
        pytest.param({"ready": "False"}, id="its node is not heard of"),
    ],
)
async def test_what_a_pod_has_that_does_not_run_on_is_not(server: ApiServer, api: Api, state: Json) -> None:
    _, before = await leave_a_step_with_a_pod(server, api)
    await runs_on(api, "hidden", **state)
    async with started(server, rejoin_running=timedelta(seconds=30), **HIDDEN) as engine:
        _, stream = await connect_for_good(engine)
        attempt = await next_attempt(stream)
        assert attempt != before, "the worker may have it all the same"
        await engine.report(MAIN, attempt, Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"


async def test_a_pod_that_runs_on_and_never_comes_back_is_given_up(server: ApiServer, api: Api) -> None:
    _, before = await leave_a_step_with_a_pod(server, api)
    await runs_on(api, "hidden")
    async with started(server, rejoin_running=timedelta(seconds=1), **HIDDEN) as engine:
        _, stream = await connect_for_good(engine)
        assert await next_attempt(stream) != before


NOWHERE = "gone.example:7070"


async def test_a_pod_that_can_not_come_is_ended_before_its_step_goes_to_another(server: ApiServer, api: Api) -> None:
    body = make_pod_of_a_pool("stranded", address=NOWHERE)
    pod = await api.create(PODS, NAMESPACE, body)
    async with started(server, running_after=timedelta()) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        worker = await engine.registry.register(caller_of(pod), RegistrationRequest(name="w", actions=("etl:work",)))
        _, stream = engine.registry.listen(caller_of(pod), worker.id, [])
        await api.create(RUNS, NAMESPACE, make_run("run"))
        before = await next_attempt(stream)
        await until_phase(api, "run", "Running")
    await runs_on(api, "stranded")
    await api.patch(PODS, NAMESPACE, "stranded", {"metadata": {"finalizers": ["tests/kubelet"]}})
    soon: Json = {"rejoin": timedelta(seconds=0.5), "waiting_told_after": timedelta(seconds=0.2)}
    async with started(server, **soon) as engine:
        other, stream = await connect(engine, "etl")

        async def is_ending() -> bool:
            return "deletionTimestamp" in (await api.get(PODS, NAMESPACE, "stranded"))["metadata"]

        await eventually(is_ending, within_seconds=SECONDS)
        assert not other.out, "its step runs twice"
        message = (await api.get(RUNS, NAMESPACE, "run"))["status"]["message"]
        assert message.startswith('waits up to 500ms for worker "stranded"')
        await api.patch(PODS, NAMESPACE, "stranded", {"metadata": {"finalizers": None}})
        after = await next_attempt(stream)
        assert after != before
        step = (await api.get(RUNS, NAMESPACE, "run"))["status"]["steps"]["work"]
        assert (step["reason"], step.get("losses", 0)) == ("WorkerLost", 0)
        assert f"the address that it was given, {NOWHERE}, leads to the operator no more" in step["error"]


def make_pod_of_a_pool(name: str, *, address: str) -> Json:
    env = [{"name": "HATCHET_CLIENT_HOST_PORT", "value": address}]
    return {
        "metadata": {"name": name, "labels": {labels.POOL: POOL, labels.MANAGED_BY: labels.MANAGER}},
        "spec": {"containers": [{"name": "worker", "image": "etl:1", "env": env}]},
    }


async def test_what_the_last_leader_gave_to_nobody_goes_out_at_once(server: ApiServer, api: Api) -> None:
    """It said so when it ended, so a worker that is missing holds up nothing but what it has."""
    pods = [await create_pod(api, name, pool=POOL) for name in ("away", "here")]
    request = RegistrationRequest(name="worker", actions=("etl:work",), slots=1)
    async with started(server) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        away, here = [await engine.registry.register(caller_of(pod), request) for pod in pods]
        _, stream = engine.registry.listen(caller_of(pods[0]), away.id, [])
        await api.create(RUNS, NAMESPACE, make_run("out"))
        await next_attempt(stream)  # a moment ago: that is not written down
        await api.create(RUNS, NAMESPACE, make_run("waits"))
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 1)
        given = read_handed_over(write_handed_over(engine.registry.given_out()))
    async with started(server, handed_over=given, rejoin=timedelta(minutes=1)) as engine:
        _, stream = engine.registry.listen(caller_of(pods[1]), here.id, [])
        attempt = await next_attempt(stream)
        assert engine.runs.attempts[attempt].ref.name == "waits"
        await engine.report(caller_of(pods[1]), attempt, Outcome.COMPLETED)
        assert not here.out, "what the other one has runs twice"
        await api.delete(PODS, NAMESPACE, "away", grace_seconds=0)
        assert engine.runs.attempts[await next_attempt(stream)].ref.name == "out"
        step = (await api.get(RUNS, NAMESPACE, "out"))["status"]["steps"]["work"]
        assert (step["reason"], step["losses"]) == ("WorkerLost", 0), "a Pod that is deleted is told, and no crash"


async def test_a_worker_that_does_not_come_back_holds_up_its_own_pool_only(server: ApiServer, api: Api) -> None:
    side = Caller(namespace=NAMESPACE, pool="side")
    async with started(server) as engine:
        slow, _ = await connect(engine, "slow", pool=side.pool)
        worker, _ = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("new"))
    await api.create(RUNS, NAMESPACE, make_run("held", "slow"))
    async with started(server, rejoin=timedelta(seconds=10 * SECONDS)) as engine:
        _, stream = engine.registry.listen(MAIN, worker.id, [])
        assert engine.runs.attempts[await next_attempt(stream)].ref.name == "new"
        assert engine.runs.holding
        assert len(engine.runs.attempts) == 1
        _, stream = engine.registry.listen(side, slow.id, [])
        assert engine.runs.attempts[await next_attempt(stream)].ref.name == "held"
        assert not engine.runs.holding


async def test_a_pod_that_reports_what_is_in_the_queue_is_to_repeat_it(engine: Engine, api: Api) -> None:
    """It may have it from another operator, that did not know yet that it leads no more."""
    caller = caller_of(await create_pod(api, "pod", pool=POOL))
    stranger = replace(caller_of(await create_pod(api, "other", pool="side")), pool="side")
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await until(lambda: bool(engine.runs.attempts))
    (attempt,) = engine.runs.attempts
    with pytest.raises(NotReady, match='step "work" of run "run" is queued; repeat the call'):
        await engine.report(caller, attempt, Outcome.COMPLETED)
    with pytest.raises(NotPermitted):
        await engine.report(stranger, attempt, Outcome.COMPLETED)
    worker = await engine.registry.register(caller, RegistrationRequest(name="worker", actions=("etl:work",)))
    _, stream = engine.registry.listen(caller, worker.id, [])
    assert await next_attempt(stream) == attempt
    await engine.report(caller, attempt, Outcome.COMPLETED)
    assert await phase_of(api, "run") == "Succeeded"


async def test_a_step_of_a_worker_that_does_not_say_what_it_holds_is_waited_for(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta()) as engine:
        worker, stream = await connect(engine, "etl")
        run = await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        await until_phase(api, "run", "Running")
    async with started(server, rejoin=timedelta(seconds=1)) as engine:
        worker, _ = engine.registry.listen(MAIN, worker.id, None)
        assert engine.runs.holding
        await engine.report(MAIN, attempt, Outcome.COMPLETED, run_uid=run["metadata"]["uid"])
        assert await phase_of(api, "run") == "Succeeded"
        assert not worker.out
        await until(lambda: not engine.runs.holding)


async def leave_a_step_with_a_worker(server: ApiServer, api: Api) -> tuple[Worker, Held]:
    """Have a step of a run that runs on when its operator ends, outside of pods."""
    async with started(server, running_after=timedelta()) as engine:
        worker, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        await until_phase(api, "run", "Running")
    return worker, Held(run="run", attempt_id=attempt, step="work", started_at=datetime.now(UTC))


async def test_no_worker_is_taken_for_dead_while_it_can_not_be_heard(server: ApiServer, api: Api) -> None:
    before, held = await leave_a_step_with_a_worker(server, api)
    match = {"verb": ["list"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "delay", "seconds": 1.0}])
    async with started(server, worker_silent=timedelta(seconds=0.4)) as engine:
        worker, _ = engine.registry.listen(MAIN, before.id, [held])
        assert list(worker.out) == [held.attempt_id]
        await until(lambda: worker.dead)  # it is silent indeed


def hold_up_writes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have every status write wait for what is returned."""
    write, may_write = engine.runs._writer.write, asyncio.Event()

    async def held_up(record: RunRecord, status: RunStatus, *, over: str) -> Json | None:
        await may_write.wait()
        return await write(record, status, over=over)

    monkeypatch.setattr(engine.runs._writer, "write", held_up)
    return may_write


async def test_what_a_worker_has_that_comes_late_is_not_given_out_anew(server: ApiServer, api: Api) -> None:
    late, held = await leave_a_step_with_a_worker(server, api)
    async with started(server, rejoin=timedelta(seconds=0.2)) as engine:
        record = await observed(engine, "run")
        record.writing = True  # something else of the run, and it takes its time
        await until(lambda: bool(record.reports))
        engine.registry.listen(MAIN, late.id, [held])
        record.writing = False
        engine.runs.reconcile(record)
        await engine.report(MAIN, held.attempt_id, Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"


async def test_a_worker_that_comes_while_its_step_is_taken_from_it_stops_it(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, held = await leave_a_step_with_a_worker(server, api)
    async with started(server, rejoin=timedelta(seconds=0.2)) as engine:
        may_write = hold_up_writes(engine, monkeypatch)
        record = await observed(engine, "run")
        await until(lambda: bool(record.being_written))
        worker, stream = engine.registry.listen(MAIN, late.id, [held])
        may_write.set()
        commands = stream.commands()
        async with asyncio.timeout(SECONDS):
            stop, start = await anext(commands), await anext(commands)
        assert isinstance(stop, CancelCommand)
        assert isinstance(start, StartCommand)
        assert stop.attempt_id == held.attempt_id != start.attempt.id
        assert list(worker.out) == [start.attempt.id]


async def test_a_step_whose_result_is_being_written_leaves_the_worker_that_says_to_hold_it(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, held = await leave_a_step_with_a_worker(server, api)
    async with started(server) as engine:
        may_write = hold_up_writes(engine, monkeypatch)
        record = await observed(engine, "run")
        reporting = asyncio.create_task(engine.report(MAIN, held.attempt_id, Outcome.COMPLETED, run_uid=record.uid))
        await until(lambda: bool(record.being_written))
        worker, _ = engine.registry.listen(MAIN, late.id, [held])
        may_write.set()
        async with asyncio.timeout(SECONDS):
            await reporting
        assert (list(worker.out), worker.free_slots) == ([], worker.slots)


async def test_a_worker_whose_registration_can_not_be_kept_is_told_to_come_again(
    server: ApiServer, engine: Engine
) -> None:
    match = {"verb": ["create"], "resource": ["leases"]}
    server.faults.install([{"match": match, "action": "status", "code": 403, "message": "exceeded quota: full"}])
    with pytest.raises(NotReady, match="exceeded quota: full"):
        await connect(engine, "etl")
    assert not engine.registry.workers_of_pool(MAIN.pool_ref)
    await connect(engine, "etl")


async def test_the_runs_of_a_deleted_workflow_go_on_after_a_restart(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta()) as engine:
        await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until_phase(api, "run", "Running")
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    async with started(server, rejoin=timedelta()) as engine:
        worker = await engine.registry.register(MAIN, RegistrationRequest(name="worker", actions=("etl:work",)))
        _, stream = engine.registry.listen(MAIN, worker.id, [])
        await engine.report(MAIN, await next_attempt(stream), Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"


# --- Writes that fail


def on_status(server: ApiServer, **fault: Any) -> None:
    match = {"verb": ["update"], "resource": ["workflowruns"], "subresource": ["status"]}
    server.faults.install([{"match": match, **fault}])


async def test_a_right_that_is_missing_for_a_while_fails_no_run(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatchet_operator.engine.status_writer._FORBIDDEN_PAUSE_SECONDS", 0.05)
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
    server: ApiServer, engine: Engine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def replace_and_keep_nothing(resource: Any, namespace: Any, name: str, body: Json, **_: Any) -> Json:
        writes.append(body)
        return await engine._api.get(resource, namespace, name)

    writes: list[Json] = []
    monkeypatch.setattr(engine._api, "replace", replace_and_keep_nothing)
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


async def test_a_definition_that_may_not_be_read_for_a_while_is_waited_for(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatchet_operator.engine.workflows._FORBIDDEN_PAUSE_SECONDS", 0.05)
    async with started(server, running_after=timedelta()) as engine:
        await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until_phase(api, "run", "Running")
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    match = {"verb": ["get"], "resource": ["controllerrevisions"]}
    server.faults.install([{"match": match, "action": "status", "code": 403, "times": 2}])
    async with started(server) as engine:
        record = await observed(engine, "run")
        assert engine.runs.may_have(MAIN.pool_ref, record)
        assert not engine.workflows._revisions.missing


@pytest.mark.parametrize("data", [None, "text", [1], {"definition": "text"}])
async def test_a_definition_that_somebody_overwrote_counts_as_missing(
    server: ApiServer, api: Api, data: object
) -> None:
    async with started(server, running_after=timedelta()) as engine:
        await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        await until_phase(api, "run", "Running")
    (revision,), _ = await api.list_all(REVISIONS, NAMESPACE)
    await api.delete(REVISIONS, NAMESPACE, revision["metadata"]["name"])
    metadata = {"name": revision["metadata"]["name"]}
    await api.create(REVISIONS, NAMESPACE, {**revision, "metadata": metadata, "data": data})
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    async with started(server) as engine:
        await observed(engine, "run")
        await until(lambda: bool(engine.workflows._revisions.missing))


async def test_whoever_awaits_a_run_that_may_not_be_read_is_told_so(server: ApiServer, engine: Engine) -> None:
    match = {"verb": ["get"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "status", "code": 403}])
    stream = engine.results.open(MAIN)
    stream.add("run")
    async with asyncio.timeout(SECONDS):
        result = await anext(stream.results())
    assert result.steps[0].error == "run run can't be read: injected fault: 403"


# --- What was missed, and what is late


async def test_a_run_that_only_its_creator_saw_is_forgotten_after_a_relist(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    run = await api.create(RUNS, NAMESPACE, make_run("run"))
    await api.delete(RUNS, NAMESPACE, "run")
    await until(lambda: engine.store.was_deleted(run["metadata"]["uid"]))
    ghost = run | {"metadata": {**run["metadata"], "uid": "created-and-deleted-while-the-watch-was-away"}}
    engine.runs.observe("ADDED", ghost)
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
    engine.runs.observe("MODIFIED", earlier)
    assert engine.store.by_uid(later["metadata"]["uid"]) is not None


async def test_an_operator_that_was_stopped_for_a_while_takes_no_worker_for_dead(server: ApiServer) -> None:
    async with started(server, worker_silent=timedelta(seconds=0.5)) as engine:
        worker, _ = await connect(engine, "etl")
        stopped_at = loop_time()
        time.sleep(2)  # noqa: ASYNC251  # nothing of this process runs, as after SIGSTOP
        await until(lambda: worker.dead or worker.last_seen > stopped_at)
        assert worker.last_seen > stopped_at, "it was taken for dead at once"
        await until(lambda: worker.dead)  # it is silent indeed


async def test_a_draining_worker_that_registers_again_still_gets_nothing_new(engine: Engine, api: Api) -> None:
    worker, _ = await connect(engine, "etl")
    engine.registry.drain(MAIN, worker.id)
    again, _ = await connect(engine, "etl", worker_id=worker.id)
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await until(lambda: bool(engine.runs.attempts))
    assert not again.out


async def test_attempts_that_nobody_ever_takes_leave_nothing_behind(engine: Engine, api: Api) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    record = await observed(engine, "run")
    await until(lambda: bool(record.attempts))
    for number in range(1000):
        attempt = engine.runs.make_attempt(record, "work", str(number), datetime.now(UTC))
        engine.runs.attempts.queue.add(attempt, datetime.now(UTC))
        engine.runs.attempts.queue.withdraw(attempt)
    assert sum(len(queue.roots) for queue in engine.runs.attempts.queue._queues.values()) < 200


async def test_no_lock_is_kept_for_what_is_done(engine: Engine) -> None:
    for number in range(5):
        await engine.workflows.register(NAMESPACE, POOL, make_definition(f"etl-{number}"))
    await asyncio.gather(*engine.workflows._tasks)
    gc.collect()
    assert not engine.workflows._locks


async def test_the_end_does_not_wait_for_events_that_can_not_be_written(server: ApiServer, api: Api) -> None:
    match = {"verb": ["create"], "resource": ["events"]}
    server.faults.install([{"match": match, "action": "status", "code": 429, "retryAfter": 1, "times": 0}])
    async with started(server) as engine:
        run = await api.create(RUNS, NAMESPACE, make_run("run"))
        engine.events.warn(WorkflowRun.model_validate(run), "Trouble", "this is never written")
        await asyncio.sleep(0.1)
        async with asyncio.timeout(SECONDS):
            await engine.events.stop()


# --- Pools


def make_pool(**spec: Any) -> Json:
    container = {"name": "worker", "image": "local"}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"minReplicas": 1, "template": {"spec": {"containers": [container]}}, **spec},
    }


async def pods_of(api: Api) -> list[Json]:
    return (await api.list_all(PODS, NAMESPACE))[0]


async def has_a_pod(api: Api) -> bool:
    return len(await pods_of(api)) == 1


async def test_a_pod_that_was_refused_is_made_seconds_after_the_reason_is_gone(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    match = {"verb": ["create"], "resource": ["pods"]}
    server.faults.install([{"match": match, "action": "status", "code": code} for code in (403, 409)])
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)


async def test_a_pool_made_anew_under_its_name_takes_its_secret_over(engine: Engine, api: Api) -> None:
    earlier = make_pool(minReplicas=0)
    earlier["metadata"]["name"] = "earlier"  # stands for the one of that name that the collector has not seen gone yet
    uid = (await api.create(POOLS, NAMESPACE, earlier))["metadata"]["uid"]
    owner = {"apiVersion": API_VERSION, "kind": "WorkerPool", "name": "earlier", "uid": uid}
    metadata = {"name": f"{POOL}-token", "labels": {labels.MANAGED_BY: labels.MANAGER}, "ownerReferences": [owner]}
    await api.create(SECRETS, NAMESPACE, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    pool = await api.create(POOLS, NAMESPACE, make_pool())
    engine.pools.observe("ADDED", pool)
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    secret = await api.get(SECRETS, NAMESPACE, f"{POOL}-token")
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [pool["metadata"]["uid"]]
    assert "token" in secret["data"]


async def owners_of(api: Api, *kinds: Resource) -> list[str]:
    objects = [obj for kind in kinds for obj in (await api.list_all(kind, NAMESPACE))[0]]
    return [owner["uid"] for obj in objects for owner in obj["metadata"].get("ownerReferences", ())]


async def test_a_pool_that_is_made_anew_between_two_events_gets_a_secret_of_its_own(engine: Engine, api: Api) -> None:
    earlier = await api.create(POOLS, NAMESPACE, make_pool())
    engine.pools.observe("ADDED", earlier)
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    await api.delete(POOLS, NAMESPACE, POOL)
    anew = await api.create(POOLS, NAMESPACE, make_pool(minReplicas=0))
    engine.pools.observe("MODIFIED", anew)

    async def is_its_own() -> bool:
        return await owners_of(api, PODS, SECRETS) == [anew["metadata"]["uid"]]

    await eventually(is_its_own, within_seconds=SECONDS)


async def test_a_pool_that_is_made_anew_does_not_count_pods_that_were_left_alone(engine: Engine, api: Api) -> None:
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    await api.delete(POOLS, NAMESPACE, POOL, propagation="Orphan")

    async def is_left_alone() -> bool:
        return await owners_of(api, PODS) == []

    await eventually(is_left_alone, within_seconds=SECONDS)
    anew = await api.create(POOLS, NAMESPACE, make_pool())
    engine.pools.observe("MODIFIED", anew)

    async def has_its_own() -> bool:
        return await owners_of(api, PODS) == [anew["metadata"]["uid"]]

    await eventually(has_its_own, within_seconds=SECONDS)


async def test_a_secret_of_somebody_else_is_not_written_over(engine: Engine, api: Api) -> None:
    theirs = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{POOL}-token"}, "stringData": {"token": "x"}}
    secret = await api.create(SECRETS, NAMESPACE, theirs)
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))

    async def is_said() -> bool:
        conditions = (await api.get(POOLS, NAMESPACE, POOL)).get("status", {}).get("conditions", [])
        return any("somebody else's" in condition["message"] for condition in conditions)

    await eventually(is_said, within_seconds=SECONDS)
    assert (await api.get(SECRETS, NAMESPACE, f"{POOL}-token"))["data"] == secret["data"]


async def test_a_registration_whose_workflow_is_deleted_meanwhile_is_not_answered_as_done(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
    match = {"verb": ["update"], "resource": ["workflows"], "subresource": ["status"]}
    server.faults.install([{"match": match, "action": "status", "code": 503, "times": 0}])
    changed = make_definition("etl").model_copy(update={"version": "2"})
    registering = asyncio.create_task(engine.workflows.register(NAMESPACE, POOL, changed))
    await until(lambda: any(fault.fired for fault in server.faults.rules))
    await api.delete(WORKFLOWS, NAMESPACE, "etl")
    server.faults.clear()
    with pytest.raises(NotReady):
        await registering


async def test_a_child_that_is_there_is_found_though_its_workflow_is_gone(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl", "child")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    first = await engine.spawning.trigger(child_trigger(attempt, "run"))
    engine.workflows.forget(ObjectRef(NAMESPACE, "child"))
    assert await engine.spawning.trigger(child_trigger(attempt, "run")) == first
    with pytest.raises(UnknownObject):
        await engine.spawning.trigger(child_trigger(attempt, "run", key="b"))


async def test_a_watch_that_is_always_closed_at_once_is_not_opened_all_the_time(server: ApiServer, api: Api) -> None:
    async with started(server):
        server.faults.install([{"match": {"verb": ["watch"]}, "action": "cut", "times": 0}])
        before = requests_to(server, "watch", "workflowruns")
        await until(lambda: requests_to(server, "watch", "workflowruns") >= before + 2)  # it is opened again
        await asyncio.sleep(1)  # what is tested is how much happens in this time
        assert requests_to(server, "watch", "workflowruns") - before < 12
        server.faults.clear()


async def test_the_last_workflow_is_forgotten_though_nobody_says_that_it_was_deleted(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatchet_operator.engine.engine._RESYNC_SECONDS", 0.1)
    async with started(server) as engine:
        await engine.workflows.register(NAMESPACE, POOL, make_definition("etl"))
        watching = asyncio.create_task(engine.watch())
        await api.delete(WORKFLOWS, NAMESPACE, "etl")
        await until(lambda: not engine.workflows.known())
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_server_that_says_to_come_back_at_once_is_given_time_all_the_same(
    server: ApiServer, engine: Engine, api: Api
) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)
    on_status(server, action="status", code=429, retryAfter=0, times=0)
    reporting = asyncio.create_task(engine.report(MAIN, attempt, Outcome.COMPLETED))
    await until(lambda: requests_to(server, "update", "workflowruns/status") >= 2)  # it is tried again
    await asyncio.sleep(1)  # what is tested is how much happens in this time
    assert requests_to(server, "update", "workflowruns/status") < 15
    server.faults.clear()
    async with asyncio.timeout(SECONDS):
        await reporting


async def test_a_stranger_who_awaits_a_child_frees_no_slot_of_its_parent(engine: Engine, api: Api) -> None:
    _, stream = await connect(engine, "etl")
    await engine.workflows.register(NAMESPACE, POOL, make_definition("child"))
    await api.create(RUNS, NAMESPACE, make_run("run"))
    parent = engine.runs.attempts[await next_attempt(stream)]
    child = await engine.spawning.trigger(child_trigger(parent.id, "run"))
    stranger, itself = engine.results.open(STRANGER), engine.results.open(MAIN)
    stranger.add(child)
    assert parent.occupies_slot
    itself.add(child)
    assert not parent.occupies_slot
    itself.close()
    assert parent.occupies_slot


# --- What is lost on the way, or said too late


async def listen_silently(engine: Engine, worker: Worker) -> WorkerStream:
    """Listen as clients do that never say what they hold."""
    _, stream = engine.registry.listen(MAIN, worker.id, None)
    return stream


async def test_a_start_that_was_lost_with_its_stream_is_sent_again(engine: Engine, api: Api) -> None:
    worker, _ = await connect(engine, "etl")
    stream = await listen_silently(engine, worker)
    await api.create(RUNS, NAMESPACE, make_run("run"))
    lost = await next_attempt(stream)
    engine.registry.left(worker, stream)
    assert await next_attempt(await listen_silently(engine, worker)) == lost


async def test_a_start_that_was_confirmed_is_not_sent_again(engine: Engine, api: Api) -> None:
    worker, _ = await connect(engine, "etl")
    stream = await listen_silently(engine, worker)
    await api.create(RUNS, NAMESPACE, make_run("first"))
    engine.started(MAIN, await next_attempt(stream))
    engine.registry.left(worker, stream)
    stream = await listen_silently(engine, worker)
    await api.create(RUNS, NAMESPACE, make_run("second"))
    attempt = engine.runs.attempts[await next_attempt(stream)]
    assert attempt.ref.name == "second"


async def test_a_result_beats_the_loss_of_its_worker(server: ApiServer, api: Api) -> None:
    async with started(server, running_after=timedelta(hours=1)) as engine:  # nothing else is written
        worker, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        record = engine.store.get(ObjectRef(NAMESPACE, "run"))
        assert record is not None
        record.writing = True  # another write of the run is under way, and takes its time
        engine.registry._bury(worker, "it was silent")
        reporting = asyncio.create_task(engine.report(MAIN, attempt, Outcome.COMPLETED, payload='{"a": 1}'))
        await asyncio.sleep(0)
        record.writing = False
        engine.runs.reconcile(record)
        async with asyncio.timeout(SECONDS):
            await reporting
        assert (record.run.status.steps["work"].losses, record.run.status.phase) == (0, "Succeeded")


async def test_a_run_that_can_not_be_reconciled_acknowledges_nothing(
    engine: Engine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stream = await connect(engine, "etl")
    await api.create(RUNS, NAMESPACE, make_run("run"))
    attempt = await next_attempt(stream)

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("hatchet_operator.engine.runs.plan_run", broken)
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
        engine.run_informer._on_change = lambda kind, obj: None  # the watch is slower than what follows
        theirs = await api.replace(RUNS, NAMESPACE, "run", {**run, "status": done}, subresource="status")
        failed = Report(attempt_id=attempt, outcome=Outcome.FAILED, at=datetime.now(UTC), error="late", may_retry=False)
        engine.runs.report(attempt, failed)
        assert record.writing
        engine.runs.observe("MODIFIED", theirs)  # after the decision, before the request
        await until(lambda: not record.writing)
        assert await phase_of(api, "run") == "Succeeded"


async def test_a_pool_is_not_refused_for_what_came_of_an_earlier_one_of_its_name(
    engine: Engine, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = await api.create(POOLS, NAMESPACE, make_pool())
    create = engine.pools._api.create

    async def refuse_late(resource: Resource, namespace: str | None, body: Json, **options: bool) -> Json:
        if resource is not PODS:
            return await create(resource, namespace, body, **options)
        engine.pools.observe("DELETED", earlier)  # the watch is quicker than the answer
        monkeypatch.undo()
        raise Refused("being terminated", status=403, causes=frozenset({"NamespaceTerminating"}))

    monkeypatch.setattr(engine.pools._api, "create", refuse_late)
    engine.pools.observe("ADDED", earlier)
    await until(lambda: engine.pools._api.create != refuse_late)
    await api.delete(POOLS, NAMESPACE, POOL)
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, make_pool()))
    await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)


async def test_pods_are_looked_at_by_the_kubelet_when_their_secret_changes(engine: Engine, api: Api) -> None:
    """By itself it brings them another authority or address within a minute or so."""
    spec: Json = {"minReplicas": 1, "template": {"spec": {"containers": [{"name": "worker", "image": "etl:1"}]}}}
    body = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": POOL}, "spec": spec}
    engine.pools.observe("ADDED", await api.create(POOLS, NAMESPACE, body))
    await until(lambda: len(engine.registry.pods_of(ObjectRef(NAMESPACE, POOL))) == 1)
    (pod,) = engine.registry.pods_of(ObjectRef(NAMESPACE, POOL))
    assert labels.CREDENTIALS not in pod["metadata"].get("annotations", {})

    engine.pools.trust("another authority")

    async def is_told() -> bool:
        there = await api.get(PODS, NAMESPACE, pod["metadata"]["name"])
        return labels.CREDENTIALS in there["metadata"].get("annotations", {})

    await eventually(is_told, within_seconds=SECONDS)
    assert "ca.crt" in (await api.get(SECRETS, NAMESPACE, f"{POOL}-token"))["data"]


async def test_pods_whose_tokens_are_of_a_key_that_is_gone_are_replaced(server: ApiServer, api: Api) -> None:
    pool = await api.create(POOLS, NAMESPACE, make_pool())
    async with started(server) as engine:
        engine.pools.observe("ADDED", pool)
        await eventually(lambda: has_a_pod(api), within_seconds=SECONDS)
    (earlier,) = await pods_of(api)

    async def is_surged() -> bool:
        return len({pod["metadata"]["labels"][labels.TEMPLATE] for pod in await pods_of(api)}) == 2

    async with started(server, token_key="another" * 9) as engine:
        engine.pools.observe("ADDED", pool)
        await eventually(is_surged, within_seconds=SECONDS)
    assert earlier["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in await pods_of(api)}
