"""Spans of runs and attempts, as a real OTLP receiver gets them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from hatchet_operator.decisions.tracing import run_span_id, trace_id_of
from hatchet_sdk import Context, Hatchet
from tests.integration.harness import Cluster, assert_done_once
from tests.integration.inprocess import running_operator
from tests.integration.otlp_receiver import ERROR, OK, Received, Receiver, receiving
from tests.kube.eventually import eventually

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
hatchet = Hatchet()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield started


async def until_received(receiver: Receiver, name: str, count: int = 1) -> list[Received]:
    async def holds() -> bool:
        return len(receiver.named(name)) >= count

    await eventually(holds)
    return receiver.named(name)


async def test_a_fan_out_with_a_retry_is_one_trace_that_its_caller_began(receiver: Receiver) -> None:
    @hatchet.workflow(name="Parent")
    class Parent:
        @hatchet.step()
        async def spawn(self, context: Context) -> None:
            children = [await context.aio.spawn_workflow("Child", {"n": n}, key=str(n)) for n in range(2)]
            for child in children:
                await child.result()

    @hatchet.workflow(name="Child")
    class Child:
        @hatchet.step(retries=1)
        def process(self, context: Context) -> None:
            if context.workflow_input()["n"] == 1 and not context.retry_count():
                raise ValueError("it broke\nat length")

    async with running_operator(tracing=True) as world:
        await world.work(Parent(), Child())
        run = await world.create_run("fan", "parent", additionalMetadata={"traceparent": CALLER})
        assert (await world.finished("fan"))["phase"] == "Succeeded"
        # A parent's end is told before that of nobody else.
        await until_received(receiver, "run parent")
        await until_received(receiver, "run child", 2)
        await until_received(receiver, "attempt process", 3)

    assert {f"{span.trace_id:032x}" for span in receiver.spans} == {CALLER.split("-")[1]}
    assert Counter(span.name for span in receiver.spans) == {
        "run parent": 1,
        "attempt spawn": 1,
        "run child": 2,
        "attempt process": 3,
    }
    root, spawn = receiver.one("run parent"), receiver.one("attempt spawn")
    assert f"{root.parent_id:016x}" == CALLER.split("-")[2]
    assert root.span_id == run_span_id(run["metadata"]["uid"], 0)
    assert spawn.parent_id == root.span_id
    children = receiver.named("run child")
    assert {child.parent_id for child in children} == {spawn.span_id}
    attempts = receiver.named("attempt process")
    assert {attempt.parent_id for attempt in attempts} == {child.span_id for child in children}
    (failed,) = [attempt for attempt in attempts if attempt.status == ERROR]
    (retry,) = [attempt for attempt in attempts if attempt.attributes["hatchet.attempt.number"] == 2]
    assert failed.error == "it broke"
    assert (retry.status, retry.links, retry.parent_id) == (OK, (failed.span_id,), failed.parent_id)
    assert all(span.start <= span.end for span in receiver.spans)
    assert {span.service for span in receiver.spans} == {"hatchet-operator"}
    assert all(headers["x-team"] == "blue" for headers in receiver.headers)


async def test_skipped_steps_cancelled_runs_and_reruns_are_told(receiver: Receiver) -> None:
    heals = False

    @hatchet.workflow(name="Etl")
    class Etl:
        @hatchet.step()
        def first(self, context: Context) -> None:
            if not heals:
                raise ValueError("it broke")

        @hatchet.step(parents=["first"])
        def second(self, context: Context) -> None: ...

    async with running_operator(tracing=True) as world:
        await world.work(Etl())
        await world.create_run("r", "etl")
        await world.finished("r")
        (before,) = await until_received(receiver, "run etl")
        heals = True
        await world.patch_run("r", reruns=1)
        await world.finished("r", reruns=1)
        _, after = await until_received(receiver, "run etl", 2)
        await world.create_run("c", "etl", suspended=True)
        await world.condition("c", "Suspended", status="True")
        await world.patch_run("c", cancelled=True)
        await world.finished("c")
        cancelled = (await until_received(receiver, "run etl", 3))[2]

    assert (before.status, before.events) == (ERROR, ("step not run",))
    assert (after.status, after.links, after.trace_id) == (OK, (before.span_id,), before.trace_id)
    assert [len(receiver.named(f"attempt {step}")) for step in ("first", "second")] == [2, 1]
    assert cancelled.attributes["hatchet.phase"] == "Cancelled"
    assert cancelled.trace_id != before.trace_id


async def test_a_trace_survives_the_operator(receiver: Receiver, cluster: Cluster) -> None:
    await cluster.start_operator(tracing=True)
    await cluster.start_worker()
    root = await cluster.create_run("fan", children=3, in_child="middle")
    await cluster.until_executing("process", 3)
    await cluster.crash_operator()
    operator = await cluster.start_operator(tracing=True)
    cluster.open_gate("middle")
    await assert_done_once(cluster, "fan", children=3)
    await until_received(receiver, "run parent")
    assert await operator.end() == 0  # which sends the rest

    assert Counter(span.name for span in receiver.spans) == {
        "run parent": 1,
        "attempt spawn": 1,
        "run child": 3,
        "attempt process": 3,
    }
    assert {span.trace_id for span in receiver.spans} == {trace_id_of(root["metadata"]["uid"])}
    ids = {span.span_id for span in receiver.spans}
    assert len(ids) == 8
    assert {span.parent_id for span in receiver.spans} - ids == {0}


async def test_a_collector_that_is_away_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")

    @hatchet.workflow(name="Etl")
    class Etl:
        @hatchet.step()
        def work(self, context: Context) -> None: ...

    async with running_operator(tracing=True) as world:
        await world.work(Etl())
        for name, total in (("a", 2), ("b", 4)):
            await world.create_run(name, "etl")
            assert (await world.finished(name))["phase"] == "Succeeded"
            await world.until(
                lambda total=total: world.metric("hatchet_operator_spans_total", outcome="failed") == total  # type: ignore[misc]
            )
    warnings = [record.message for record in caplog.records if "exported" in record.message]
    assert warnings == ["spans can't be exported, and are dropped; is the collector there?"]


async def test_spans_of_user_code_are_below_attempts_and_above_what_they_spawn(receiver: Receiver) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("test")
    logged: dict[str, tuple[str, str]] = {}

    def note(name: str) -> None:
        record = logging.getLogRecordFactory()("test", logging.INFO, "", 0, name, (), None)
        logged[name] = (vars(record)["hatchet_trace"], vars(record)["hatchet_span"])

    @hatchet.workflow(name="Outer")
    class Outer:
        @hatchet.step()
        async def ask(self, context: Context) -> None:
            note("in ask")
            with tracer.start_as_current_span("of ask"):
                child = await context.aio.spawn_workflow("Inner", {}, key="a")
            await child.result()

    @hatchet.workflow(name="Inner")
    class Inner:
        @hatchet.step()
        def work(self, context: Context) -> None:
            with tracer.start_as_current_span("of work"):
                note("in work")

    async with running_operator(tracing=True) as world:
        client = await world.work(Outer(), Inner())
        with tracer.start_as_current_span("caller"):
            run = await client.admin.aio.run_workflow("Outer", {})
        await run.result()
        await until_received(receiver, "run outer")
        await until_received(receiver, "run inner")
    await asyncio.to_thread(provider.shutdown)

    names = ("caller", "run outer", "attempt ask", "of ask", "run inner", "attempt work", "of work")
    chain = [receiver.one(name) for name in names]
    assert [span.parent_id for span in chain] == [0, *(span.span_id for span in chain[:-1])]
    assert len({span.trace_id for span in chain}) == 1
    trace = f"{chain[0].trace_id:032x}"
    assert logged == {
        "in ask": (trace, f"{receiver.one('attempt ask').span_id:016x}"),
        "in work": (trace, f"{receiver.one('of work').span_id:016x}"),
    }
