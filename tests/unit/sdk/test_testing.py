"""`hatchet_sdk.testing`, without a server."""

import asyncio
import dataclasses
import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from hatchet_sdk import (
    AttemptCancelled,
    Context,
    SpawnConflict,
    WorkflowRunCancelled,
    WorkflowRunDeleted,
    WorkflowRunFailed,
)
from hatchet_sdk._client import run_ref
from hatchet_sdk._client.client import Client
from hatchet_sdk._runner import context as context_module
from hatchet_sdk._runner import context_aio, spawns, worker_labels
from hatchet_sdk.testing import FakeContext, LocalServer, OperatorMissing, Spawned
from hatchet_sdk.testing.fake_context import FakeClient


def test_a_fake_says_what_the_test_said() -> None:
    context = FakeContext(
        {"n": 1},
        parents={"Load": {"rows": 2}},
        retry_count=3,
        additional_metadata={"team": "blue"},
        step_run_errors={"load": "boom"},
        workflow_run_id="r-1",
        parent_workflow_run_id="r-0",
        child_key="k",
        child_index=4,
    )
    assert isinstance(context, Context)
    assert context.workflow_input() == {"n": 1}
    assert context.step_output("load") == {"rows": 2}
    with pytest.raises(ValueError, match=r"there are: load"):
        context.step_output("other")
    assert (context.retry_count(), context.additional_metadata()) == (3, {"team": "blue"})
    assert context.step_run_errors() == {"load": "boom"}
    assert (context.workflow_run_id(), context.parent_workflow_run_id()) == ("r-1", "r-0")
    assert (context.child_key(), context.child_index()) == ("k", 4)
    assert FakeContext().workflow_input() == {}
    assert [FakeContext(triggered_by=cause).triggered_by_event() for cause in ("event", "cron")] == [True, False]


async def spawn_async(context: Context, *children: tuple[str, str | None]) -> list[dict[str, Any]]:
    refs = [await context.aio.spawn_workflow(name, {"of": name}, key=key) for name, key in children]
    return [await ref.result() for ref in refs]


def spawn_sync(context: Context, *children: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [context.spawn_workflow(name, {"of": name}, key=key).sync_result() for name, key in children]


def spawn_bulk(context: Context, *children: tuple[str, str | None]) -> list[dict[str, Any]]:
    refs = context.spawn_workflows(
        [{"workflow_name": name, "input": {"of": name}, "key": key} for name, key in children]
    )
    return [ref.sync_result() for ref in refs]


async def spawn_bulk_async(context: Context, *children: tuple[str, str | None]) -> list[dict[str, Any]]:
    refs = await context.aio.spawn_workflows(
        [{"workflow_name": name, "input": {"of": name}, "key": key} for name, key in children]
    )
    return list(await asyncio.gather(*(ref.result() for ref in refs)))


@pytest.mark.parametrize("spawn", [spawn_async, spawn_sync, spawn_bulk, spawn_bulk_async])
def test_spawns_are_written_down_and_answered(spawn: Any) -> None:
    context = FakeContext(additional_metadata={"team": "blue"})
    context.answer("A", {"s": {"all": True}})
    context.answer("A", lambda child: {"s": {"key": child.key, "of": child.input["of"]}}, key="k")
    results = spawn(context, ("A", None), ("A", "k"), ("A", "k"), ("A", None))
    if asyncio.iscoroutine(results):
        results = asyncio.run(results)
    assert results == [
        {"s": {"all": True}},
        {"s": {"key": "k", "of": "A"}},
        {"s": {"key": "k", "of": "A"}},
        {"s": {"all": True}},
    ]
    assert [(child.key, child.index) for child in context.spawned] == [(None, -1), ("k", 0), (None, 2)]
    assert context.spawned[0] == Spawned(
        workflow_name="A",
        input={"of": "A"},
        key=None,
        index=-1,
        additional_metadata={"team": "blue"},
        options={},
        workflow_run_id="run-child--1",
    )


@pytest.mark.parametrize(
    ("phase", "kind"),
    [("Failed", WorkflowRunFailed), ("Cancelled", WorkflowRunCancelled), ("Deleted", WorkflowRunDeleted)],
)
def test_children_fail_as_real_ones_do(phase: str, kind: type[WorkflowRunFailed]) -> None:
    context = FakeContext()
    context.fail("A", {"s": "boom"}, phase=phase)
    with pytest.raises(kind) as raised:
        context.spawn_workflow("A").sync_result()
    assert (raised.value.errors, raised.value.phase) == ({"s": "boom"}, phase)


def test_what_nobody_answered_says_so() -> None:
    context = FakeContext()
    context.answer("B", {})
    ref = context.spawn_workflow("A", key="k")  # which nobody has to await
    with pytest.raises(
        AssertionError, match=r'run of workflow "A" with key "k".* \(defined are: B\).*context\.answer\("A"'
    ):
        ref.sync_result()


def test_an_answer_may_raise() -> None:
    def answer(child: Spawned) -> dict[str, dict[str, int]]:
        raise LookupError(child.workflow_name)

    context = FakeContext()
    context.answer("A", answer)
    with pytest.raises(LookupError, match="A"):
        context.spawn_workflow("A").sync_result()


def test_what_a_worker_refuses_is_refused() -> None:
    context = FakeContext()
    with pytest.raises(TypeError, match="has no JSON form"):
        context.spawn_workflow("A", {"x": object()})
    with pytest.raises(ValueError, match="unknown option"):
        context.spawn_workflow("A", {}, options={"stickyy": True})  # type: ignore[call-overload]
    context.refuse("A", SpawnConflict("another input"), key="k")
    with pytest.raises(SpawnConflict, match="another input"):
        context.spawn_workflow("A", {}, key="k")
    assert context.spawned == []


def test_options_are_written_down() -> None:
    context = FakeContext(additional_metadata={"a": 1, "b": 1})
    context.spawn_workflow(
        "A", {}, options={"priority": 3, "on_parent_close": "Cancel", "additional_metadata": {"b": 2}}
    )
    (child,) = context.spawned
    assert child.options == {"priority": 3, "on_parent_close": "Cancel"}
    assert child.additional_metadata == {"a": 1, "b": 2}
    assert dataclasses.is_dataclass(child)


def test_a_step_is_told_to_stop_and_of_its_workers_end() -> None:
    context = FakeContext()
    assert not context.wait_until_stopping(0)
    context.tell_that_the_worker_stops()
    assert context.stopping
    assert not context.exit_flag
    assert context.wait_until_stopping()
    assert asyncio.run(context.aio.wait_until_stopping())
    context.tell_to_stop()
    assert context.done()
    with pytest.raises(AttemptCancelled):
        context.spawn_workflow("A", {})


def test_the_other_calls_are_written_down() -> None:
    context = FakeContext()
    assert not context.released_slot
    context.log("one")
    context.log(2)
    context.refresh_timeout("5s")
    context.release_slot()
    asyncio.run(context.aio.refresh_timeout("6s"))
    asyncio.run(context.aio.release_slot())
    assert context.logged == ["one", "2"]
    assert context.refreshed == ["5s", "6s"]
    assert context.released_slot


def shape_of(function: Callable[..., object]) -> list[tuple[str, object, bool]]:
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default is inspect.Parameter.empty) for each in parameters]


def test_the_fake_has_the_shape_of_what_it_stands_for() -> None:
    """What contexts and their references call on a client is found by their source: the fake has all of it."""
    sources = [inspect.getsource(module) for module in (context_module, context_aio, spawns, worker_labels, run_ref)]
    called = {name for source in sources for name in re.findall(r"_client\.(\w+)\(", source)}
    assert {"trigger", "end_of_run", "put_log"} <= called, "otherwise the pattern finds nothing any more"
    assert {name: shape_of(getattr(Client, name)) for name in called} == {
        name: shape_of(getattr(FakeClient, name)) for name in called if hasattr(FakeClient, name)
    }
    for name, real in inspect.getmembers(Context, inspect.isfunction):
        if not name.startswith("_"):
            assert shape_of(getattr(FakeContext, name)) == shape_of(real), name


def test_a_stream_of_a_child_says_what_can_be_used_instead() -> None:
    ref = FakeContext().spawn_workflow("Child", {})
    with pytest.raises(NotImplementedError, match=r"LocalServer"):
        ref.stream()


def test_a_server_without_the_operator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OperatorMissing, match="runs hatchet-operator, which is not installed"):
        LocalServer()


def test_nothing_but_the_plugin_needs_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import hatchet_sdk.testing; print('fine')"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "fine\n"
    )


def test_a_scheduled_child_may_be_as_large_as_a_spawned_one() -> None:
    context = FakeContext(payloads=True)
    context.schedule_workflow("Etl", [datetime.now().astimezone()], {"rows": "x" * 300_000})
    assert len(context.spawned[0].input["rows"]) == 300_000


def test_a_local_server_says_that_it_is_not_started() -> None:
    server = LocalServer()
    with pytest.raises(RuntimeError, match=r'run was called before .*"with LocalServer\(\) as server:"'):
        server.run("Etl")
    with pytest.raises(RuntimeError, match="worker was called before the server was started"), server.worker():
        pass


def test_a_context_stays_in_its_process() -> None:
    with pytest.raises(TypeError, match='the context of step "load" stays in its process'):
        pickle.dumps(FakeContext(step="load"))
