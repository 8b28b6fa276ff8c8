"""After a start: who may still have which step, and what comes of steps whose worker does not come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, RUNS
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.engine.dispatch.worker import CancelCommand, StartCommand, Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.handover import read_handed_over, write_handed_over
from hatchet_operator.engine.workers.registry import ClaimedAttempt, RegistrationRequest
from hatchet_operator.errors import NotPermitted, NotReady
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    HIDDEN,
    MAIN,
    NAMESPACE,
    NOWHERE,
    POOL,
    SECONDS,
    child_trigger,
    connect,
    hold_up_writes,
    make_definition,
    make_run,
    next_attempt,
    observed,
    phase_of,
    requests_to,
    running_loop,
    started,
    until,
    until_phase,
)
from tests.integration.service_accounts import create_pod
from tests.kube.eventually import eventually


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
        held = ClaimedAttempt(run="run", attempt_id=attempt, step="work", started_at=running_loop().now())
        engine.registry.listen(of_a, worker.id, [held])
        with pytest.raises(NotPermitted):
            await engine.report(of_b, attempt, Outcome.COMPLETED, run_uid=uid)
        with pytest.raises(NotPermitted):
            await engine.spawning.trigger(child_trigger(attempt, "run", caller=of_b))
        await engine.spawning.trigger(child_trigger(attempt, "run", caller=of_a))
        await engine.report(of_a, attempt, Outcome.COMPLETED, run_uid=uid)
        assert await phase_of(api, "run") == "Succeeded"


async def test_an_attempt_whose_worker_does_not_know_since_when_has_all_of_its_time(
    server: ApiServer, api: Api
) -> None:
    async with started(server) as engine:
        worker, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
    async with started(server) as engine:
        held = ClaimedAttempt(run="run", attempt_id=attempt, step="work", started_at=None)
        again, _ = engine.registry.listen(MAIN, worker.id, [held])
        (adopted,) = again.assigned.values()
        assert adopted.started_at == running_loop().now()
        assert adopted.deadline == running_loop().now() + timedelta(minutes=1)


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
        assert not other.assigned
        caller = Caller(namespace=NAMESPACE, pool=POOL, pod_name="hidden", pod_uid=hidden.pod_uid)
        held = ClaimedAttempt(run="run", attempt_id=attempt, step="work", started_at=running_loop().now())
        engine.registry.listen(caller, hidden.id, [held])
        await until(lambda: not engine.runs.has_runs_on_hold)
        await engine.report(caller, attempt, Outcome.COMPLETED)
        run = await api.get(RUNS, NAMESPACE, "run")
        assert (run["status"]["phase"], run["status"]["steps"]["work"].get("losses", 0)) == ("Succeeded", 0)
        assert not other.assigned
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
        assert not other.assigned, "its step runs twice"
        message = (await api.get(RUNS, NAMESPACE, "run"))["status"]["message"]
        assert message.startswith('waits up to 500ms for worker "stranded"')
        await api.patch(PODS, NAMESPACE, "stranded", {"metadata": {"finalizers": None}})
        after = await next_attempt(stream)
        assert after != before
        step = (await api.get(RUNS, NAMESPACE, "run"))["status"]["steps"]["work"]
        assert (step["reason"], step.get("losses", 0)) == ("WorkerLost", 0)
        assert f"the address that it was given, {NOWHERE}, no longer leads to the operator" in step["error"]


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
        given = read_handed_over(write_handed_over(engine.registry.assignments()))
    async with started(server, handed_over=given, rejoin=timedelta(minutes=1)) as engine:
        _, stream = engine.registry.listen(caller_of(pods[1]), here.id, [])
        attempt = await next_attempt(stream)
        assert engine.runs.attempts[attempt].ref.name == "waits"
        await engine.report(caller_of(pods[1]), attempt, Outcome.COMPLETED)
        assert not here.assigned, "what the other one has runs twice"
        await api.delete(PODS, NAMESPACE, "away", grace_seconds=0)
        assert engine.runs.attempts[await next_attempt(stream)].ref.name == "out"
        step = (await api.get(RUNS, NAMESPACE, "out"))["status"]["steps"]["work"]
        assert (step["reason"], step["losses"]) == ("WorkerLost", 0), "a Pod that is deleted is told, and no crash"


async def test_a_worker_that_registers_again_before_it_says_what_it_has_is_waited_for(
    server: ApiServer, api: Api
) -> None:
    async with started(server) as engine:
        worker, stream = await connect(engine, "etl", slots=1)
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
    async with started(server, rejoin=timedelta(minutes=1)) as engine:
        again = RegistrationRequest(name="worker", actions=("etl:work",), worker_id=worker.id)
        assert (await engine.registry.register(MAIN, again)).id == worker.id
        _, other = await connect(engine, "etl")  # which makes the operator look who is missing
        await asyncio.sleep(SECONDS / 4)
        held = ClaimedAttempt(run="run", attempt_id=attempt, step="work", started_at=running_loop().now())
        engine.registry.listen(MAIN, worker.id, [held])
        await engine.report(MAIN, attempt, Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(other.commands()), 1)


async def test_what_was_handed_over_stays_complete_until_the_last_call_is_answered(server: ApiServer, api: Api) -> None:
    """Calls are still answered then: by a worker that listens again, or that has a slot free, more could be had."""
    async with started(server) as engine:
        worker, stream = await connect(engine, "etl", slots=1)
        run = await api.create(RUNS, NAMESPACE, make_run("has"))
        attempt = await next_attempt(stream)
        await api.create(RUNS, NAMESPACE, make_run("waits"))
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 1)
        assert engine.registry.assignments() == {worker.id: {run["metadata"]["uid"]: ("work",)}}

        engine.registry.stop()

        held = ClaimedAttempt(run="has", attempt_id=attempt, step="work", started_at=running_loop().now())
        with pytest.raises(NotReady):
            engine.registry.listen(MAIN, worker.id, [held])
        await engine.report(MAIN, attempt, Outcome.COMPLETED)
        assert await phase_of(api, "has") == "Succeeded", "what is reported is kept"
        await api.create(RUNS, NAMESPACE, make_run("comes"))
        await until(lambda: engine.runs.attempts.queue.waiting_for(NAMESPACE, POOL) == 2)
        assert engine.registry.assignments() == {}


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
        assert engine.runs.has_runs_on_hold
        assert len(engine.runs.attempts) == 1
        _, stream = engine.registry.listen(side, slow.id, [])
        assert engine.runs.attempts[await next_attempt(stream)].ref.name == "held"
        assert not engine.runs.has_runs_on_hold


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
        assert engine.runs.has_runs_on_hold
        await engine.report(MAIN, attempt, Outcome.COMPLETED, run_uid=run["metadata"]["uid"])
        assert await phase_of(api, "run") == "Succeeded"
        assert not worker.assigned
        await until(lambda: not engine.runs.has_runs_on_hold)


async def leave_a_step_with_a_worker(server: ApiServer, api: Api) -> tuple[Worker, ClaimedAttempt]:
    """Have a step of a run that runs on when its operator ends, outside of pods."""
    async with started(server, running_after=timedelta()) as engine:
        worker, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        await until_phase(api, "run", "Running")
    return worker, ClaimedAttempt(run="run", attempt_id=attempt, step="work", started_at=running_loop().now())


async def test_no_worker_is_taken_for_dead_while_it_can_not_be_heard(server: ApiServer, api: Api) -> None:
    before, held = await leave_a_step_with_a_worker(server, api)
    match = {"verb": ["list"], "resource": ["workflowruns"]}
    server.faults.install([{"match": match, "action": "delay", "seconds": 1.0}])
    async with started(server, worker_silent=timedelta(seconds=0.4)) as engine:
        worker, _ = engine.registry.listen(MAIN, before.id, [held])
        assert list(worker.assigned) == [held.attempt_id]
        await until(lambda: worker.dead)  # it is silent indeed


async def test_what_a_worker_has_that_comes_late_is_not_given_out_anew(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, held = await leave_a_step_with_a_worker(server, api)
    async with started(server, rejoin=timedelta(seconds=0.2)) as engine:
        record = await observed(engine, "run")
        with monkeypatch.context() as patch:
            patch.setattr(engine.workflows, "begin_loading", lambda run: True)  # nothing is decided meanwhile
            await until(lambda: bool(record.reports))
            engine.registry.listen(MAIN, late.id, [held])
        engine.runs.requeue(record)
        await engine.report(MAIN, held.attempt_id, Outcome.COMPLETED)
        assert await phase_of(api, "run") == "Succeeded"


async def test_a_worker_that_comes_while_its_step_is_taken_from_it_stops_it(server: ApiServer, api: Api) -> None:
    late, held = await leave_a_step_with_a_worker(server, api)
    async with started(server, rejoin=timedelta(seconds=0.2)) as engine:
        may_write = hold_up_writes(engine)
        record = await observed(engine, "run")
        await until(lambda: bool(record.being_written))
        worker, stream = engine.registry.listen(MAIN, late.id, [held])
        may_write.set()
        commands = stream.commands()
        async with asyncio.timeout(SECONDS):
            (stop,), (start,) = await anext(commands), await anext(commands)
        assert isinstance(stop, CancelCommand)
        assert isinstance(start, StartCommand)
        assert stop.attempt_id == held.attempt_id != start.attempt.id
        assert list(worker.assigned) == [start.attempt.id]


async def test_a_step_whose_result_is_being_written_leaves_the_worker_that_says_to_hold_it(
    server: ApiServer, api: Api
) -> None:
    late, held = await leave_a_step_with_a_worker(server, api)
    async with started(server) as engine:
        may_write = hold_up_writes(engine)
        record = await observed(engine, "run")
        reporting = asyncio.create_task(engine.report(MAIN, held.attempt_id, Outcome.COMPLETED, run_uid=record.uid))
        await until(lambda: bool(record.being_written))
        worker, _ = engine.registry.listen(MAIN, late.id, [held])
        may_write.set()
        async with asyncio.timeout(SECONDS):
            await reporting
        assert (list(worker.assigned), worker.free_slots) == ([], worker.slots)
