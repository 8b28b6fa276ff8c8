"""Pods of a pool are told of the store by the operator, with a key of their namespace; also one that was killed."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from hatchet_operator.cluster.kinds import POOLS, RUNS, SECRETS
from hatchet_operator.engine.payloads.keys import namespace_keys
from hatchet_operator.resources.base import API_VERSION
from hatchet_sdk.payloads.reference import reference_in
from hatchet_sdk.payloads.sealing import Keys
from hatchet_sdk.payloads.store import PayloadStore
from tests.integration.harness import NAMESPACE, POOL, Cluster, output_of
from tests.kube.eventually import eventually

WORKER = Path(__file__).with_name("payloads_worker.py")
KEY = base64.b64encode(b"k" * 32).decode()
MEBIBYTE = 2**20


async def create_pool(cluster: Cluster) -> None:
    container = {"name": "worker", "image": "local", "command": [sys.executable, "-u", str(WORKER)]}
    environment = [{"name": "HATCHET_TEST_DIRECTORY", "value": str(cluster.directory)}]
    spec = {"containers": [{**container, "env": environment}], "terminationGracePeriodSeconds": 5}
    await cluster.api.create(
        POOLS,
        NAMESPACE,
        {
            "apiVersion": API_VERSION,
            "kind": "WorkerPool",
            "metadata": {"name": POOL},
            "spec": {"minReplicas": 1, "slots": 10, "template": {"spec": spec}},
        },
    )


def stored(store: Path) -> list[Path]:
    return [file for file in store.rglob("*") if file.is_file() and len(file.name) == 64]


async def until_stored(store: Path, count: int) -> None:
    async def holds() -> bool:
        return len(stored(store)) == count

    await eventually(holds, within_seconds=60)


async def test_pods_store_and_read_with_what_the_operator_tells_them(cluster: Cluster, tmp_path: Path) -> None:
    store = tmp_path / "store"
    settings = {"payload_store": store.as_uri(), "payload_key": KEY, "payload_orphans_after": 1}
    await cluster.start_operator(**settings)
    await cluster.start_node()
    await create_pool(cluster)
    await cluster.until_pool_is_ready(1)
    await cluster.until_registered()
    await cluster.create_run("fan", children=4)
    assert output_of(await cluster.finished("fan"), "spread") == {"bytes": 4 * MEBIBYTE}

    keys = namespace_keys(KEY, NAMESPACE)
    secret = await cluster.api.get(SECRETS, NAMESPACE, f"{POOL}-token")
    assert base64.b64decode(secret["data"]["payloads-key"]).decode() == keys
    child = (await cluster.children_of("fan"))[0]
    reference = reference_in(child["status"]["steps"]["make"]["output"])
    assert reference is not None
    assert len(await PayloadStore(f"{store.as_uri()}/{NAMESPACE}", Keys(keys)).get(reference)) > MEBIBYTE
    assert not any(b"00000000" * 10 in file.read_bytes() for file in stored(store)), "sealed"

    await cluster.create_run("other", children=1)
    await cluster.finished("other")
    await until_stored(store, 5)
    await cluster.crash_operator()
    await cluster.api.delete(RUNS, NAMESPACE, "fan")  # and its children, by garbage collection
    await cluster.start_operator(**settings)
    await until_stored(store, 1)
