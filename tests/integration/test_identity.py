"""Every method of every service, called by everybody who should not; the worker that should is never disturbed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.kinds import PODS, RUNS
from hatchet_operator.dispatcher.stamps import now_stamp
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_sdk import ClientConfig, Context, Hatchet
from hatchet_sdk._client.pace import Pace
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import events_pb2 as events_wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from tests.integration.inprocess import KEY, NAMESPACE, Instance, ScriptedWorker, child_of, running_operator
from tests.integration.raw_worker import RawWorker
from tests.integration.service_accounts import AUDIENCE, create_pod, request_token

SECONDS = 60.0
METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (wire.DESCRIPTOR, workflows_wire.DESCRIPTOR, events_wire.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
UNSERVED = {"ReplaySingleEvent"}


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A worker in Pod "mine" of pool "main", with an attempt of a run of workflow "etl"."""

    instance: Instance
    worker: ScriptedWorker
    action: wire.AssignedAction
    pod_uid: str

    @property
    def attempt(self) -> Attempt:
        return self.instance.engine.runs.attempts[self.action.task_run_external_id]

    def state(self) -> tuple[Any, ...]:
        """What a stranger could change."""
        engine, attempt = self.instance.engine, self.attempt
        known = engine.registry.workers_of_pool(ObjectRef(NAMESPACE, "main"))
        worker = next(worker for worker in known if worker.id == self.worker.id)
        record = engine.store.get(attempt.ref)
        assert record is not None
        workflow = engine.workflows.get(ObjectRef(NAMESPACE, "etl"))
        stream = (
            worker.stream,
            worker.is_connected,
            worker.last_seen,
            worker.pod_uid,
            list(worker.assigned),
            worker.slots,
        )
        run = (attempt.deadline, attempt.occupies_slot, attempt.worker is worker, dict(record.reports))
        return (*stream, *run, engine.store.children_of(record.uid), workflow and workflow.status.pool)

    def requests(self) -> dict[str, Message]:
        """Make a request of every method that would speak for the victim."""
        attempt, run_uid = self.action.task_run_external_id, self.action.job_run_id
        spawn = workflows_wire.TriggerWorkflowRequest(name="etl", input="{}", **child_of(self.action))
        step = workflows_wire.CreateWorkflowStepOpts(readable_id="work", action="etl:work", timeout="60s")
        job = workflows_wire.CreateWorkflowJobOpts(name="etl", steps=[step])
        completed = wire.STEP_EVENT_TYPE_COMPLETED
        return {
            "Register": wire.WorkerRegisterRequest(
                worker_name="thief", worker_id=self.worker.id, pod_name="mine", pod_uid=self.pod_uid, slots=1
            ),
            "Listen": wire.WorkerListenRequest(worker_id=self.worker.id),
            "ListenV2": wire.WorkerListenRequest(worker_id=self.worker.id),
            "Heartbeat": wire.HeartbeatRequest(worker_id=self.worker.id),
            "Unsubscribe": wire.WorkerUnsubscribeRequest(worker_id=self.worker.id),
            "SendStepActionEvent": wire.StepActionEvent(
                worker_id=self.worker.id, job_run_id=run_uid, task_run_external_id=attempt, event_type=completed
            ),
            "SendBatchActionEvent": wire.BatchActionEvent(
                worker_id=self.worker.id,
                event_type=completed,
                items=[wire.BatchActionEventItem(task_run_external_id=attempt)],
            ),
            "SubscribeToWorkflowRuns": wire.SubscribeToWorkflowRunsRequest(workflow_run_id="no-such-run"),
            "RefreshTimeout": wire.RefreshTimeoutRequest(task_run_external_id=attempt, increment_timeout_by="1h"),
            "ReleaseSlot": wire.ReleaseSlotRequest(task_run_external_id=attempt),
            "PutOverridesData": wire.OverridesData(),
            "UpsertWorkerLabels": wire.UpsertWorkerLabelsRequest(worker_id=self.worker.id),
            "GetVersion": wire.GetVersionRequest(),
            "PutWorkflow": workflows_wire.PutWorkflowRequest(
                opts=workflows_wire.CreateWorkflowVersionOpts(name="etl", jobs=[job])
            ),
            "TriggerWorkflow": spawn,
            "BulkTriggerWorkflow": workflows_wire.BulkTriggerWorkflowRequest(workflows=[spawn]),
            "ScheduleWorkflow": workflows_wire.ScheduleWorkflowRequest(
                name="etl",
                schedules=[now_stamp()],
                parent_id=spawn.parent_id,
                parent_step_run_id=attempt,
                child_index=0,
            ),
            "Push": events_wire.PushEventRequest(key="nobody:wants"),
            "BulkPush": events_wire.BulkPushEventRequest(events=[events_wire.PushEventRequest(key="nobody:wants")]),
            "PutRateLimit": workflows_wire.PutRateLimitRequest(key="nobody-uses", limit=1),
            "PutLog": events_wire.PutLogRequest(task_run_external_id=attempt, message="hello"),
            "PutStreamEvent": events_wire.PutStreamEventRequest(task_run_external_id=attempt, message=b"hello"),
            "SubscribeToWorkflowEvents": wire.SubscribeToWorkflowEventsRequest(workflow_run_id="run"),
            "SendGroupKeyActionEvent": wire.GroupKeyActionEvent(
                worker_id=self.worker.id,
                workflow_run_id="run",
                get_group_key_run_id=attempt,
                event_type=wire.GROUP_KEY_EVENT_TYPE_COMPLETED,
                event_payload="mine",
            ),
            **{name: GetMessageClass(METHODS[name].input_type)() for name in UNSERVED},
        }


class Stranger:
    """Calls any method with a token; ``None``: without one."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"bearer {token}"),) if token is not None else ()

    async def call(self, method: MethodDescriptor, request: Message) -> StatusCode:
        """Call, and return the status; a stream is good when it tells something or stays open."""
        kinds = ("unary", "stream")
        make = getattr(
            self._channel, f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}"
        )  # descriptors know which kind a method is, stubs would have to be named one by one
        call = make(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        given = _stream_of(request) if method.client_streaming else request
        calling = call(given, metadata=self._metadata)
        try:
            async with asyncio.timeout(SECONDS):
                await (calling.read() if method.server_streaming else calling)
                return StatusCode.OK if method.server_streaming and not calling.done() else await calling.code()
        except grpc.aio.AioRpcError as error:
            return error.code()
        finally:
            calling.cancel()


async def _stream_of(request: Message) -> AsyncIterator[Message]:
    yield request
    await asyncio.Event().wait()  # a client that asks for nothing more keeps its stream open


@pytest.fixture
async def victim() -> AsyncIterator[Victim]:
    async with running_operator(token_audience=AUDIENCE, running_after=3600) as instance:
        pod = await create_pod(instance.api, "mine", pool="main")
        token = await request_token(instance.api, "mine")
        async with working(instance, token) as (worker, action):
            yield Victim(instance=instance, worker=worker, action=action, pod_uid=pod["metadata"]["uid"])


@asynccontextmanager
async def working(instance: Instance, token: str) -> AsyncIterator[tuple[ScriptedWorker, wire.AssignedAction]]:
    worker = ScriptedWorker(ClientConfig(host_port=instance.operator.grpc_address, token=token))
    try:
        await worker.put_workflow("etl")
        await worker.start()
        await instance.create_run("run", "etl")
        action = await worker.next()
        said = events_wire.PutStreamEventRequest(task_run_external_id=action.task_run_external_id, message=b"hello")
        await worker.call(worker.events.PutStreamEvent, said)  # for whoever may listen
        yield worker, action
    finally:
        await worker.close()


@asynccontextmanager
async def stranger(victim: Victim, token: str | None) -> AsyncIterator[Stranger]:
    async with grpc.aio.insecure_channel(victim.instance.operator.grpc_address) as channel:
        yield Stranger(channel, token)


async def statuses(victim: Victim, token: str | None) -> dict[str, StatusCode]:
    """Call every method, and make sure that the victim notices nothing and can finish."""
    before = victim.state()
    async with stranger(victim, token) as caller:
        requests = victim.requests()
        answers = {name: await caller.call(method, requests[name]) for name, method in METHODS.items()}
        assert victim.state() == before
    await victim.worker.complete(victim.action, {"by": "its worker"})
    assert (await victim.instance.finished("run"))["phase"] == "Succeeded"
    return answers


def test_every_method_is_tried() -> None:
    assert set(METHODS) == {*SAME_NAMESPACE, *UNSERVED} == {*OTHER_NAMESPACE, *UNSERVED}


async def no_token(victim: Victim) -> str | None:
    return None


async def garbage(victim: Victim) -> str | None:
    return "garbage"


async def another_audience(victim: Victim) -> str | None:
    return await request_token(victim.instance.api, "mine", audience="https://kubernetes.default.svc")


async def expired(victim: Victim) -> str | None:
    token = await request_token(victim.instance.api, "mine", seconds=1)
    await asyncio.sleep(1.1)  # tokens end by the clock
    return token


async def signed_by_somebody(victim: Victim) -> str | None:
    return mint_token(Caller(namespace=NAMESPACE, pool="main"), key="another-key-" * 4, grpc_address="a:1")


async def a_deleted_pod(victim: Victim) -> str | None:
    await create_pod(victim.instance.api, "gone", pool="main")
    token = await request_token(victim.instance.api, "gone")
    await victim.instance.api.delete(PODS, NAMESPACE, "gone", grace_seconds=0)
    return token


async def no_pod(victim: Victim) -> str | None:
    return await request_token(victim.instance.api, None)


async def a_pod_without_a_pool(victim: Victim) -> str | None:
    await create_pod(victim.instance.api, "free", pool=None)
    return await request_token(victim.instance.api, "free")


@pytest.mark.parametrize(
    ("make_token", "want"),
    [
        (no_token, StatusCode.UNAUTHENTICATED),
        (garbage, StatusCode.UNAUTHENTICATED),
        (another_audience, StatusCode.UNAUTHENTICATED),
        (expired, StatusCode.UNAUTHENTICATED),
        (signed_by_somebody, StatusCode.UNAUTHENTICATED),
        (a_deleted_pod, StatusCode.UNAUTHENTICATED),
        (no_pod, StatusCode.PERMISSION_DENIED),
        (a_pod_without_a_pool, StatusCode.PERMISSION_DENIED),
    ],
)
async def test_no_method_is_for_a_caller_with(make_token: Callable[..., Any], want: StatusCode, victim: Victim) -> None:
    assert await statuses(victim, await make_token(victim)) == dict.fromkeys(METHODS, want)


SAME_NAMESPACE = {
    **dict.fromkeys(["Listen", "ListenV2", "Heartbeat", "Unsubscribe", "UpsertWorkerLabels"], StatusCode.NOT_FOUND),
    **dict.fromkeys(
        ["SendStepActionEvent", "SendBatchActionEvent", "SendGroupKeyActionEvent"], StatusCode.PERMISSION_DENIED
    ),
    **dict.fromkeys(["RefreshTimeout", "ReleaseSlot", "PutLog", "PutStreamEvent"], StatusCode.PERMISSION_DENIED),
    **dict.fromkeys(["TriggerWorkflow", "BulkTriggerWorkflow", "ScheduleWorkflow"], StatusCode.PERMISSION_DENIED),
    # what says nothing of others, or has no effect
    **dict.fromkeys(["GetVersion", "PutOverridesData"], StatusCode.OK),
    # any run of the namespace may be awaited, and listened to
    **dict.fromkeys(["SubscribeToWorkflowRuns", "SubscribeToWorkflowEvents"], StatusCode.OK),
    **dict.fromkeys(["Push", "BulkPush"], StatusCode.OK),  # any event of the namespace, as any run
    "Register": StatusCode.OK,  # as a worker of its own
    "PutWorkflow": StatusCode.OK,
    "PutRateLimit": StatusCode.OK,  # of the caller's namespace
}
OTHER_NAMESPACE = {
    **SAME_NAMESPACE,
    **dict.fromkeys(["TriggerWorkflow", "BulkTriggerWorkflow", "ScheduleWorkflow"], StatusCode.NOT_FOUND),
    # answered like an attempt that is over, since for this caller there is none
    **dict.fromkeys(
        ["SendStepActionEvent", "SendBatchActionEvent", "SendGroupKeyActionEvent", "ReleaseSlot"], StatusCode.OK
    ),
    "SubscribeToWorkflowEvents": StatusCode.NOT_FOUND,
    "RefreshTimeout": StatusCode.FAILED_PRECONDITION,
}


def unserved() -> Iterator[tuple[str, StatusCode]]:
    return ((name, StatusCode.UNIMPLEMENTED) for name in UNSERVED)


@pytest.mark.parametrize(
    ("pod", "pool", "namespace", "want"),
    [
        pytest.param(True, "main", NAMESPACE, {"Register": StatusCode.PERMISSION_DENIED}, id="another pod of the pool"),
        pytest.param(
            True,
            "other",
            NAMESPACE,
            {"Register": StatusCode.PERMISSION_DENIED, "PutWorkflow": StatusCode.INVALID_ARGUMENT},
            id="a pod of another pool",
        ),
        pytest.param(
            False, "other", NAMESPACE, {"PutWorkflow": StatusCode.INVALID_ARGUMENT}, id="another pool's token"
        ),
        pytest.param(
            True,
            "main",
            "bank",
            {**OTHER_NAMESPACE, "Register": StatusCode.PERMISSION_DENIED},
            id="a pod of another namespace",
        ),
        pytest.param(False, "main", "bank", OTHER_NAMESPACE, id="a token of another namespace"),
    ],
)
async def test_a_worker_is_safe_from(
    pod: bool, pool: str, namespace: str, want: dict[str, StatusCode], victim: Victim
) -> None:
    await create_pod(victim.instance.api, "stranger", pool=pool, namespace=namespace)
    if pod:
        token = await request_token(victim.instance.api, "stranger", namespace=namespace)
    else:
        token = mint_token(Caller(namespace=namespace, pool=pool), key=KEY, grpc_address="a:1")
    assert await statuses(victim, token) == {**SAME_NAMESPACE, **want, **dict(unserved())}


async def test_the_pools_token_speaks_for_all_of_the_pool(victim: Victim) -> None:
    token = mint_token(Caller(namespace=NAMESPACE, pool="main"), key=KEY, grpc_address="a:1")
    async with stranger(victim, token) as caller:
        requests = victim.requests()
        for name in ("Heartbeat", "RefreshTimeout", "PutLog", "SendStepActionEvent"):
            assert await caller.call(METHODS[name], requests[name]) is StatusCode.OK
    assert (await victim.instance.finished("run"))["phase"] == "Succeeded"


async def test_a_log_line_is_printed_for_whoever_has_or_had_its_attempt_and_nobody_else(
    victim: Victim, caplog: pytest.LogCaptureFixture
) -> None:
    def line(text: str, attempt: str) -> events_wire.PutLogRequest:
        return events_wire.PutLogRequest(task_run_external_id=attempt, message=text)

    def token_of(pool: str, namespace: str = NAMESPACE) -> str:
        return mint_token(Caller(namespace=namespace, pool=pool), key=KEY, grpc_address="a:1")

    attempt, put_log = victim.action.task_run_external_id, METHODS["PutLog"]
    caplog.set_level(logging.INFO)
    for over in (False, True):
        if over:
            async with stranger(victim, token_of("main")) as own:
                requests = victim.requests()
                assert await own.call(METHODS["SendStepActionEvent"], requests["SendStepActionEvent"]) is StatusCode.OK
            await victim.instance.finished("run")
            await victim.instance.until(lambda: attempt not in victim.instance.engine.runs.attempts)
        for token in (token_of("other"), token_of("main", "bank")):
            async with stranger(victim, token) as thief:
                assert await thief.call(put_log, line("forged", attempt)) is StatusCode.PERMISSION_DENIED
        async with stranger(victim, token_of("main")) as own:
            assert await own.call(put_log, line(f"over: {over}", attempt)) is StatusCode.OK
            assert await own.call(put_log, line("made up", "made-up")) is StatusCode.FAILED_PRECONDITION
    printed = [record.getMessage() for record in caplog.records if record.name == "hatchet_operator.steps"]
    assert printed == ["over: False", "over: True"]


async def test_a_batch_with_one_foreign_attempt_changes_nothing(victim: Victim) -> None:
    await create_pod(victim.instance.api, "other", pool="side")
    other = ScriptedWorker(
        ClientConfig(
            host_port=victim.instance.operator.grpc_address, token=await request_token(victim.instance.api, "other")
        )
    )
    await other.put_workflow("side")
    await other.start()
    await victim.instance.create_run("side-run", "side")
    own = await other.next()
    items = [
        wire.BatchActionEventItem(task_run_external_id=attempt)
        for attempt in (own.task_run_external_id, victim.action.task_run_external_id)
    ]
    batch = wire.BatchActionEvent(worker_id=other.id, event_type=wire.STEP_EVENT_TYPE_COMPLETED, items=items)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await other.call(other.dispatcher.SendBatchActionEvent, batch)
    assert refused.value.code() is StatusCode.PERMISSION_DENIED
    assert 'Pod "other" of pool "side" was not given step "work" of run "run"' in (refused.value.details() or "")
    assert await victim.instance.phase("side-run") == "Pending"
    await other.complete(own)
    assert (await victim.instance.finished("side-run"))["phase"] == "Succeeded"
    await other.close()


async def test_a_pod_spawns_in_its_namespace(victim: Victim) -> None:
    child = await victim.worker.spawn(victim.action, "etl")
    assert (await victim.instance.api.get(RUNS, NAMESPACE, child))["spec"]["parent"]["name"] == "run"
    root = await victim.worker.trigger("etl")
    assert "parent" not in (await victim.instance.api.get(RUNS, NAMESPACE, root))["spec"]


async def test_a_worker_is_known_by_its_token_and_dies_with_its_pod(victim: Victim) -> None:
    registry = victim.instance.engine.registry
    (worker,) = registry.workers_of_pool(ObjectRef(NAMESPACE, "main"))
    assert worker.pod_uid == victim.pod_uid, "the request did not name the Pod"
    await victim.instance.api.delete(PODS, NAMESPACE, "mine", grace_seconds=0)
    await victim.instance.until(lambda: worker.dead)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await victim.worker.call(victim.worker.dispatcher.GetVersion, wire.GetVersionRequest())
    assert refused.value.code() is StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("pool", "want"), [pytest.param("main", True, id="of the pool"), pytest.param("side", False, id="of another pool")]
)
async def test_a_pools_token_names_a_pod(pool: str, want: bool, victim: Victim) -> None:
    pod = await create_pod(victim.instance.api, "claimed", pool="main")
    token = mint_token(Caller(namespace=NAMESPACE, pool=pool), key=KEY, grpc_address="a:1")
    async with grpc.aio.insecure_channel(victim.instance.operator.grpc_address) as channel:
        worker = RawWorker(channel, f"{token}~{pod['metadata']['uid']}")
        await worker.register(f"of-{pool}")
    registry = victim.instance.engine.registry
    known = {each.id: each.pod_uid for each in registry.workers_of_pool(ObjectRef(NAMESPACE, pool))}
    assert known[worker.worker_id] == (pod["metadata"]["uid"] if want else None)
    annotations = (await victim.instance.api.get(PODS, NAMESPACE, "claimed"))["metadata"].get("annotations", {})
    assert (labels.REGISTRATION in annotations) is want


async def test_a_user_of_a_deployment_is_told_which_label_is_missing(victim: Victim) -> None:
    token = await a_pod_without_a_pool(victim)
    worker = ScriptedWorker(ClientConfig(host_port=victim.instance.operator.grpc_address, token=token))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await worker.put_workflow("theirs")
    assert "set the label hatchet-operator.dev/pool: <name> in the pod template" in (refused.value.details() or "")
    await worker.close()


def user_of(pod: Json) -> Json:
    """Return whose token a Pod's is."""
    bound = "authentication.kubernetes.io/pod-"
    extra = {f"{bound}name": [pod["metadata"]["name"]], f"{bound}uid": [pod["metadata"]["uid"]]}
    return {"username": f"system:serviceaccount:{NAMESPACE}:worker", "extra": extra}


async def test_a_worker_of_the_sdk_follows_the_token_that_the_kubelet_renews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hatchet = Hatchet()

    @hatchet.workflow(name="parent")
    class Parent:
        @hatchet.step()
        async def work(self, context: Context) -> dict[str, Any]:
            child = await context.aio.spawn_workflow("child", {}, key="only")
            return {"child": await child.result()}

    @hatchet.workflow(name="child")
    class Child:
        @hatchet.step()
        def work(self, context: Context) -> dict[str, bool]:
            return {"done": True}

    async with running_operator(token_audience=AUDIENCE) as instance:
        instance.surroundings.sdk_pace = Pace(read_again=0)
        pod = await create_pod(instance.api, "mine", pool="main")
        first = "the-first-token"
        instance.server.tokens[first] = user_of(pod)
        file = tmp_path / "token"
        address = instance.operator.grpc_address
        monkeypatch.setattr(
            instance,
            "config",
            lambda pool: ClientConfig(host_port=address, token_file=str(file), tls_strategy="none"),
        )
        file.write_text(first)
        await instance.work(Parent(), Child())
        file.write_text(await request_token(instance.api, "mine"))
        del instance.server.tokens[first]  # it ends
        instance.surroundings.ahead = timedelta(minutes=11)  # tokens that do not say when they end are judged again
        await instance.until(lambda: instance.engine.callers.known(first) is None)
        await instance.create_run("run", "parent")
        assert (await instance.finished("run"))["phase"] == "Succeeded"
