"""Messages that come twice, late, in another order, or from nobody the operator knows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from hatchet_operator.cluster.kinds import RUNS
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from tests.integration.harness import FINAL, NAMESPACE, Cluster, output_of, phase_of
from tests.integration.raw_worker import (
    CALL_SECONDS,
    COMPLETED,
    FAILED,
    STARTED,
    RawWorker,
    next_action,
    raw_worker,
)
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """One operator for all tests here: none of them harms it."""
    async with Cluster(tmp_path_factory.mktemp("messages")) as started:
        await started.start_operator()
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def worker(cluster: Cluster) -> AsyncIterator[RawWorker]:
    async with raw_worker(cluster.grpc_address, cluster.token()) as connected:
        yield connected


@pytest.fixture
def workflow() -> str:
    """The test's own workflow; its run has the same name."""
    return f"raw-{uuid.uuid4()}"


async def assert_refused(call: Awaitable[object], code: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call
    assert refusal.value.code() is code, refusal.value.details()


async def test_a_result_that_comes_twice_counts_once(cluster: Cluster, worker: RawWorker, workflow: str) -> None:
    await worker.register(workflow)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    action = await next_action(stream)
    await worker.report(action, COMPLETED, '{"n": 1}')
    await worker.report(action, COMPLETED, '{"n": 2}')
    run = await cluster.finished(workflow)
    assert output_of(run, "work") == {"n": 1}
    version = run["metadata"]["resourceVersion"]
    await worker.report(action, COMPLETED, '{"n": 3}')
    assert (await cluster.run(workflow))["metadata"]["resourceVersion"] == version


async def test_two_results_at_once_are_both_answered_and_one_counts(
    cluster: Cluster, worker: RawWorker, workflow: str
) -> None:
    await worker.register(workflow)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    action = await next_action(stream)
    await asyncio.gather(*(worker.report(action, COMPLETED, f'{{"n": {n}}}') for n in range(10)))
    assert output_of(await cluster.finished(workflow), "work")["n"] in range(10)


async def test_a_success_after_the_failure_changes_nothing(cluster: Cluster, worker: RawWorker, workflow: str) -> None:
    await worker.register(workflow)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    action = await next_action(stream)
    await worker.report(action, FAILED, "broken")
    await worker.report(action, COMPLETED, "{}")
    run = await cluster.finished(workflow)
    assert phase_of(run) == "Failed"
    assert run["status"]["steps"]["work"]["error"] == "broken"


async def test_a_result_of_an_attempt_that_was_followed_by_another_changes_nothing(
    cluster: Cluster, worker: RawWorker, workflow: str
) -> None:
    await worker.register(workflow, retries=1)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    first = await next_action(stream)
    await worker.report(first, FAILED, "broken")
    second = await next_action(stream)
    assert (first.retry_count, second.retry_count) == (0, 1)
    assert first.task_run_external_id != second.task_run_external_id
    await worker.report(first, COMPLETED, '{"attempt": "first"}')
    assert phase_of(await cluster.run(workflow)) not in FINAL
    await worker.report(second, COMPLETED, '{"attempt": "second"}')
    assert output_of(await cluster.finished(workflow), "work") == {"attempt": "second"}


async def test_a_start_that_is_told_after_the_end_changes_nothing(
    cluster: Cluster, worker: RawWorker, workflow: str
) -> None:
    await worker.register(workflow)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    action = await next_action(stream)
    await worker.report(action, COMPLETED, "{}")
    await worker.report(action, STARTED)
    assert phase_of(await cluster.run(workflow)) == "Succeeded"


async def test_results_of_nothing_that_exists_are_answered(worker: RawWorker, workflow: str) -> None:
    await worker.register(workflow)
    for identity in (str(uuid.uuid4()), "", "no uuid at all"):
        action = wire.AssignedAction(task_run_external_id=identity, workflow_run_id="nobody", job_run_id="nobody")
        for kind in (STARTED, COMPLETED, FAILED):
            await worker.report(action, kind, "{}")


async def test_a_result_of_a_deleted_run_is_answered(cluster: Cluster, worker: RawWorker, workflow: str) -> None:
    await worker.register(workflow)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    action = await next_action(stream)
    await cluster.api.delete(RUNS, NAMESPACE, workflow)
    told = await next_action(stream)
    assert (told.action_type, told.task_run_external_id) == (wire.CANCEL_STEP_RUN, action.task_run_external_id)
    await worker.report(action, COMPLETED, "{}")


async def test_a_second_stream_of_a_worker_takes_the_place_of_the_first(
    cluster: Cluster, worker: RawWorker, workflow: str
) -> None:
    await worker.register(workflow)
    first = worker.listen(held=[])
    await cluster.create_run(f"{workflow}-one", workflow)
    action = await next_action(first)
    second = worker.listen(held=[action])
    async with asyncio.timeout(CALL_SECONDS):
        assert await first.read() == grpc.aio.EOF
    await cluster.create_run(f"{workflow}-two", workflow)
    other = await next_action(second)
    assert other.workflow_run_id == f"{workflow}-two", "what it holds is not given out again"
    for each in (action, other):
        await worker.report(each, COMPLETED, "{}")
    for name in (f"{workflow}-one", f"{workflow}-two"):
        assert phase_of(await cluster.finished(name)) == "Succeeded"


async def test_what_was_lost_with_a_stream_is_sent_on_the_next(
    cluster: Cluster, worker: RawWorker, workflow: str
) -> None:
    await worker.register(workflow)
    first = worker.listen(held=[])
    await cluster.create_run(workflow, workflow)
    sent = await next_action(first)
    first.cancel()
    again = await next_action(worker.listen(held=[]))
    assert again.task_run_external_id == sent.task_run_external_id
    await worker.report(again, COMPLETED, "{}")
    assert phase_of(await cluster.finished(workflow)) == "Succeeded"


async def test_a_worker_is_told_to_drop_what_it_holds_and_nobody_wants(
    cluster: Cluster, worker: RawWorker, workflow: str
) -> None:
    await worker.register(workflow)
    ghost = wire.AssignedAction(workflow_run_id="ghost", task_run_external_id=str(uuid.uuid4()), task_name="work")
    told = await next_action(worker.listen(held=[ghost]))
    assert (told.action_type, told.task_run_external_id) == (wire.CANCEL_STEP_RUN, ghost.task_run_external_id)


async def test_a_heartbeat_of_an_unknown_worker_is_not_found(worker: RawWorker) -> None:
    await assert_refused(worker.heartbeat(str(uuid.uuid4())), grpc.StatusCode.NOT_FOUND)
    worker.worker_id = str(uuid.uuid4())
    await assert_refused(worker.listen().read(), grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="no token"),
        pytest.param("", id="an empty token"),
        pytest.param("garbage", id="garbage"),
        pytest.param(
            "eyJhbGciOiJub25lIn0.eyJpc3MiOiJoYXRjaGV0LW9wZXJhdG9yIiwibmFtZXNwYWNlIjoiZGVmYXVsdCIsInBvb2wiOiJwIn0.",
            id="a token signed by nobody",
        ),
    ],
)
async def test_without_a_valid_token_nothing_is_answered(cluster: Cluster, token: str | None, workflow: str) -> None:
    async with raw_worker(cluster.grpc_address, token) as stranger:
        await assert_refused(stranger.register(workflow), grpc.StatusCode.UNAUTHENTICATED)
        await assert_refused(stranger.listen().read(), grpc.StatusCode.UNAUTHENTICATED)
        await assert_refused(stranger.heartbeat("any"), grpc.StatusCode.UNAUTHENTICATED)
        await assert_refused(stranger.subscribe().read(), grpc.StatusCode.UNAUTHENTICATED)


async def test_an_attempt_that_is_over_spawns_nothing(cluster: Cluster, worker: RawWorker, workflow: str) -> None:
    await worker.register(workflow, retries=1, steps=("work", "more"))
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    first = await next_action(stream)
    child = await worker.spawn(workflow, parent=first, key="a")
    assert (await next_action(stream)).workflow_run_id == child
    await worker.report(first, FAILED, "broken")
    second = await next_action(stream)
    await assert_refused(worker.spawn(workflow, parent=first, key="b"), grpc.StatusCode.FAILED_PRECONDITION)
    assert await worker.spawn(workflow, parent=second, key="a") == child
    await worker.report(second, COMPLETED, "{}")
    await next_action(stream)  # "more": the run goes on, the step that spawned is over
    await assert_refused(worker.spawn(workflow, parent=second, key="c"), grpc.StatusCode.FAILED_PRECONDITION)
    assert [run["metadata"]["name"] for run in await cluster.children_of(workflow)] == [child]


async def test_a_parent_that_is_gone_spawns_nothing(cluster: Cluster, worker: RawWorker, workflow: str) -> None:
    await worker.register(workflow)
    stream = worker.listen()
    await cluster.create_run(workflow, workflow)
    action = await next_action(stream)
    await cluster.api.delete(RUNS, NAMESPACE, workflow)
    assert (await next_action(stream)).action_type == wire.CANCEL_STEP_RUN
    await assert_refused(worker.spawn(workflow, parent=action, key="a"), grpc.StatusCode.NOT_FOUND)
    assert await cluster.children_of(workflow) == []


async def test_whoever_awaits_a_run_that_is_not_there_or_is_deleted_is_told_so(
    cluster: Cluster, worker: RawWorker
) -> None:
    missing = await worker.end_of("missing")
    assert (missing.phase, missing.results[0].error) == ("Deleted", "run missing was deleted, or never existed")
    await cluster.create_run("waiting", "nobody-registers-this")
    awaiting = asyncio.create_task(worker.end_of("waiting"))

    async def is_noticed() -> bool:
        return bool((await cluster.run("waiting")).get("status", {}).get("reason") == "WorkflowMissing")

    await eventually(is_noticed)
    await cluster.api.delete(RUNS, NAMESPACE, "waiting")
    ended = await awaiting
    assert ended.phase == "Deleted"
    assert ended.results[0].error.startswith("run waiting was deleted")
