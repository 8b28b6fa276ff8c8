"""Asks for runs of every kind, all the time, and remembers what was answered."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.acts import Act, plan_act
from hatchet_operator.errors import Conflict, NotFound
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_sdk import ClientConfig, Hatchet, HatchetError, InvalidRequest, RateLimitDuration, StepRunEventType
from tests.integration.harness import NAMESPACE, Cluster
from tests.mixed_load.history import Asked
from tests.mixed_load.rules import LARGE_BYTES, RATE_LIMITS

_PAUSE_SECONDS = 0.15
_GROUPS = 2


class Load:
    """Asks until it is told to stop; what was asked for is in `asked`.

    Args:
        cluster: Where.
        chance: Decides what comes next.
    """

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._hatchet = Hatchet(
            config=ClientConfig(
                host_port=cluster.grpc_address,
                token=cluster.token(),
                tls_strategy="none",
                payloads=f"{cluster.settings['payload_store']}/{NAMESPACE}",
            )
        )
        self._listening: set[asyncio.Task[None]] = set()
        self._names = 0
        self._held: list[str] = []
        self._broken: list[str] = []
        self.asked: list[Asked] = []
        self.resumed_at: dict[str, float] = {}
        self.heard: dict[str, list[str]] = {}

    async def begin(self) -> None:
        """Set what the runs need."""
        durations = {1.0: RateLimitDuration.SECOND, 60.0: RateLimitDuration.MINUTE}
        for limit, seconds in RATE_LIMITS.values():
            duration = durations[seconds]
            await self._hatchet.admin.aio.put_rate_limit(duration.value.lower(), limit, duration)

    async def run(self, until: asyncio.Event) -> None:
        kinds: dict[Callable[[], Awaitable[None]], int] = {
            self._fan_out: 2,
            self._leaf: 4,
            self._grouped: 8,
            self._event: 2,
            self._cancel: 2,
            self._limited: 3,
            self._hold: 1,
            self._resume: 1,
            self._break: 1,
            self._mend: 1,
            self._labelled: 1,
            self._stick: 2,
            self._listen: 1,
            self._heavy: 1,
        }
        while not until.is_set():
            (ask,) = self._chance.choices(list(kinds), weights=list(kinds.values()))
            await ask()
            await asyncio.sleep(self._chance.uniform(0, 2 * _PAUSE_SECONDS))

    async def _fan_out(self) -> None:
        given = {"children": self._chance.randint(1, 30), "failures": self._chance.choice([0, 0, 1])}
        await self._create("FanOut", given | {"record": self._chance.choice(["full", "result"])})

    async def _leaf(self) -> None:
        given = {"number": self._names, "seconds": self._seconds(), "failures": self._chance.choice([0, 0, 1])}
        await self._create("Leaf", given)

    async def _grouped(self) -> None:
        workflow = self._chance.choice(["Queued", "RoundRobin", "NewestWins", "OldestWins"])
        group = f"group-{self._chance.randrange(_GROUPS)}"
        await self._create(workflow, {"group": group, "seconds": 3 * self._seconds()})

    async def _event(self) -> None:
        """Push an event, perhaps again; without an answer it is pushed until there is one, as its author would."""
        event_id = self._next("event")
        for _ in range(self._chance.choice([1, 2])):
            while True:
                try:
                    await self._hatchet.event.aio_push(
                        "mixed:event", {"seconds": self._seconds()}, options={"event_id": event_id}
                    )
                    break
                except HatchetError:
                    await asyncio.sleep(_PAUSE_SECONDS)
        self.asked.append(Asked(workflow="Told", run=event_id, is_event=True))

    async def finish(self) -> None:
        """Ask for what is still to be asked for, so that all may end well."""
        while self._held:
            await self._resume()
        broken = len(self._broken)
        while broken:
            await self._mend()
            broken = len(self._broken)
            await asyncio.sleep(_PAUSE_SECONDS)
        await asyncio.gather(*self._listening)

    async def _labelled(self) -> None:
        await self._create("Labelled", {"seconds": self._seconds()})

    async def _stick(self) -> None:
        """Make a run that sticks to a worker, or one whose children stick to its worker."""
        if self._chance.random() < 0.5:
            await self._create("Stuck", {"seconds": self._seconds()})
        else:
            await self._create("Family", {"children": self._chance.randint(1, 3)})

    async def _listen(self) -> None:
        name = await self._create("Speaking", {})
        listening = asyncio.create_task(self._hear(name))
        self._listening.add(listening)

    async def _hear(self, name: str) -> None:
        heard = self.heard[name] = []
        async for event in self._hatchet.admin.get_workflow_run(name).stream():
            if event.type is StepRunEventType.STEP_RUN_EVENT_TYPE_STREAM:
                heard.append(event.payload)

    async def _heavy(self) -> None:
        """Ask for a run with a large input, until there is an answer; the request is one."""
        letter = self._chance.choice("abc")
        request_id = self._next("heavy")
        while True:
            try:
                ref = await self._hatchet.admin.aio.run_workflow(
                    "Heavy", {"text": letter * LARGE_BYTES}, {"request_id": request_id}
                )
                break
            except InvalidRequest:
                raise
            except HatchetError:
                await asyncio.sleep(_PAUSE_SECONDS)
        self.asked.append(Asked(workflow="Heavy", run=str(ref), input={"letter": letter}))

    async def _limited(self) -> None:
        workflow = self._chance.choice(["LimitedBySecond", "LimitedBySecond", "LimitedBySecond", "LimitedByMinute"])
        await self._create(workflow, {})

    async def _hold(self) -> None:
        """Make a run that is suspended."""
        self._held.append(await self._create("Leaf", {"seconds": self._seconds()}, suspended=True))

    async def _resume(self) -> None:
        if self._held:
            name = self._held.pop(0)
            self.resumed_at[name] = time.time()
            await self._do(Act.RESUME, name)

    async def _break(self) -> None:
        """Make a run that fails until it is mended and replayed."""
        self._broken.append(await self._create("Mended", {"number": self._names}))

    async def _mend(self) -> None:
        """Replay a run that has failed, once what it needs is there; one that has not yet has its turn later."""
        if not self._broken:
            return
        name = self._broken.pop(0)
        run = WorkflowRun.model_validate(await self._cluster.run(name))
        if run.status.phase is not Phase.FAILED:
            self._broken.append(name)
            return
        (self._cluster.directory / f"mended-{name}").touch()
        await self._do(Act.RETRY, name)

    async def _do(self, act: Act, name: str) -> None:
        while True:
            verdict = plan_act(act, WorkflowRun.model_validate(await self._cluster.run(name)))
            assert verdict.patch is not None, verdict.says
            try:
                await self._cluster.api.patch(RUNS, NAMESPACE, name, verdict.patch)
            except Conflict:
                continue  # its status was written meanwhile
            return

    async def _cancel(self) -> None:
        """Cancel a run that may be anywhere."""
        parents = [asked.run for asked in self.asked[-12:] if asked.workflow in {"FanOut", "Leaf"}]
        if parents:
            patch = {"spec": {"cancelled": True}}
            try:
                await self._cluster.api.patch(RUNS, NAMESPACE, self._chance.choice(parents), patch)
            except NotFound as error:
                raise AssertionError("a run that was answered is not there") from error

    async def _create(self, workflow: str, given: Json, **more: bool) -> str:
        name = self._next(workflow.lower())
        spec: Json = {"workflow": workflow.lower(), "input": given, "priority": self._chance.randint(1, 3), **more}
        body = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": {"name": name}, "spec": spec}
        await self._cluster.api.create(RUNS, NAMESPACE, body)
        self.asked.append(Asked(workflow=workflow, run=name, input=given))
        return name

    def _next(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names:05d}"

    def _seconds(self) -> float:
        return round(self._chance.uniform(0, 0.6), 3)
