"""What the engine is told of pods, runs and limits; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hatchet_operator.cluster.api import Api, Page, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import PODS, Resource
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.watches import Watches
from hatchet_operator.pace import TURN_SECONDS
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.pod import Pod
from tests.kube.virtual_time import VirtualTimeLoop


class Pods(Api):
    """A server with one pod, and another one later."""

    def __init__(self) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)

    async def list_pages(self, resource: Resource, *args: object, **kwargs: object) -> AsyncIterator[Page]:
        yield Page(items=[pod("bad", 1)] if resource is PODS else [], version="1")

    async def watch(self, resource: Resource, *args: object, **kwargs: object) -> AsyncIterator[tuple[str, Json]]:
        await asyncio.sleep(1)
        if resource is PODS:
            yield "ADDED", pod("good", 2)
        await asyncio.sleep(3600)


def pod(name: str, version: int) -> Json:
    metadata = {"name": name, "namespace": "etl", "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"containers": [{"name": "worker"}]}}


def test_an_observer_that_fails_is_counted_and_keeps_no_other_object_from_it() -> None:
    seen: list[str] = []
    metrics = Metrics()

    def observe(kind: str, pod: Pod) -> None:
        if pod.name == "bad":
            raise RuntimeError("a mistake of ours")
        seen.append(pod.name)

    async def test() -> None:
        watches = Watches(
            Pods(),
            Scope(),
            silence_seconds=60,
            turn_seconds=TURN_SECONDS,
            metrics=metrics,
            on_absence=lambda: None,
            runs=RunObserver(RunStore(), RunFeed(), clock=Clock()),
            on_limit=lambda *_: None,
            on_pod=(observe,),
        )
        await watches.start()
        await asyncio.sleep(10)
        await watches.stop()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test())
    counter = "hatchet_operator_objects_not_observed_total"
    assert metrics.registry.get_sample_value(counter, {"resource": "pods"}) == 1
    assert seen == ["good"]
