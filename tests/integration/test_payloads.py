"""Inputs and outputs that are too large for a run: in a store, by our SDK itself, and by the operator for others."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.payloads.keys import namespace_keys
from hatchet_operator.resources.base import Json
from hatchet_sdk import Context, Hatchet, PayloadError, PayloadLost, WorkflowRunFailed
from hatchet_sdk.contracts import admin_v1_pb2 as admin_wire
from hatchet_sdk.contracts.admin_v1_pb2_grpc import AdminServiceStub
from hatchet_sdk.payloads.reference import MARK, PayloadReference, reference_in
from hatchet_sdk.payloads.sealing import Keys
from hatchet_sdk.payloads.store import PayloadStore
from tests.integration.inprocess import NAMESPACE, SECONDS, Instance, operator_of, running_operator, running_server
from tests.kube.eventually import eventually

hatchet = Hatchet()  # for its decorators
LARGE = "ä" * 200_000  # 400,000 bytes
KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Instance]:
    async with running_operator(payload_store=folder.as_uri()) as instance:
        yield instance


def store_of(folder: Path) -> str:
    """What pods of the namespace are given."""
    return f"{folder.as_uri()}/{NAMESPACE}"


def stored(folder: Path) -> list[Path]:
    """Return what is in the store, leaving out what is being written."""
    # not rglob(), which fails for a folder that is removed meanwhile
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names if len(name) == 64]


async def until_stored(folder: Path, count: int) -> None:
    async def holds() -> bool:
        return len(stored(folder)) == count

    await eventually(holds, within_seconds=SECONDS)


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """Have nothing read or written in the store: a file is where its folder was."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


def reference_of(text: str) -> PayloadReference:
    reference = reference_in(text)
    assert reference is not None, f"no reference: {text[:200]}"
    return reference


def error_in(status: dict[str, Any]) -> str:
    """The one error of a run's steps."""
    (error,) = [step["error"] for step in status["steps"].values() if "error" in step]
    return str(error)


def read_file(reference: PayloadReference) -> tuple[Path, bytes]:
    file = Path(reference.url.removeprefix("file://"))
    return file, file.read_bytes()


def raw_output(status: dict[str, Any], step: str) -> str:
    return str(status["steps"][step]["output"])


@hatchet.workflow()
class Etl:
    """Two steps, the second of which reads a large input, and a large output of the first."""

    @hatchet.step()
    def extract(self, context: Context) -> dict[str, Any]:
        return {"rows": context.workflow_input()["rows"] + "!"}

    @hatchet.step(parents=["extract"])
    def load(self, context: Context) -> dict[str, int]:
        rows = context.step_output("extract")["rows"]
        return {"rows": len(rows), "given": len(context.workflow_input()["rows"])}


@hatchet.workflow()
class Fan:
    @hatchet.step(timeout="5m")
    async def spread(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        children = [
            {"workflow_name": "Leaf", "input": {"n": n, "rows": given["rows"]}} for n in range(given["children"])
        ]
        refs = await context.aio.spawn_workflows(children)  # type: ignore[arg-type]  # made in a loop
        results = await asyncio.gather(*(ref.result() for ref in refs))
        return {"sizes": [len(result["make"]["rows"]) for result in results]}


@hatchet.workflow()
class Leaf:
    @hatchet.step()
    async def make(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        return {"rows": given["rows"] * 2, "n": given["n"]}


# --- Our SDK


async def test_a_large_input_and_output_of_our_sdk_are_in_the_store_and_not_in_the_run(
    world: Instance, folder: Path
) -> None:
    client = await world.work(Etl(), payloads=store_of(folder))
    ref = await client.admin.aio.run_workflow("Etl", {"rows": LARGE})
    assert await ref.result() == {
        "extract": {"rows": LARGE + "!"},
        "load": {"rows": len(LARGE) + 1, "given": len(LARGE)},
    }
    run = await world.run(str(ref))
    for text, value in (
        (run["spec"]["inputJson"], {"rows": LARGE}),
        (raw_output(run["status"], "extract"), {"rows": LARGE + "!"}),
    ):
        content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        said = json.loads(text)[MARK]
        assert said == {"url": said["url"], "sha256": digest, "bytes": len(content)}
        assert said["url"].startswith(f"{store_of(folder)}/")
        assert read_file(reference_of(text))[1] == content
    assert json.loads(raw_output(run["status"], "load")) == {"rows": len(LARGE) + 1, "given": len(LARGE)}
    assert world.metric("hatchet_operator_payloads_total", kind="input", by="client") == 1
    assert world.metric("hatchet_operator_payloads_total", kind="output", by="client") == 1
    assert world.metric("hatchet_operator_payloads_read_total") == 0  # the operator had nothing to do


async def test_children_get_and_return_large_ones(world: Instance, folder: Path) -> None:
    client = await world.work(Fan(), Leaf(), payloads=store_of(folder))
    ref = await client.admin.aio.run_workflow("Fan", {"rows": LARGE, "children": 3})
    assert await ref.result() == {"spread": {"sizes": [2 * len(LARGE)] * 3}}
    assert len(stored(folder)) == 1 + 3 + 3


async def test_a_threshold_of_ones_own(world: Instance, folder: Path) -> None:
    client = await world.work(Etl(), payloads=store_of(folder), payloads_above=1000)
    ref = await client.admin.aio.run_workflow("Etl", {"rows": "x" * 1000})
    assert (await ref.result())["load"] == {"rows": 1001, "given": 1000}
    assert len(stored(folder)) == 2


async def test_the_same_spawn_again_with_the_same_large_input_is_no_conflict(world: Instance, folder: Path) -> None:
    await world.work(Leaf(), payloads=store_of(folder))
    client = world.hatchet(payloads=store_of(folder))
    options: Any = {"request_id": "once"}
    first = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE}, options)
    second = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE}, options)
    assert str(first) == str(second)
    assert world.metric("hatchet_operator_children_conflicted_total") == 0
    await client.admin.aio.run_workflow("Leaf", {"n": 2, "rows": LARGE}, options)
    assert world.metric("hatchet_operator_children_conflicted_total") == 1


async def test_an_output_waits_for_a_store_that_is_away(world: Instance, folder: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @hatchet.workflow(name="Slow")
    class Slow:
        @hatchet.step(timeout="1m")
        async def make(self, context: Context) -> dict[str, str]:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go_on.wait(), loop))
            return {"rows": LARGE}

    await PayloadStore(store_of(folder)).put("some-other-run", "{}")
    client = await world.work(Slow(), payloads=store_of(folder))
    ref = await client.admin.aio.run_workflow("Slow", {})
    await begun.wait()
    with away(folder):
        go_on.set()
        await asyncio.sleep(1)  # in which the store is asked, and gives no answer
        assert await world.phase(str(ref)) == "Running"
    assert await ref.result() == {"make": {"rows": LARGE}}


async def test_a_step_waits_for_its_input_while_the_store_is_away(world: Instance, folder: Path) -> None:
    client = world.hatchet(payloads=store_of(folder))
    await world.work(Leaf(), payloads=store_of(folder), slots=1)
    # the run is made while the store is there, and given out once it is not
    await world.patch_workflow("leaf", suspended=True)
    ref = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})
    with away(folder):
        await world.patch_workflow("leaf", suspended=False)
        await world.until_phase(str(ref), "Running")
    assert (await ref.result())["make"]["n"] == 1


async def test_a_run_says_which_payload_is_lost(world: Instance, folder: Path) -> None:
    client = await world.work(Leaf(), payloads=store_of(folder))
    await world.patch_workflow("leaf", suspended=True)
    ref = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})
    (file,) = stored(folder)
    file.unlink()
    await world.patch_workflow("leaf", suspended=False)
    status = await world.finished(str(ref))
    error = error_in(status)
    assert f"PayloadLost: payload {file.as_uri()}" in error
    assert "is no longer in the store" in error


async def test_whoever_reads_a_result_is_told_that_it_was_changed(world: Instance, folder: Path) -> None:
    client = await world.work(Leaf(), payloads=store_of(folder))
    ref = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})
    status = await world.finished(str(ref))
    file, content = read_file(reference_of(raw_output(status, "make")))
    file.write_bytes(b"[" + content[1:])  # a local file: microseconds
    with pytest.raises(PayloadLost, match="is damaged: what is in the store has sha256"):
        await ref.result()
    file.write_bytes(content[:-1])
    with pytest.raises(PayloadLost, match=f"has {len(content) - 1} bytes in the store, and not {len(content)}"):
        await ref.result()


async def test_a_reference_that_leads_elsewhere_is_not_followed(world: Instance, folder: Path) -> None:
    """It may be anybody's: the operator, and pods, read with rights that its author may not have."""
    reference = PayloadReference(url=f"{folder.as_uri()}/other/{'a' * 36}/{'0' * 64}", sha256="0" * 64, size=10)
    await world.work(Leaf(), payloads=store_of(folder))
    await world.create_run("thief", "leaf", inputJson=reference.to_text())
    error = error_in(await world.finished("thief"))
    assert "is not in the store that is configured here" in error
    worker = await world.scripted()
    await worker.put_workflow("other")
    await worker.start()
    await world.create_run("second", "other", inputJson=reference.to_text())
    error = error_in(await world.finished("second"))
    assert "is not in the store that is configured here" in error


# --- Others


async def test_the_operator_stores_and_reads_for_clients_that_can_t(world: Instance, folder: Path) -> None:
    worker = await world.scripted(takes_names=False)
    await worker.put_workflow("etl", [{}, {"readable_id": "then", "parents": ["work"]}])
    await worker.start()
    run_id = await worker.trigger("etl", {"rows": LARGE})
    first = await worker.next()
    assert json.loads(first.action_payload)["input"] == {"rows": LARGE}
    await worker.complete(first, {"rows": LARGE + "!"})
    second = await worker.next()
    read = json.loads(second.action_payload)
    assert (read["input"], read["parents"]) == ({"rows": LARGE}, {"work": {"rows": LARGE + "!"}})
    await worker.complete(second, {"n": 1})
    event = await worker.result(run_id)
    assert {step.task_name: json.loads(step.output) for step in event.results} == {
        "work": {"rows": LARGE + "!"},
        "then": {"n": 1},
    }
    (run,) = await world.runs()
    assert reference_of(run["spec"]["inputJson"]).owner.startswith("request-")  # type: ignore[union-attr]  # has one
    assert reference_of(raw_output(run["status"], "work")).owner == run["metadata"]["uid"]
    assert world.metric("hatchet_operator_payloads_total", kind="input", by="operator") == 1
    assert world.metric("hatchet_operator_payloads_total", kind="output", by="operator") == 1


async def test_details_of_a_run_have_what_references_mean(world: Instance, folder: Path) -> None:
    """Clients from 1.0 on ask for them."""
    client = await world.work(Leaf(), payloads=store_of(folder))
    ref = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})
    await ref.result()
    worker = await world.scripted(takes_names=False)
    admin = AdminServiceStub(worker.channel)
    details = await worker.call(admin.GetRunDetails, admin_wire.GetRunDetailsRequest(external_id=str(ref)))
    assert json.loads(details.input) == {"n": 1, "rows": LARGE}
    assert json.loads(details.task_runs["make"].output) == {"n": 1, "rows": LARGE * 2}
    request = admin_wire.TriggerWorkflowRunRequest(
        workflow_name="Leaf", input=json.dumps({"n": 2, "rows": LARGE}).encode()
    )
    answer = await worker.call(admin.TriggerWorkflowRun, request)
    (run,) = [run for run in await world.runs() if run["metadata"]["uid"] == answer.external_id]
    assert reference_of(run["spec"]["inputJson"]).size > len(LARGE)


async def test_our_sdk_without_a_store_is_served_like_others(world: Instance, folder: Path) -> None:
    await world.work(Leaf(), payloads=store_of(folder))
    writer = world.hatchet(payloads=store_of(folder))
    ref = await writer.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})
    reader = world.hatchet()
    assert await reader.admin.get_workflow_run(str(ref)).result() == {"make": {"rows": LARGE * 2, "n": 1}}
    with pytest.raises(ValueError, match=r"payload store \(docs/payloads.md\)"):
        await reader.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})


async def test_our_sdk_may_leave_the_store_to_the_operator(world: Instance, folder: Path) -> None:
    """As in an image without the extra, or a pod without credentials."""
    client = await world.work(Etl(), payloads="operator")
    ref = await client.admin.aio.run_workflow("Etl", {"rows": LARGE})
    assert (await ref.result())["load"] == {"rows": len(LARGE) + 1, "given": len(LARGE)}
    assert len(stored(folder)) == 2
    assert world.metric("hatchet_operator_payloads_total", kind="output", by="operator") == 1
    with pytest.raises(ValueError, match=r"install hatchet-operator-sdk\[payloads\]"):
        await client.admin.aio.run_workflow("Etl", {"rows": "x" * 4_000_000})


async def test_outputs_that_fit_into_no_run_together_are_stored(world: Instance, folder: Path) -> None:
    worker = await world.scripted()
    await worker.put_workflow("wide", [{"readable_id": f"s{n}"} for n in range(6)])
    await worker.start()
    run_id = await worker.trigger("wide", {})
    for _ in range(6):
        await worker.complete(await worker.next(), {"rows": "x" * 200_000})
    status = await world.finished(run_id)
    assert status["phase"] == "Succeeded"
    assert 1 <= len(stored(folder)) <= 2
    assert [step["phase"] for step in status["steps"].values()] == ["Succeeded"] * 6


async def test_what_does_not_fit_into_a_message_ends_the_step_with_a_word(world: Instance, folder: Path) -> None:
    client = world.hatchet(payloads=store_of(folder))
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start()
    ref = await client.admin.aio.run_workflow("etl", {"rows": "x" * 5_000_000})
    status = await world.finished(str(ref))
    error = error_in(status)
    assert 'What step "work" is given' in error
    assert "4 MiB" in error
    assert "[payloads]" in error


async def test_a_result_that_does_not_fit_into_a_message_says_so(world: Instance, folder: Path) -> None:
    client = await world.work(Leaf(), payloads=store_of(folder))
    ref = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": "x" * 3_000_000})
    await ref.result()
    with pytest.raises(WorkflowRunFailed, match=r"What run .* returned has 6\d+ bytes, more than the 4194304"):
        await world.hatchet().admin.get_workflow_run(str(ref)).result()


async def test_what_is_no_object_is_refused_before_it_is_stored(world: Instance, folder: Path) -> None:
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start()
    run_id = await worker.trigger("etl", {})
    await worker.complete(await worker.next(), text=json.dumps(["x" * 300_000]))
    error = error_in(await world.finished(run_id))
    assert error == 'step "work" returned a JSON list; expected a mapping or None'
    assert not stored(folder)


async def test_the_operator_waits_for_a_store_that_is_away(world: Instance, folder: Path) -> None:
    await PayloadStore(store_of(folder)).put("some-other-run", "{}")
    worker = await world.scripted()
    await worker.put_workflow("etl")
    await worker.start()
    run_id = await worker.trigger("etl", {})
    action = await worker.next()
    with away(folder):
        reporting = asyncio.create_task(worker.complete(action, {"rows": LARGE}))
        await world.until(lambda: world.metric("hatchet_operator_payload_failures_total") > 0)
        assert not reporting.done()
    await reporting
    assert reference_of(raw_output(await world.finished(run_id), "work")).size > 400_000


async def test_without_a_store_errors_say_how_to_get_one(folder: Path) -> None:
    async with running_operator() as world:
        worker = await world.scripted()
        await worker.put_workflow("etl")
        await worker.start()
        run_id = await worker.trigger("etl", {})
        await worker.complete(await worker.next(), {"rows": LARGE})
        error = error_in(await world.finished(run_id))
        assert "have the operator keep it in a payload store (docs/payloads.md)" in error


# --- Encryption


async def test_with_a_key_nothing_in_the_store_can_be_read_without_it(folder: Path) -> None:
    async with running_operator(payload_store=folder.as_uri(), payload_key=KEY) as world:
        key = namespace_keys(KEY, NAMESPACE)
        client = await world.work(Leaf(), payloads=store_of(folder), payloads_key=key)
        ref = await client.admin.aio.run_workflow("Leaf", {"n": 1, "rows": LARGE})
        assert (await ref.result())["make"]["rows"] == LARGE * 2
        files = stored(folder)
        assert len(files) == 2
        assert not any("ä".encode() * 10 in file.read_bytes() for file in files)
        # the operator's own key opens them for whoever can't, and a key of another namespace does not
        assert (await world.hatchet().admin.get_workflow_run(str(ref)).result())["make"]["n"] == 1
        stranger = world.hatchet(payloads=store_of(folder), payloads_key=namespace_keys(KEY, "other"))
        with pytest.raises(PayloadLost, match="it is encrypted with key"):
            await stranger.admin.get_workflow_run(str(ref)).result()
        keyless = world.hatchet(payloads=store_of(folder))
        with pytest.raises(PayloadError, match="is encrypted, and no key is configured here"):
            await keyless.admin.get_workflow_run(str(ref)).result()


async def test_a_new_key_is_put_before_the_old_one(folder: Path) -> None:
    old, new = (base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))
    before = PayloadStore(folder.as_uri(), Keys(old))
    reference = await before.put("some-owner", LARGE)
    after = PayloadStore(folder.as_uri(), Keys(f"{new},{old}"))
    assert await after.get(reference) == LARGE
    assert (await after.put("some-owner", LARGE)).key != reference.key


# --- Removal


async def test_payloads_go_with_their_run(world: Instance, folder: Path) -> None:
    client = await world.work(Fan(), Leaf(), payloads=store_of(folder))
    first = await client.admin.aio.run_workflow("Fan", {"rows": LARGE, "children": 3})
    second = await client.admin.aio.run_workflow("Leaf", {"rows": LARGE, "n": 1})
    await first.result()
    await second.result()
    assert len(stored(folder)) == 7 + 2
    await world.delete_run(str(first))
    await until_stored(folder, 2)
    assert (await second.result())["make"]["n"] == 1
    await world.delete_run(str(second))
    await until_stored(folder, 0)
    await world.until(lambda: world.metric("hatchet_operator_payloads_removed_total") == 9)


async def test_an_input_that_two_runs_have_goes_with_the_last_of_them(world: Instance, folder: Path) -> None:
    client = await world.work(Leaf(), payloads=store_of(folder))
    first = await client.admin.aio.run_workflow("Leaf", {"rows": LARGE, "n": 1})
    await first.result()
    given = (await world.run(str(first)))["spec"]["inputJson"]
    await world.create_run("again", "leaf", inputJson=given)
    await world.finished("again")
    await world.delete_run(str(first))
    await until_stored(folder, 2)  # the output of the first is gone
    assert reference_of(given).url in [file.as_uri() for file in stored(folder)]
    await world.delete_run("again")
    await until_stored(folder, 0)


async def test_payloads_of_runs_that_were_deleted_while_no_operator_was_there_go_at_the_next_start(
    folder: Path,
) -> None:
    settings: Json = {"payload_store": folder.as_uri(), "payload_orphans_after": 1.0}
    async with running_server() as (server, url):
        async with operator_of(server, url, **settings) as world:
            client = await world.work(Leaf(), payloads=store_of(folder))
            kept = await client.admin.aio.run_workflow("Leaf", {"rows": LARGE, "n": 1})
            gone = await client.admin.aio.run_workflow("Leaf", {"rows": LARGE, "n": 2})
            await asyncio.gather(kept.result(), gone.result())
        await delete_without_operator(url, str(gone))
        (folder / NAMESPACE / "notes.txt").write_text("somebody else's")
        assert len(stored(folder)) == 4
        async with operator_of(server, url, **settings) as world:
            await until_stored(folder, 2)
            reader = world.hatchet(payloads=store_of(folder))
            assert (await reader.admin.get_workflow_run(str(kept)).result())["make"]["n"] == 1
            assert (folder / NAMESPACE / "notes.txt").exists()


async def delete_without_operator(url: str, name: str) -> None:
    async with Api(Endpoint(server=url), user_agent="test", may_write=always) as api:
        await api.delete(RUNS, NAMESPACE, name)


async def test_what_was_stored_and_never_reported_goes_when_it_is_old(folder: Path) -> None:
    async with running_operator(payload_store=folder.as_uri(), payload_orphans_after=1.0) as world:
        await PayloadStore(store_of(folder)).put("request-of-nobody", "{}")
        await until_stored(folder, 1)
        await until_stored(folder, 0)
        await world.until(lambda: world.metric("hatchet_operator_payloads_removed_total") == 1)


async def test_a_store_of_another_installation_is_not_looked_through(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two clusters that were given one prefix by mistake would remove each other's outputs."""

    def settings(uid: str) -> dict[str, Any]:
        owner = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "hatchet", "uid": uid}
        return {"payload_store": folder.as_uri(), "payload_orphans_after": 1.0, "owner": owner}

    claim = folder / "hatchet-operator-installation"
    async with running_operator(**settings("one")) as one:
        await one.until(lambda: claim.exists() and claim.read_text() == "one")
        client = await one.work(Leaf(), payloads=store_of(folder))
        ref = await client.admin.aio.run_workflow("Leaf", {"rows": LARGE, "n": 1})
        await ref.result()
        async with running_operator(**settings("other")) as other:
            said = "belongs to another installation"
            await other.until(lambda: [said in line for line in caplog.messages].count(True) >= 3)
        assert claim.read_text() == "one"
        assert (await ref.result())["make"]["n"] == 1
