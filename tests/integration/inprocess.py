"""Embedded API server, operator and workers in the test's own process: quick to start, and nothing is hidden.

`ScriptedWorker` speaks the protocol word by word, for tests of identity and of messages in odd orders. `Instance.work`
runs the real SDK in a thread, so that a test can define its workflows where it uses them and see what they did.
"""

from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import EVENTS, REVISIONS, RUNS, WORKFLOWS
from hatchet_operator.cluster.leases import monotonic
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.engine import Engine
from hatchet_operator.errors import NotFound
from hatchet_operator.operator import Operator
from hatchet_operator.pace import Pace
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.receiver.server import Receiver
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_sdk import ClientConfig, Hatchet
from hatchet_sdk._client.pace import Pace as SdkPace
from hatchet_sdk._hatchet import paced
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub
from hatchet_sdk.contracts.events_pb2_grpc import EventsServiceStub
from hatchet_sdk.contracts.headers import NAMES, RUN_IDS
from hatchet_sdk.contracts.workflows_pb2_grpc import WorkflowServiceStub
from tests.kube.eventually import eventually
from tests.kube.session import Session

NAMESPACE = "default"
POOL = "main"
CRDS = Path(__file__).parents[2] / "crds"
KEY = "a-key-for-tests-" * 4
FINAL = ("Succeeded", "Failed", "Cancelled")
_WRITES = ("create", "update", "patch", "delete")
SECONDS = 60.0  # what takes longer will not happen, on a machine that does five other things as well


class Surroundings:
    """What is around a test's operator: clocks that can be put forward, and sessions that can be detoured.

    Args:
        pace: How long the operator waits for what; clients of a test may leave streams open, so there is no grace.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace or Pace(grace=0.0)
        self.sdk_pace = SdkPace()
        """How long clients wait for what; those that were made before keep theirs."""
        self.ahead = timedelta()
        """How far the operator's clocks are ahead of the machine's; its timers are not."""
        self._session: Callable[[], Session | None] = lambda: None

    @property
    def clock(self) -> Clock:
        return Clock(
            now=lambda: datetime.now(UTC) + self.ahead, boot_time=lambda: monotonic() + self.ahead.total_seconds()
        )

    def open_api(self, *args: Any, **options: Any) -> Session:
        session = Session(*args, **options)
        self._session = weakref.ref(session)  # it must not outlive its term
        return session

    @property
    def session(self) -> Session:
        """The session of the operator's last term."""
        session = self._session()
        assert session is not None, "there was none, or it is gone"
        return session


class Instance:
    """An API server and one operator, and the workers of a test."""

    def __init__(
        self,
        server: ApiServer,
        url: str,
        api: Api,
        operator: Operator,
        surroundings: Surroundings,
        stack: AsyncExitStack,
    ) -> None:
        self.surroundings = surroundings
        self.server = server
        self.url = url
        self.api = api
        self.operator = operator
        self._stack = stack

    @property
    def engine(self) -> Engine:
        assert self.operator.engine is not None
        return self.operator.engine

    # --- Workers

    def config(self, pool: str = POOL) -> ClientConfig:
        address = self.operator.grpc_address
        token = mint_token(Caller(namespace=NAMESPACE, pool=pool), key=KEY, grpc_address=address)
        return ClientConfig(host_port=address, token=token, tls_strategy="none")

    def hatchet(self, pool: str = POOL, **config: Any) -> Hatchet:
        return paced(self.surroundings.sdk_pace, replace(self.config(pool), **config))

    async def work(self, *workflows: object, slots: int = 20, pool: str = POOL, **config: Any) -> Hatchet:
        """Run a worker of the SDK in a thread until the test ends, and return once it is connected."""
        hatchet = self.hatchet(pool, **config)
        worker = hatchet.worker(f"{pool}-worker", max_runs=slots)
        for workflow in workflows:
            worker.register_workflow(workflow)
        before = self.connected(pool)
        thread = threading.Thread(target=worker.start, daemon=True)
        thread.start()

        async def stop() -> None:
            worker.stop()
            await asyncio.to_thread(thread.join, 5)

        self._stack.push_async_callback(stop)
        await self.until(lambda: self.connected(pool) > before)
        return hatchet

    def connected(self, pool: str = POOL) -> int:
        """Return how many workers of a pool listen."""
        return len(self.listening(pool))

    def listening(self, pool: str = POOL) -> list[str]:
        """Return the ids of a pool's workers that listen."""
        workers = self.engine.registry.workers_of_pool(ObjectRef(NAMESPACE, pool))
        return [worker.id for worker in workers if worker.is_connected]

    async def scripted(self, *, pool: str = POOL, pod: Json | None = None, takes_names: bool = True) -> ScriptedWorker:
        """Return a worker; with ``pod`` one that says to be in there, with ``takes_names=False`` as published ones."""
        config = self.config(pool)
        if pod is not None:
            config = replace(config, token=f"{config.token}~{pod['metadata']['uid']}")
        worker = ScriptedWorker(config, pool=pool, takes_names=takes_names)
        worker.clock = self.surroundings.clock
        worker.is_listening = lambda: worker.id in self.listening(pool)
        self._stack.push_async_callback(worker.close)
        return worker

    def fall_silent(self, worker: ScriptedWorker) -> None:
        """Have nothing been heard of a worker for longer than the operator waits, however long that is."""
        registry = self.engine.registry
        known = next(one for one in registry.workers_of_pool(worker.pool) if one.id == worker.id)
        known.last_seen -= 3600
        registry.deaths.check_silence(known, asyncio.get_running_loop().time())

    async def time_passes(self, seconds: float, run: str) -> None:
        """Put the operator's clocks forward, and have it look at a run, as its timer would."""
        self.surroundings.ahead += timedelta(seconds=seconds)
        looked_at = {"tests/looked-at": str(self.surroundings.ahead)}
        answer = await self.api.patch(RUNS, NAMESPACE, run, {"metadata": {"annotations": looked_at}})
        version, ref = int(answer["metadata"]["resourceVersion"]), ObjectRef(NAMESPACE, run)

        def is_looked_at() -> bool:
            record = self.engine.store.get(ref)
            return (record is None or record.version >= version) and self.engine.runs.are_at_rest

        await self.until(is_looked_at)

    # --- Objects

    async def create_run(self, name: str, workflow: str, input: Json | None = None, **spec: Any) -> Json:  # the field
        body = make_run(name, workflow, **({"input": input} if input is not None else {}), **spec)
        return await self.api.create(RUNS, NAMESPACE, body)

    async def run(self, name: str) -> Json:
        return await self.api.get(RUNS, NAMESPACE, name)

    async def runs(self, label_selector: str | None = None) -> list[Json]:
        return (await self.api.list_all(RUNS, NAMESPACE, label_selector=label_selector))[0]

    async def patch_run(self, name: str, **spec: Any) -> Json:
        """Change a run's spec as ``kubectl patch --type=merge`` does."""
        return await self.api.patch(RUNS, NAMESPACE, name, {"spec": spec})

    async def phase(self, name: str) -> str:
        return str((await self.run(name)).get("status", {}).get("phase", "Pending"))

    async def finished(self, name: str, *, reruns: int = 0) -> Json:
        """Wait until a run is final; return its status."""

        async def is_final() -> bool:
            status = (await self.run(name)).get("status", {})
            return status.get("phase") in FINAL and status.get("reruns", 0) >= reruns

        try:
            await eventually(is_final, within_seconds=SECONDS)
        except TimeoutError:
            raise AssertionError(f"run {name} is not final: {await self.run(name)}") from None
        status: Json = (await self.run(name))["status"]
        return status

    async def delete_run(self, name: str) -> None:
        await self.api.delete(RUNS, NAMESPACE, name)

    async def hold_deletion(self, name: str) -> None:
        """Have a finalizer keep a run that is deleted."""
        await self.api.patch(RUNS, NAMESPACE, name, {"metadata": {"finalizers": ["tests/hold"]}})

    async def release_deletion(self, name: str) -> None:
        await self.api.patch(RUNS, NAMESPACE, name, {"metadata": {"finalizers": None}})

    async def exists(self, name: str) -> bool:
        try:
            await self.run(name)
        except NotFound:
            return False
        return True

    async def until_gone(self, name: str) -> None:
        async def gone() -> bool:
            return not await self.exists(name)

        await eventually(gone, within_seconds=SECONDS)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that this process can see."""

        async def check() -> bool:
            return holds()

        await eventually(check, within_seconds=SECONDS)

    async def until_phase(self, name: str, phase: str) -> None:
        async def is_there() -> bool:
            return await self.phase(name) == phase

        await eventually(is_there, within_seconds=SECONDS)

    async def create_workflow(self, name: str, **spec: Any) -> Json:
        body = {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
        return await self.api.create(WORKFLOWS, NAMESPACE, body)

    async def workflow(self, name: str) -> Json:
        return await self.api.get(WORKFLOWS, NAMESPACE, name)

    async def patch_workflow(self, name: str, **spec: Any) -> None:
        """Change a Workflow's spec, and wait until the operator has seen it."""
        answer = await self.api.patch(WORKFLOWS, NAMESPACE, name, {"spec": spec})
        version = int(answer["metadata"]["resourceVersion"])
        ref = ObjectRef(NAMESPACE, name)

        def seen() -> bool:
            workflow = self.engine.workflows.get(ref)
            return workflow is not None and int(workflow.metadata.resource_version) >= version

        await self.until(seen)

    async def until_pool_seen(self, name: str = POOL) -> None:
        """Wait until the operator knows a WorkerPool: until then a run that needs it says that there is none."""
        await self.until(lambda: ObjectRef(NAMESPACE, name) in self.engine.known_pools)

    async def condition(
        self,
        name: str,
        kind: str,
        *,
        status: str | None = None,
        of: Callable[[str], Awaitable[Json]] | None = None,
    ) -> Json:
        """Wait until an object (by default a run) has a condition, with this status if one is given; return it."""
        read = of or self.run
        found: Json = {}

        async def has() -> bool:
            nonlocal found
            conditions = (await read(name)).get("status", {}).get("conditions", [])
            found = next((condition for condition in conditions if condition["type"] == kind), {})
            return bool(found) and status in (None, found["status"])

        await eventually(has, within_seconds=SECONDS)
        return found

    async def event(self, name: str, reason: str) -> str:
        """Wait for a Warning event about an object; return its message."""
        message: str | None = None

        async def has() -> bool:
            nonlocal message
            events, _ = await self.api.list_all(EVENTS, NAMESPACE)
            message = next(
                (
                    event["message"]
                    for event in events
                    if (event["involvedObject"]["name"], event["reason"], event["type"]) == (name, reason, "Warning")
                ),
                None,
            )
            return message is not None

        await eventually(has, within_seconds=SECONDS)
        assert message is not None
        return message

    async def revisions(self) -> list[str]:
        items, _ = await self.api.list_all(REVISIONS, NAMESPACE)
        return [item["metadata"]["name"] for item in items]

    def writes(self, *, resource: str | None = None) -> int:
        """Count what the operator wrote, of one kind or of all."""
        return sum(
            count
            for (verb, _, plural, _, _, agent), count in self.server.requests.items()
            if verb in _WRITES and agent == "hatchet-operator" and resource in (None, plural)
        )

    def metric(self, name: str, **labels: str) -> float:
        return self.engine.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running_server(*, light_runs: bool = False) -> AsyncIterator[tuple[ApiServer, str]]:
    """Start an API server that knows our kinds, in the version of light runs too if asked; it and its URL."""
    server = ApiServer()
    for definition in load_crds(light_runs=light_runs):
        server.create(definition)
    url = await server.start()
    try:
        yield server, url
    finally:
        await server.stop()
    missed = server.faults.missed()
    assert not missed, f"faults that never fired, so that nothing was tested with them: {missed}"


@asynccontextmanager
async def running_operator(**settings: Any) -> AsyncIterator[Instance]:
    """Start an API server and an operator; durations among the settings are in seconds."""
    light_runs = settings.get("light_runs", False)
    async with running_server(light_runs=light_runs) as (server, url), operator_of(server, url, **settings) as instance:
        yield instance


@asynccontextmanager
async def operator_of(
    server: ApiServer, url: str, *, pace: Pace | None = None, **settings: Any
) -> AsyncIterator[Instance]:
    """Start an operator for an API server; see `running_operator`."""
    durations = (
        "running_after",
        "worker_silent",
        "rejoin",
        "cancel_grace",
        "run_ttl",
        "failed_run_ttl",
        "children_every",
        "payload_orphans_after",
    )
    given: dict[str, Any] = {
        name: timedelta(seconds=value) if name in durations and not isinstance(value, timedelta) else value
        for name, value in settings.items()
    }
    endpoint, surroundings = Endpoint(server=url), Surroundings(pace)
    async with (
        operator_at(endpoint, surroundings, **given) as operator,
        Api(endpoint, user_agent="test", may_write=always) as api,
        AsyncExitStack() as stack,
    ):
        yield Instance(server, url, api, operator, surroundings, stack)


@asynccontextmanager
async def operator_at(
    endpoint: Endpoint, surroundings: Surroundings | None = None, **settings: Any
) -> AsyncIterator[Operator]:
    """Start an operator for any API server that knows our kinds."""
    around = surroundings or Surroundings()
    operator = Operator(
        Settings(**{"token_key": KEY} | settings),
        endpoint,
        clock=around.clock,
        pace=around.pace,
        open_api=around.open_api,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(operator.run(stop))
    try:
        await _until_ready(operator, running)
        yield operator
    finally:
        stop.set()
        await running


@asynccontextmanager
async def receiving(instance: Instance, bounds: Bounds) -> AsyncIterator[str]:
    """Have an operator listen at one more port, with other bounds; tell at which address."""
    receiver = Receiver(instance.engine, bounds)
    port = await receiver.bind("127.0.0.1", 0)
    await receiver.listen()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await receiver.stop(0)


async def _until_ready(operator: Operator, running: asyncio.Task[None]) -> None:
    ready = asyncio.create_task(operator.ready.wait())
    await asyncio.wait((running, ready), timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if running.done():
        running.result()
    assert operator.ready.is_set()


class ScriptedWorker:
    """A worker that does nothing by itself.

    Its steps are functions of nothing: an attempt ends when the test says so.
    """

    def __init__(self, config: ClientConfig, *, pool: str = POOL, takes_names: bool = True) -> None:
        self.pool = ObjectRef(NAMESPACE, pool)
        self.channel = grpc.aio.insecure_channel(config.host_port or "")
        bearer = ("authorization", f"bearer {config.token}")
        self.metadata = (bearer, (RUN_IDS, NAMES)) if takes_names else (bearer,)
        self.dispatcher = DispatcherStub(self.channel)
        self.workflows = WorkflowServiceStub(self.channel)
        self.events = EventsServiceStub(self.channel)
        self.id = ""
        self.cancelled: list[str] = []
        self.clock = Clock()
        self.is_listening: Callable[[], bool] | None = None  # whether the operator knows, if the test can see that
        self._actions: list[str] = []
        self._revisions: list[str] = []
        self._started: asyncio.Queue[wire.AssignedAction] = asyncio.Queue()
        self._cancels = asyncio.Condition()
        self._listening: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._listening is not None:
            await self.stop_listening()
        await self.channel.close()

    async def call(self, method: Any, request: Any) -> Any:
        return await method(request, metadata=self.metadata, timeout=SECONDS)

    # --- Registration

    async def put_workflow(
        self,
        name: str,
        steps: Sequence[Mapping[str, Any]] = ({},),
        *,
        on_failure: Mapping[str, Any] | None = None,
        **opts: Any,
    ) -> str:
        """Register a workflow; a step's fields are the protocol's, its name is "work" by default."""

        def job(steps: Sequence[Mapping[str, Any]]) -> workflows_wire.CreateWorkflowJobOpts:
            made = []
            for fields in steps:
                step = fields.get("readable_id", "work")
                made.append(
                    workflows_wire.CreateWorkflowStepOpts(
                        **{"readable_id": step, "action": f"{name}:{step}".lower(), "timeout": "60s", **fields}
                    )
                )
                self._actions.append(made[-1].action)
            return workflows_wire.CreateWorkflowJobOpts(name=name, steps=made)

        request = workflows_wire.CreateWorkflowVersionOpts(name=name, jobs=[job(steps)], **opts)
        if on_failure is not None:
            request.on_failure_job.CopyFrom(job([on_failure]))
        answer = await self.call(self.workflows.PutWorkflow, workflows_wire.PutWorkflowRequest(opts=request))
        self._revisions.append(answer.id)
        return str(answer.id)

    def offer(self, action: str) -> None:
        """Offer an action beside those of the steps that were registered."""
        self._actions.append(action)

    async def start(self, *, slots: int = 100, as_our_sdk: bool = False) -> Self:
        """Register and listen; our SDK says its time and what it holds, others do not."""
        request = wire.WorkerRegisterRequest(
            worker_name="scripted", actions=self._actions, slots=slots, workflow_version_ids=self._revisions
        )
        if as_our_sdk:
            request.alive_at.FromDatetime(self.clock.now())
        self.id = (await self.call(self.dispatcher.Register, request)).worker_id
        await self.listen(as_our_sdk=as_our_sdk)
        return self

    async def listen(self, *, as_our_sdk: bool = False) -> None:
        listen = wire.WorkerListenRequest(worker_id=self.id, reports_held=as_our_sdk or None)
        stream = self.dispatcher.ListenV2(listen, metadata=self.metadata)
        self._listening = asyncio.create_task(self._listen(stream))
        if self.is_listening is not None:  # the call begins before the operator has seen it
            seen = self.is_listening

            async def is_seen() -> bool:
                return seen()

            await eventually(is_seen, within_seconds=SECONDS)

    async def stop_listening(self) -> None:
        """Have the stream end, as with the process that reads it; calls may still be made."""
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self, stream: Any) -> None:
        async for action in stream:
            if action.action_type == wire.CANCEL_STEP_RUN:
                async with self._cancels:
                    self.cancelled.append(action.task_run_external_id)
                    self._cancels.notify_all()
            else:
                self._started.put_nowait(action)

    async def drain(self, *, has_ended: bool = False) -> None:
        request = wire.WorkerUnsubscribeRequest(worker_id=self.id, has_ended=has_ended or None)
        await self.call(self.dispatcher.Unsubscribe, request)

    # --- Attempts

    async def next(self, *, within_seconds: float = SECONDS) -> wire.AssignedAction:
        """Return the next attempt that the operator gives to this worker."""
        return await asyncio.wait_for(self._started.get(), within_seconds)

    def put_back(self, action: wire.AssignedAction) -> None:
        """Have an attempt be the next one once more."""
        self._started.put_nowait(action)

    @property
    def has_nothing_new(self) -> bool:
        return self._started.empty()

    async def until_cancelled(self, action: wire.AssignedAction) -> None:
        async with asyncio.timeout(SECONDS), self._cancels:
            await self._cancels.wait_for(lambda: action.task_run_external_id in self.cancelled)

    async def complete(self, action: wire.AssignedAction, output: Any = None, *, text: str | None = None) -> None:
        payload = text if text is not None else "" if output is None else json.dumps(output)
        await self.report(action, wire.STEP_EVENT_TYPE_COMPLETED, payload)

    async def fail(self, action: wire.AssignedAction, error: str = "it broke", **fields: Any) -> None:
        await self.report(action, wire.STEP_EVENT_TYPE_FAILED, error, **fields)

    async def report(
        self, action: wire.AssignedAction, kind: wire.StepActionEventType.ValueType, payload: str, **fields: Any
    ) -> None:
        event = wire.StepActionEvent(
            worker_id=self.id,
            job_run_id=action.job_run_id,
            task_run_external_id=action.task_run_external_id,
            action_id=action.action_id,
            event_type=kind,
            event_payload=payload,
            **fields,
        )
        await self.call(self.dispatcher.SendStepActionEvent, event)

    # --- Runs

    async def trigger(self, workflow: str, input: Any = None, **fields: Any) -> str:  # the field
        request = self.request(workflow, input, **fields)
        return str((await self.call(self.workflows.TriggerWorkflow, request)).workflow_run_id)

    async def spawn(
        self,
        parent: wire.AssignedAction,
        workflow: str = "child",
        input: Any = None,  # the field
        *,
        key: str | None = None,
        index: int = -1,
        **fields: Any,
    ) -> str:
        return await self.trigger(workflow, input, **child_of(parent, key=key, index=index), **fields)

    @staticmethod
    def request(workflow: str, input: Any = None, **fields: Any) -> workflows_wire.TriggerWorkflowRequest:  # the field
        text = input if isinstance(input, str) else json.dumps(input if input is not None else {})
        return workflows_wire.TriggerWorkflowRequest(name=workflow, input=text, **fields)

    async def result(self, run: str, *, within_seconds: float = SECONDS) -> wire.WorkflowRunEvent:
        """Await a run on a stream of its own."""
        call = self.dispatcher.SubscribeToWorkflowRuns(metadata=self.metadata)
        try:
            await call.write(wire.SubscribeToWorkflowRunsRequest(workflow_run_id=run))
            event = await asyncio.wait_for(call.read(), within_seconds)
        finally:
            call.cancel()
        assert isinstance(event, wire.WorkflowRunEvent)
        return event


def child_of(parent: wire.AssignedAction, *, key: str | None = None, index: int = -1) -> dict[str, Any]:
    """Return the fields that make a trigger a spawn by this attempt."""
    fields: dict[str, Any] = {
        "parent_id": parent.workflow_run_id,
        "parent_task_run_external_id": parent.task_run_external_id,
        "child_index": index,
    }
    return fields if key is None else {**fields, "child_key": key}


def make_run(name: str, workflow: str, **spec: Any) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"workflow": workflow, **spec},
    }


def errors_of(event: wire.WorkflowRunEvent) -> list[str]:
    return [step.error for step in event.results if step.error]


def outputs_of(event: wire.WorkflowRunEvent) -> dict[str, Any]:
    return {step.task_name: json.loads(step.output) for step in event.results if step.output}


def step_of(status: Json, name: str = "work") -> Json:
    step: Json = status["steps"][name]
    return step
