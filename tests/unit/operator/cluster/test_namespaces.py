"""The objects of a shard's namespaces, whichever come and go, against the embedded API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import CONFIG_MAPS, NAMESPACES
from hatchet_operator.cluster.namespaces import NamespacedInformer, Namespaces
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.apiserver import ApiServer
from tests.kube.eventually import eventually


class Watched:
    """A shard whose namespaces begin with "ours", and what was said of the ConfigMaps there."""

    def __init__(self, server: ApiServer, api: Api) -> None:
        self.server = server
        self.api = api
        self.changes: list[tuple[str, str, str]] = []
        self.made: list[str] = []
        self.namespaces = Namespaces(api, covers=lambda name: name.startswith("ours"), silence_seconds=60)
        self.informer = NamespacedInformer(self.namespaces, self._make)

    def _make(self, namespace: str) -> Informer:
        self.made.append(namespace)
        return Informer(
            self.api,
            CONFIG_MAPS,
            on_change=self._observe,
            namespace=namespace,
            field_selector="metadata.name!=kube-root-ca.crt",
        )

    def _observe(self, kind: str, obj: Json) -> None:
        self.changes.append((kind, obj["metadata"]["namespace"], obj["metadata"]["name"]))

    async def create_namespace(self, name: str) -> None:
        await self.api.create(NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def create(self, namespace: str, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        await self.api.create(CONFIG_MAPS, namespace, body)

    async def until(self, holds: Callable[[], bool]) -> None:
        async def check() -> bool:
            return holds()

        await eventually(check)


@asynccontextmanager
async def watched(**namespaces: list[str]) -> AsyncIterator[Watched]:
    """Watch, with these namespaces and the ConfigMaps in them there from the start."""
    server = ApiServer()
    url = await server.start()
    async with Api(Endpoint(server=url), may_write=always) as api:
        shard = Watched(server, api)
        for namespace, names in namespaces.items():
            await shard.create_namespace(namespace)
            for name in names:
                await shard.create(namespace, name)
        tasks = [asyncio.create_task(shard.namespaces.informer.run())]
        await shard.namespaces.informer.synced.wait()
        tasks.append(asyncio.create_task(shard.informer.run()))
        await asyncio.wait_for(shard.informer.synced.wait(), 60)
        try:
            yield shard
        finally:
            for task in tasks:
                task.cancel()
            ends: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop()
            assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def test_only_ours_are_read_and_all_of_them_before_it_is_synced() -> None:
    async with watched(ours1=["a"], ours2=["b", "c"], theirs=["d"]) as shard:
        assert sorted(shard.changes) == [("ADDED", "ours1", "a"), ("ADDED", "ours2", "b"), ("ADDED", "ours2", "c")]
        assert sorted(shard.made) == ["ours1", "ours2"]
        await shard.create("theirs", "e")
        await shard.create("ours1", "f")
        await shard.until(lambda: ("ADDED", "ours1", "f") in shard.changes)
        assert not [change for change in shard.changes if change[1] == "theirs"]


async def test_a_shard_without_a_namespace_is_synced_at_once() -> None:
    async with watched(theirs=["d"]) as shard:
        assert shard.changes == []
        assert shard.informer.last_event_at > 0, "or it would be taken for stuck"


async def test_a_namespace_that_comes_is_watched_and_one_that_is_gone_no_longer() -> None:
    async with watched() as shard:
        await shard.create_namespace("ours1")
        await shard.create("ours1", "a")
        await shard.until(lambda: shard.changes == [("ADDED", "ours1", "a")])
        await shard.api.delete(NAMESPACES, None, "ours1")
        await shard.until(lambda: ("DELETED", "ours1", "a") in shard.changes)
        await shard.until(lambda: not shard.informer.watched())
        await shard.create_namespace("ours1")  # again
        await shard.create("ours1", "b")
        await shard.until(lambda: ("ADDED", "ours1", "b") in shard.changes)
        assert shard.made == ["ours1", "ours1"]


async def test_what_was_deleted_with_its_namespace_is_told_even_if_its_watch_missed_it() -> None:
    async with watched(ours1=["a"]) as shard:
        match = {"verb": "watch", "resource": "configmaps"}
        shard.server.faults.install([{"match": match, "action": "silent", "times": 0}])
        await shard.api.delete(NAMESPACES, None, "ours1")
        await shard.until(lambda: ("DELETED", "ours1", "a") in shard.changes)
