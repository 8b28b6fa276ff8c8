"""Payloads on Google Cloud Storage, by the XML API that its library speaks: tokens, parts, listings, runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchet_sdk import Context, Hatchet, PayloadError, PayloadLost, StoreUnavailable
from hatchet_sdk.payloads.store import PayloadStore
from tests.integration.gcs_server import BUCKET, GcsServer, service_account
from tests.integration.inprocess import NAMESPACE, running_operator
from tests.integration.s3_server import find_server
from tests.kube.eventually import eventually

ROOT = f"gs://{BUCKET}/runs"
OWNER = "5f1d3c1e-0000-4000-8000-000000000001"
LARGE = "ä" * 200_000

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GcsServer]:
    program = find_server()
    if program is None:
        pytest.skip("no S3 server: make test builds one where Go is at hand, or HATCHET_TEST_S3_SERVER names it")
    found = GcsServer(program, tmp_path)
    try:
        await found.start()
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found
    finally:
        await found.stop()


async def paths_in(store: PayloadStore) -> list[str]:
    return [path async for path, _ in store.objects()]


@hatchet.workflow()
class Double:
    @hatchet.step()
    async def double(self, context: Context) -> dict[str, str]:
        return {"rows": context.workflow_input()["rows"] * 2}


async def test_what_is_put_is_what_is_got_listed_and_removed(server: GcsServer) -> None:
    store = PayloadStore(f"{ROOT}/etl")
    for size in (1, 1_000_000, 12_000_000):  # the last one goes in parts
        reference = await store.put(OWNER, "x" * size)
        assert reference.url == f"{ROOT}/etl/{OWNER}/{reference.sha256}"
        assert await store.get(reference) == "x" * size
    assert "POST uploads" in server.requests
    await asyncio.gather(*(store.put(OWNER, f"text {number}") for number in range(1_097)))  # a page has 1000
    assert len(await paths_in(PayloadStore(ROOT))) == 1_100
    assert await store.remove(OWNER) == 1_100
    assert await paths_in(store) == []
    with pytest.raises(PayloadLost, match="is no longer in the store"):
        await store.get(reference)
    assert [await store.claim(name) for name in ("one", "two")] == ["one", "one"]


async def test_a_store_says_no_in_words(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PayloadError, match=r"payload gs://other/.* can't be stored"):
        await PayloadStore("gs://other").put(OWNER, "{}")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_account()[0])
    with pytest.raises(PayloadError, match=r"the store denies access \(credentials\?\)") as refused:
        await PayloadStore(ROOT).put(OWNER, "{}")
    assert not isinstance(refused.value, StoreUnavailable)


async def test_runs_of_our_sdk_and_of_others(server: GcsServer) -> None:
    async with running_operator(payload_store=ROOT) as world:
        client = await world.work(Double(), payloads=f"{ROOT}/{NAMESPACE}")
        ref = await client.admin.aio.run_workflow("Double", {"rows": LARGE})
        assert await ref.result() == {"double": {"rows": LARGE * 2}}
        assert await world.hatchet().admin.get_workflow_run(str(ref)).result() == {"double": {"rows": LARGE * 2}}
        store = PayloadStore(f"{ROOT}/{NAMESPACE}")
        assert len(await paths_in(store)) == 2
        await world.delete_run(str(ref))

        async def holds() -> bool:
            return await paths_in(store) == []

        await eventually(holds, within_seconds=20)
