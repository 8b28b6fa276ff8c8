"""Payloads on Azure's Blob Storage, as Microsoft's emulator has it: signatures, listings, large objects, runs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchet_sdk import Context, Hatchet, PayloadError, PayloadLost, StoreUnavailable
from hatchet_sdk.payloads.store import PayloadStore
from tests.integration.azure_server import ACCOUNT, CONTAINER, AzureServer, find_server
from tests.integration.inprocess import NAMESPACE, running_operator
from tests.kube.eventually import eventually

ROOT = f"az://{ACCOUNT}/{CONTAINER}/runs"
OWNER = "5f1d3c1e-0000-4000-8000-000000000001"
LARGE = "ä" * 200_000

hatchet = Hatchet()  # for its decorators


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AzureServer]:
    program = find_server()
    if program is None:
        pytest.skip("no emulator of Azure: make test installs one where npm is at hand")
    found = AzureServer(program, tmp_path)
    try:
        await found.start()
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found
    finally:
        found.kill()


async def paths_in(store: PayloadStore) -> list[str]:
    return [path async for path, _ in store.objects()]


@hatchet.workflow()
class Double:
    @hatchet.step()
    async def double(self, context: Context) -> dict[str, str]:
        return {"rows": context.workflow_input()["rows"] * 2}


async def test_what_is_put_is_what_is_got_listed_and_removed(server: AzureServer) -> None:
    store = PayloadStore(f"{ROOT}/etl")
    for size in (1, 1_000_000, 12_000_000):  # the last one goes in blocks
        reference = await store.put(OWNER, "x" * size)
        assert reference.url == f"{ROOT}/etl/{OWNER}/{reference.sha256}"
        assert await store.get(reference) == "x" * size
    await asyncio.gather(*(store.put(OWNER, f"text {number}") for number in range(97)))
    assert len(await paths_in(PayloadStore(ROOT))) == 100
    assert await store.remove(OWNER) == 100
    assert await paths_in(store) == []
    with pytest.raises(PayloadLost, match="is no longer in the store"):
        await store.get(reference)
    assert [await store.claim(name) for name in ("one", "two")] == ["one", "one"]


async def test_a_store_says_no_in_words(server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PayloadError, match=rf"payload az://{ACCOUNT}/other/.* can't be stored"):
        await PayloadStore(f"az://{ACCOUNT}/other").put(OWNER, "{}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"wrong").decode())
    with pytest.raises(PayloadError, match=r"the store denies access \(credentials\?\)") as refused:
        await PayloadStore(ROOT).put(OWNER, "{}")
    assert not isinstance(refused.value, StoreUnavailable)


async def test_runs_of_our_sdk_and_of_others(server: AzureServer) -> None:
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

        await eventually(holds, within_seconds=60)
