"""Payloads on a real S3 server: signatures, listings, parts of large objects, a server that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchet_sdk import Context, Hatchet, PayloadError, PayloadLost, StoreUnavailable
from hatchet_sdk.payloads.store import PayloadStore
from tests.integration.inprocess import NAMESPACE, Instance, running_operator
from tests.integration.s3_server import BUCKET, S3Server, s3_server
from tests.kube.eventually import eventually

ROOT = f"s3://{BUCKET}/runs"
OWNER = "5f1d3c1e-0000-4000-8000-000000000001"
LARGE = "ä" * 200_000

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Server]:
    with s3_server(tmp_path) as found:
        if found is None:
            pytest.skip("no S3 server: make test builds one where Go is at hand, or HATCHET_TEST_S3_SERVER names it")
        await found.start()
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
async def world(server: S3Server) -> AsyncIterator[Instance]:
    async with running_operator(payload_store=ROOT) as instance:
        yield instance


@hatchet.workflow()
class Double:
    @hatchet.step()
    async def double(self, context: Context) -> dict[str, str]:
        return {"rows": context.workflow_input()["rows"] * 2}


async def until_stored(server: S3Server, count: int) -> None:
    async def holds() -> bool:
        return len(server.stored()) == count

    await eventually(holds, within_seconds=60)


@pytest.mark.parametrize("size", [1, 1_000_000, 12_000_000], ids=["small", "large", "in parts"])
async def test_what_is_put_is_what_is_got(server: S3Server, size: int) -> None:
    store = PayloadStore(f"{ROOT}/etl")
    reference = await store.put(OWNER, "x" * size)
    assert reference.url == f"s3://{BUCKET}/runs/etl/{OWNER}/{reference.sha256}"
    assert await store.get(reference) == "x" * size
    assert [path async for path, _ in PayloadStore(ROOT).objects()] == [f"etl/{OWNER}/{reference.sha256}"]
    assert await store.remove(OWNER) == 1
    with pytest.raises(PayloadLost, match="is no longer in the store"):
        await store.get(reference)


async def test_many_objects_are_listed_and_removed(server: S3Server) -> None:
    store = PayloadStore(ROOT)
    await asyncio.gather(*(store.put(OWNER, f"text {number}") for number in range(1_100)))  # a page has 1000
    assert len([path async for path, _ in store.objects()]) == 1_100
    assert await store.remove(OWNER) == 1_100
    assert [path async for path, _ in store.objects()] == []


async def test_a_store_says_no_in_words(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PayloadError, match=r"payload s3://other/.* can't be stored"):
        await PayloadStore("s3://other").put(OWNER, "{}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PayloadError, match=r"the store denies access \(credentials\?\)") as refused:
        await PayloadStore(ROOT).put(OWNER, "{}")
    assert not isinstance(refused.value, StoreUnavailable)


async def test_runs_of_our_sdk_and_of_others(world: Instance, server: S3Server) -> None:
    client = await world.work(Double(), payloads=f"{ROOT}/{NAMESPACE}")
    ref = await client.admin.aio.run_workflow("Double", {"rows": LARGE})
    assert await ref.result() == {"double": {"rows": LARGE * 2}}
    assert await world.hatchet().admin.get_workflow_run(str(ref)).result() == {"double": {"rows": LARGE * 2}}
    await until_stored(server, 2)
    await world.delete_run(str(ref))
    await until_stored(server, 0)


async def test_an_output_is_not_lost_while_the_store_is_away(world: Instance, server: S3Server) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @hatchet.workflow(name="Slow")
    class Slow:
        @hatchet.step(timeout="1m")
        async def make(self, context: Context) -> dict[str, str]:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go_on.wait(), loop))
            return {"rows": LARGE}

    client = await world.work(Slow(), payloads=f"{ROOT}/{NAMESPACE}")
    ref = await client.admin.aio.run_workflow("Slow", {})
    await begun.wait()
    server.kill()
    go_on.set()
    await asyncio.sleep(1)  # in which nobody answers
    assert await world.phase(str(ref)) in ("Pending", "Running")
    await server.start()
    assert await ref.result() == {"make": {"rows": LARGE}}


async def test_removal_waits_for_a_store_that_is_away(world: Instance, server: S3Server) -> None:
    client = await world.work(Double(), payloads=f"{ROOT}/{NAMESPACE}")
    ref = await client.admin.aio.run_workflow("Double", {"rows": LARGE})
    await ref.result()
    server.kill()
    await world.delete_run(str(ref))
    await world.until_gone(str(ref))
    await server.start()
    await until_stored(server, 0)


async def test_a_run_says_that_its_output_may_not_be_stored(
    world: Instance, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    @hatchet.workflow(name="Make")
    class Make:
        @hatchet.step()
        async def make(self, context: Context) -> dict[str, str]:
            return {"rows": LARGE}

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    client = await world.work(Make(), payloads=f"{ROOT}/{NAMESPACE}")
    status = await world.finished(str(await client.admin.aio.run_workflow("Make", {})))
    error = status["steps"]["make"]["error"]
    assert 'what step "make" returned can\'t be stored' in error
    assert "the store denies access (credentials?)" in error
