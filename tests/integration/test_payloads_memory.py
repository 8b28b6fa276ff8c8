"""What a fan-out with outputs of 1 MiB takes: memory of the operator and of a worker, writes to the API server.

HATCHET_TEST_PAYLOADS says how many children there are; `make benchmark-payloads` has 500, with the same bounds, and
docs/payloads.md the figures.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.watched_operator import peak_bytes
from tests.integration.harness import NAMESPACE, Cluster, Process, output_of
from tests.integration.s3_server import BUCKET, s3_server

CHILDREN = int(os.environ.get("HATCHET_TEST_PAYLOADS", "60"))
MEBIBYTE = 2**20
WORKER = Path(__file__).with_name("payloads_worker.py")
PATIENCE_SECONDS = 90 + CHILDREN / 4

OPERATOR_BYTES = 32 * MEBIBYTE
"""What the operator may take more than before, if workers speak to the store themselves."""
OPERATOR_FOR_OTHERS_BYTES = 400 * MEBIBYTE
"""The same if all of it goes through the operator: what a worker sends at a time is in memory."""
WORKER_BYTES = 250 * MEBIBYTE
"""What a worker with 40 slots may take more than before, if it reads results one after the other."""

CALM = {"running_after": 600, "children_every": 600, "waiting_told_after": 600}
"""Seconds: else a slow machine has writes that come by the clock."""

LARGE = int(os.environ.get("HATCHET_TEST_PAYLOAD", "100"))
"""The mebibytes of one output."""
TIMES = 4
"""What a worker may take more than before to return it and read it again, as a multiple."""


async def start_worker(cluster: Cluster, **environment: str) -> Process:
    worker = cluster.python(
        "worker",
        ["-u", str(WORKER)],
        HATCHET_CLIENT_TOKEN=cluster.token(),
        HATCHET_CLIENT_HOST_PORT=cluster.grpc_address,
        HATCHET_CLIENT_TLS_STRATEGY="none",
        **environment,
    )
    await cluster.until_registered()
    return worker


@pytest.mark.timeout(2 * PATIENCE_SECONDS)
@pytest.mark.parametrize("how", ["one after the other", "at once", "by the operator"])
async def test_a_fan_out_with_large_outputs_stays_within_bounds(how: str, cluster: Cluster, tmp_path: Path) -> None:
    store = tmp_path / "store"
    operator = await cluster.start_operator(payload_store=store.as_uri(), **CALM)
    payloads = "operator" if how == "by the operator" else f"{store.as_uri()}/{NAMESPACE}"
    worker = await start_worker(cluster, HATCHET_CLIENT_PAYLOADS=payloads)
    await cluster.create_run("warm", children=1)
    await cluster.finished("warm")
    before, writes = (peak_bytes(operator.pid), peak_bytes(worker.pid)), await cluster.writes()
    began = time.monotonic()
    await cluster.create_run("fan", children=CHILDREN, at_once=how == "at once")
    run = await cluster.finished("fan", within_seconds=PATIENCE_SECONDS)
    took = time.monotonic() - began
    assert output_of(run, "spread") == {"bytes": CHILDREN * MEBIBYTE}
    more = [peak - then for peak, then in zip((peak_bytes(operator.pid), peak_bytes(worker.pid)), before, strict=True)]
    shown = [f"{each / MEBIBYTE:.0f} MiB more" for each in more]
    print(f"{CHILDREN} x 1 MiB, read {how}: {took:.1f} s, operator {shown[0]}, worker {shown[1]}; before: {before}")
    assert more[0] < (OPERATOR_FOR_OTHERS_BYTES if how == "by the operator" else OPERATOR_BYTES)
    if how == "one after the other":
        assert more[1] < WORKER_BYTES
    spent = await cluster.writes() - writes
    assert spent["create", "workflowruns", ""] == CHILDREN
    assert spent["update", "workflowruns", "status"] == CHILDREN + 1, "as for small outputs"


@pytest.mark.timeout(3 * PATIENCE_SECONDS)
@pytest.mark.parametrize("where", ["a folder", "S3"])
async def test_one_very_large_output_takes_no_memory_of_the_operator(
    where: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path) as server:
        root = (tmp_path / "store").as_uri()
        if where == "S3":
            if server is None:
                pytest.skip("no S3 server: make test builds one where Go is at hand")
            await server.start()
            root = f"s3://{BUCKET}/runs"
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
        operator = await cluster.start_operator(payload_store=root)
        worker = await start_worker(cluster, HATCHET_CLIENT_PAYLOADS=f"{root}/{NAMESPACE}")
        await cluster.create_run("warm", children=1)
        await cluster.finished("warm")
        before, began = (peak_bytes(operator.pid), peak_bytes(worker.pid)), time.monotonic()
        await cluster.create_run("one", children=1, mebibytes=LARGE)
        run = await cluster.finished("one", within_seconds=PATIENCE_SECONDS)
        took = time.monotonic() - began
        assert output_of(run, "spread") == {"bytes": LARGE * MEBIBYTE}
        after = peak_bytes(operator.pid), peak_bytes(worker.pid)
        more = [peak - then for peak, then in zip(after, before, strict=True)]
        shown = [f"{each / MEBIBYTE:.0f} MiB more" for each in more]
        print(f"one output of {LARGE} MiB in {where}: {took:.1f} s, operator {shown[0]}, worker {shown[1]}")
        assert more[0] < OPERATOR_BYTES
        assert more[1] < TIMES * LARGE * MEBIBYTE
