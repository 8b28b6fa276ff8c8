"""Workers: who may speak for whom, and what is lost on the way to them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.dispatcher.v0.translation.workers import registration_request
from hatchet_operator.engine.dispatch.worker import CancelCommand, Worker, WorkerStream
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.workers.registry import ClaimedAttempt, RegistrationRequest
from hatchet_operator.errors import InvalidRequest, NotPermitted, NotReady, UnknownObject
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    SECONDS,
    STRANGER,
    child_trigger,
    connect,
    loop_time,
    make_run,
    next_attempt,
    phase_of,
    running_loop,
    started,
    until,
)


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
    assert (again.id, list(again.assigned), again.occupied) == (worker.id, [attempt], 1)


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
        held = ClaimedAttempt(run="run", attempt_id=attempt, step="work", started_at=running_loop().now())
        _, stream = engine.registry.listen(STRANGER, worker.id, [held])
        assert not worker.assigned
        (command,) = await anext(stream.commands())
        assert isinstance(command, CancelCommand)
        assert not engine.may_report(STRANGER, attempt, uid)
        await engine.report(STRANGER, attempt, Outcome.COMPLETED, run_uid=uid)
        assert await phase_of(api, "run") != "Succeeded"


async def test_a_worker_whose_registration_can_not_be_kept_is_told_to_come_again(
    server: ApiServer, engine: Engine
) -> None:
    match = {"verb": ["create"], "resource": ["leases"]}
    server.faults.install([{"match": match, "action": "status", "code": 403, "message": "exceeded quota: full"}])
    with pytest.raises(NotReady, match="exceeded quota: full"):
        await connect(engine, "etl")
    assert not engine.registry.workers_of_pool(MAIN.pool_ref)
    await connect(engine, "etl")


async def test_an_operator_that_was_stopped_for_a_while_takes_no_worker_for_dead(server: ApiServer) -> None:
    async with started(server, worker_silent=timedelta(seconds=0.5)) as engine:
        worker, _ = await connect(engine, "etl")
        stopped_at = loop_time()
        running_loop().skip(2)
        await until(lambda: worker.dead or worker.last_seen > stopped_at)
        assert worker.last_seen > stopped_at, "it was taken for dead at once"
        await until(lambda: worker.dead)  # it is silent indeed


async def test_a_draining_worker_that_registers_again_still_gets_nothing_new(engine: Engine, api: Api) -> None:
    worker, _ = await connect(engine, "etl")
    engine.registry.drain(MAIN, worker.id)
    again, _ = await connect(engine, "etl", worker_id=worker.id)
    await api.create(RUNS, NAMESPACE, make_run("run"))
    await until(lambda: bool(engine.runs.attempts))
    assert not again.assigned


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


async def test_a_result_beats_the_loss_of_its_worker(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(server, running_after=timedelta(hours=1)) as engine:  # nothing else is written
        worker, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("run"))
        attempt = await next_attempt(stream)
        record = engine.store.get(ObjectRef(NAMESPACE, "run"))
        assert record is not None
        with monkeypatch.context() as patch:
            patch.setattr(engine.workflows, "begin_loading", lambda run: True)  # nothing is decided meanwhile
            engine.registry.deaths.bury(worker, "it was silent")
            reporting = asyncio.create_task(engine.report(MAIN, attempt, Outcome.COMPLETED, payload='{"a": 1}'))
            await until(lambda: record.reports["work"].outcome is Outcome.COMPLETED)
        engine.runs.requeue(record)
        async with asyncio.timeout(SECONDS):
            await reporting
        assert (record.run.status.steps["work"].losses, record.run.status.phase) == (0, "Succeeded")
