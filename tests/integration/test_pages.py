"""The Python of pages that is no whole program, run against the operator with what its page presumes."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import hatchet_sdk
from hatchet_sdk import Context, Hatchet, RunFilter
from hatchet_sdk._client.typed import DEFINITION
from hatchet_sdk.testing import FakeContext, LocalServer
from tests.unit.test_documents import PARTS, WHOLE

BLOCKS = dict(PARTS + WHOLE)
Names = dict[str, Any]

declare = Hatchet()
broken = True


@declare.workflow()
class Resize:
    @declare.step()
    def resize(self, context: Context) -> dict[str, int]:
        return {"page": context.workflow_input()["page"]}


@declare.workflow(on_events=["user:*"])
class Report:
    @declare.step()
    def load(self, context: Context) -> dict[str, str]:
        if context.workflow_input().get("fails") and broken:
            raise ValueError("no data yet")
        return {"user": context.workflow_input().get("user", "")}


@declare.workflow()
class Chat:
    @declare.step()
    def answer(self, context: Context) -> None:
        for word in ("to ", "be"):
            context.put_stream(word)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started, started.worker(Resize(), Report(), Chat()):
        yield started


def run(place: str, rest: str = "", /, **presumed: Any) -> Names:
    """Run a block of a page, with await at its top, and what completes it; return the names that it made."""
    names: Names = {**presumed, "__name__": "page"}
    code = compile(BLOCKS[place] + rest, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if inspect.iscoroutine(running := eval(code, names)):
        asyncio.run(running)
    return names


def count(self: object, context: Context) -> dict[str, int]:
    return {"tokens": 1}


def test_every_block_is_run_here_or_elsewhere() -> None:
    named = set(re.findall(r'"(docs/\S+, block \d+)"', Path(__file__).read_text()))
    by_a_line_below_it = {"README.md, block 1", "docs/concurrency.md, block 1"} | {
        place for place in BLOCKS if place.startswith(("docs/guide.md", "docs/placing.md"))
    }
    in_test_testing = {place for place in BLOCKS if place.startswith("docs/testing.md")}
    assert named | by_a_line_below_it | in_test_testing == BLOCKS.keys()


def test_a_light_child(server: LocalServer) -> None:
    seen: Names = {}

    @declare.workflow()
    class Parent:
        @declare.step()
        def start(self, context: Context) -> None:
            seen.update(run("docs/sdk.md, block 1", context=context))

    with server.worker(Parent()):
        server.run("Parent")
    assert seen["size"] == {"resize": {"page": 7}}


def test_a_stream(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    ref = server.hatchet.admin.run_workflow("Chat", {})
    run("docs/sdk.md, block 3", ref=ref, StepRunEventType=hatchet_sdk.StepRunEventType)
    assert capsys.readouterr().out == "to be"


def test_a_worker_in_an_application(server: LocalServer) -> None:
    worker = server.hatchet.worker("application")
    worker.register_workflow(Resize())
    lifespan = run(
        "docs/sdk.md, block 4", worker=worker, asynccontextmanager=contextlib.asynccontextmanager, FastAPI=object
    )["lifespan"]

    async def serve() -> Any:
        async with lifespan(object()):
            return await (await server.hatchet.admin.aio.run_workflow("Resize", {"page": 3})).result()

    assert asyncio.run(serve()) == {"resize": {"page": 3}}


def test_a_step_that_saves_its_work() -> None:
    context, done = FakeContext(), list[str]()
    context.tell_that_the_worker_stops()
    run("docs/sdk.md, block 5", context=context, work_for_a_minute=None, save=lambda: done.append("saved"))
    assert done == ["saved"]


def test_failed_runs_are_found_and_replayed(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "broken", True)
    ref = server.hatchet.admin.run_workflow("Report", {"fails": 1}, {"additional_metadata": {"team": "blue"}})
    with pytest.raises(hatchet_sdk.WorkflowRunFailed, match="no data yet"):
        ref.sync_result(30)
    monkeypatch.setattr(sys.modules[__name__], "broken", False)
    names = run("docs/sdk.md, block 6", hatchet=server.hatchet, RunFilter=RunFilter)
    assert names["details"].run.run_id == ref.workflow_run_id
    assert ref.sync_result(30) == {"load": {"user": ""}}


def test_events(server: LocalServer) -> None:
    event = run("docs/triggers.md, block 2", hatchet=server.hatchet)["event"]
    assert event.event_id == "signup-ada"
    started = server.hatchet.runs.list(RunFilter(workflow="Report")).runs
    assert len([each for each in started if server.hatchet.runs.get(each.run_id).input.get("user")]) == 4


def test_a_scheduled_run(server: LocalServer) -> None:
    (ref,) = run("docs/triggers.md, block 3", hatchet=server.hatchet)["refs"]
    assert server.hatchet.runs.get(ref.workflow_run_id).run.phase == "Pending"
    assert datetime.now(UTC).year < 2031, "the page's date is over: it needs another"


# From here on names are declared anew, which the tests above use.


def test_a_class_that_stands_for_its_name(server: LocalServer) -> None:
    names = run("docs/sdk.md, block 2")
    with server.worker(names["Page"](), names["Report"]()):
        assert server.run("Report") == {"count": {"words": 4}}


@pytest.mark.parametrize(
    ("place", "rest"),
    [
        pytest.param("docs/triggers.md, block 1", "", id="a cron"),
        pytest.param("docs/concurrency.md, block 2", "", id="a method that names the group"),
        pytest.param("docs/rate-limits.md, block 1", "", id="a limit"),
        pytest.param("docs/rate-limits.md, block 2", "def ask(self, context): ...", id="a limit by expressions"),
        pytest.param("docs/traces.md, block 1", "", id="a span"),
    ],
)
def test_what_is_declared_is_registered(server: LocalServer, place: str, rest: str) -> None:
    """A step that stands alone becomes one of a workflow."""
    names = run(place, rest, hatchet=Hatchet(), **vars(hatchet_sdk))
    steps = {name: made for name, made in names.items() if inspect.isfunction(made) and made.__module__ == "page"}
    if steps:
        workflow = declare.workflow(name="Alone")(type("Alone", (), {"count": declare.step()(count)} | steps))
    else:
        workflow = next(made for made in names.values() if isinstance(made, type) and DEFINITION in vars(made))
    with server.worker(workflow()):
        pass
