"""The page of `kubectl hatchet dashboard` in a real Chromium, with the real operator."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
from playwright.async_api import expect
from pydantic import BaseModel, Field

from hatchet_cli.dashboard.server import serving
from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_sdk import Context, Hatchet
from tests.integration.inprocess import NAMESPACE, running_operator
from tests.integration.pages import MARKUP, World, a_page
from tests.kube.chromium import browsing, needs_chromium, page_of
from tests.kube.filling import make_finished_runs, put_all

pytestmark = needs_chromium

hatchet = Hatchet()  # for its decorators
go_on = threading.Event()


@hatchet.workflow()
class Parent:
    @hatchet.step(timeout="1m")
    async def spawn(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        keys = given.get("keys", ["a", "b"])
        refs = [await context.aio.spawn_workflow("Child", {**given, "key": key}, key=key) for key in keys]
        await asyncio.gather(*(ref.result() for ref in refs))
        return {"children": len(refs)}

    @hatchet.step(parents=["spawn"])
    def report(self, context: Context) -> None: ...


@hatchet.workflow()
class Child:
    @hatchet.step(timeout="1m")
    def work(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        if given.get("waits"):
            go_on.wait(30)
        if given.get("fails") == given["key"]:
            raise ValueError(f"no such customer: {given['key']}")
        return given


class Line(BaseModel):
    """What is bought."""

    article: str = Field(min_length=2)
    count: int = Field(1, ge=1, le=9)


class Order(BaseModel):
    customer: str = Field(description=f"Who pays {MARKUP}", min_length=1)
    speed: Literal["slow", "fast"] = "slow"
    lines: list[Line] = []
    gift: bool
    note: str | None = None
    rebate: float | None = Field(None, ge=0, le=1)
    due: datetime | None = None


@hatchet.workflow(input_validator=Order)
class Buy:
    @hatchet.step()
    def pay(self, context: Context) -> dict[str, Any]:
        return context.workflow_input(Order).model_dump(mode="json")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    go_on.clear()
    async with a_page(Parent(), Child(), Buy()) as world:
        yield world
        go_on.set()


async def test_a_run_is_started_in_a_form_fails_while_looked_at_and_is_retried(world: World) -> None:
    page = await world.show("/workflows/parent")
    await expect(page.get_by_label("Steps").get_by_text("report")).to_be_visible()  # before it was ever run
    await page.get_by_role("button", name="Start a run").click()
    await page.get_by_label("Input").fill("[1]")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_role("alert")).to_have_text("The input is not an object; expected one such as {}")
    await page.get_by_label("Input").fill(json.dumps({"keys": ["a", MARKUP], "waits": True, "fails": MARKUP}))
    await page.get_by_role("button", name="Start", exact=True).click()

    timeline = page.get_by_role("list", name="Runs over time")
    await expect(timeline.get_by_text(f"Child {MARKUP}")).to_be_visible()
    await expect(page.get_by_text("Running", exact=True)).to_be_visible()
    await expect(page.get_by_text("step work is running on")).to_be_visible()
    go_on.set()

    await expect(page.get_by_text("Failed", exact=True)).to_be_visible()
    failure = page.get_by_role("alert").filter(has_text="no such customer")
    await expect(failure).to_contain_text(MARKUP)
    assert await page.title() == "hatchet", "what users write is text"
    await page.get_by_role("button", name="Retry what failed").click()
    name = await world.name_shown()
    await world.instance.finished(name, reruns=1)

    await page.get_by_role("tab", name="Input and output").click()
    await expect(page.get_by_text("Error of spawn")).to_be_visible()
    await page.get_by_role("tab", name="Steps").click()
    await expect(page.get_by_role("table", name="Steps").get_by_role("cell", name="spawn")).to_be_visible()
    await page.get_by_role("tab", name="Events").click()
    await expect(page.get_by_role("table", name="Events").or_(page.get_by_text("No events"))).to_be_visible()


async def test_the_model_of_an_input_becomes_a_form(world: World) -> None:
    page = await world.show("/workflows/buy")
    await page.get_by_role("button", name="Start a run").click()
    form = page.get_by_role("dialog", name="Start Buy")
    start = form.get_by_role("button", name="Start", exact=True)
    await expect(form.get_by_text(f"Who pays {MARKUP}")).to_be_visible()
    await start.click()
    customer = form.get_by_label("Customer")
    await expect(customer).to_have_accessible_description(re.compile("is required"))
    await expect(customer).to_be_focused()
    await customer.fill("Ada")
    await form.get_by_role("combobox", name="Speed").click()
    await form.get_by_role("option", name="fast").click()
    await form.get_by_role("button", name="Add").click()
    await form.get_by_label("Article").fill("a")
    await form.get_by_label("Count").fill("12")
    await form.get_by_label("Rebate").fill("0.5")
    await form.get_by_label("Due").fill("2030-01-02T03:04")
    await start.click()
    await expect(form.get_by_label("Article")).to_have_accessible_description(re.compile("too short"))
    await expect(form.get_by_label("Count")).to_have_accessible_description(re.compile("12 is greater than 9"))
    await world.passes_axe()
    await form.get_by_label("Article").fill("a hat")
    await form.get_by_text("JSON").click()  # the same input
    text = form.get_by_label("Input")
    await text.fill((await text.input_value()).replace("12", "2"))
    await form.get_by_text("Fields").click()
    await expect(form.get_by_label("Count")).to_have_value("2")
    await start.click()
    name = await world.name_shown()
    assert (await world.instance.finished(name))["phase"] == "Succeeded"
    given = json.loads((await world.instance.run(name))["spec"]["inputJson"])
    assert datetime.fromisoformat(given.pop("due")) == datetime(2030, 1, 2, 3, 4).astimezone()
    order = {"customer": "Ada", "speed": "fast", "lines": [{"article": "a hat", "count": 2}], "gift": False}
    assert given == {**order, "rebate": 0.5}


async def test_whatever_schema_is_registered_json_is_a_way_to_start(world: World) -> None:
    page = world.page
    no_json, no_fields, no_form = '{"type": "obj', '{"properties": {}}', '{"properties": {"a": {"$ref": "#/nowhere"}}}'
    for schema in (no_json, no_fields, no_form):
        status = {"status": {"definition": {"inputSchema": schema}}}
        await world.instance.api.patch(WORKFLOWS, NAMESPACE, "child", status, subresource="status")
        await world.show("/workflows/child")
        await page.get_by_role("button", name="Start a run").click()
        if schema == no_form:
            await expect(page.get_by_text("No form can be made from the schema")).to_be_visible()
            await page.get_by_text("JSON", exact=True).click()
        await page.get_by_role("textbox", name="Input").fill('{"key": "a"}')
        await page.get_by_role("button", name="Start", exact=True).click()
        await world.instance.finished(await world.name_shown())


async def test_what_others_start_and_change_is_seen_without_a_reload(world: World) -> None:
    page = await world.show("/runs")
    await expect(page.get_by_test_id("shown")).to_have_text("0 of 0")
    await world.instance.create_run("seen", "parent", {"waits": True})
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="seen", exact=True))
    await expect(row).to_contain_text("Running")
    await row.get_by_role("link").focus()
    await page.keyboard.press("Enter")  # all of it works without a mouse
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
    await world.instance.delete_run("seen")
    await expect(page.get_by_text("There is no run seen in this namespace; it may have been deleted.")).to_be_visible()


async def test_ten_thousand_runs_are_a_table_that_scrolls_and_filters(world: World) -> None:
    runs = list(make_finished_runs(10_000, children=9_999))
    root, last = runs[0]["metadata"]["name"], runs[-1]["metadata"]["name"]
    await asyncio.to_thread(put_all, world.instance.url, iter(runs))
    page = await world.show("/runs?phase=Succeeded&children=1")
    await expect(page.get_by_test_id("shown")).to_have_text("10000 of 10000", timeout=60_000)
    table = page.get_by_role("table", name="Runs")
    assert await table.get_by_role("row").count() < 100, "only what is visible exists"
    await table.evaluate("table => table.scrollTo(0, table.scrollHeight)")
    await expect(table.locator("[aria-rowindex='10001']")).to_be_visible()
    await page.get_by_label("Find").fill(last)
    await expect(page.get_by_test_id("shown")).to_have_text("1 of 10000")
    await page.reload()  # the address says what is shown
    await expect(page.get_by_test_id("shown")).to_have_text("1 of 10000", timeout=60_000)

    await world.show(f"/runs/{root}")
    timeline = page.get_by_role("list", name="Runs over time")
    await timeline.get_by_role("button", expanded=False).click(timeout=60_000)  # 9999 of a kind are one line at first
    assert 10 < await timeline.get_by_role("listitem").count() < 100


async def test_a_server_that_is_gone_is_told_and_its_return_too(world: World) -> None:
    page = await world.show("/")
    away = {"match": {"verb": "list", "userAgent": "page"}, "action": "status", "code": 503, "times": 0}
    world.instance.server.faults.install([away])
    told = page.get_by_text("This may be out of date")
    await expect(told).to_be_visible(timeout=60_000)
    world.instance.server.faults.clear()
    await expect(told).to_be_hidden(timeout=60_000)


async def test_each_view_passes_axe(world: World) -> None:
    await world.instance.create_run("ended", "parent", {"fails": "a"})
    await world.instance.finished("ended")
    await world.instance.create_run("going", "parent", {"waits": True})
    views = ("/", "/runs", "/runs?children=1", "/runs/ended", "/runs/ended?tab=steps", "/runs/ended?tab=data")
    for path in (*views, "/runs/going", "/workflows", "/workflows/parent"):
        page = await world.show(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await world.passes_axe()


async def test_dev_prints_its_address_and_it_shows_what_steps_say(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(SPEAKING)
    command = [sys.executable, "-m", "hatchet_operator", "dev", "worker.py"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            said = ""
            while (found := re.search(r"http://127\.0\.0\.1:\d+/\?key=\S+", said)) is None:
                said += (await process.stderr.readline()).decode()
        async with browsing() as browser, page_of(browser) as page:
            await page.goto(found[0])
            await page.goto(found[0].partition("/?")[0] + "/workflows/speak")
            await page.get_by_role("button", name="Start a run").click()
            await page.get_by_role("button", name="Start", exact=True).click()
            await page.get_by_role("tab", name="Logs").click()
            await expect(page.get_by_role("log")).to_contain_text(f"I say {MARKUP}", timeout=60_000)
            await expect(page.get_by_text("1 lines", exact=True)).to_be_visible(timeout=60_000)  # and it is over
    finally:
        process.terminate()
        await process.wait()


SPEAKING = f"""
from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Speak:
    @hatchet.step()
    def say(self, context: Context) -> None:
        print({f"I say {MARKUP}"!r})


worker = hatchet.worker("speaker", max_runs=2)
worker.register_workflow(Speak())
worker.start()
"""


@pytest.mark.parametrize(
    ("path", "body", "code", "said"),
    [
        ("runs", "[]", 400, "the body: Input should be an object"),
        ("runs", '{"input": {}}', 400, "workflow: Field required"),
        ("runs", '{"workflow": "child", "priority": 4}', 400, "priority: Input should be less than or equal to 3"),
        ("runs/ended/acts", '{"act": "explode"}', 400, "act: Input should be"),
        ("runs/ended/acts", '{"act": "retry"}', 409, "run ended succeeded, so nothing of it failed"),
        ("runs/nosuch/acts", '{"act": "cancel"}', 409, 'there is no run "nosuch"'),
    ],
)
async def test_wrong_requests_are_answered_with_a_sentence(path: str, body: str, code: int, said: str) -> None:
    async with running_operator() as instance, serving(instance.api, NAMESPACE) as address:
        await instance.work(Child())
        await instance.create_run("ended", "child", {"key": "a"})
        await instance.finished("ended")
        origin, _, key = address.partition("/?key=")
        headers = {"Cookie": f"hatchet-dashboard={key}", "Origin": origin}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{origin}/api/namespaces/{NAMESPACE}/{path}", data=body, headers=headers) as answer,
        ):
            assert (answer.status, said in (await answer.json())["error"]) == (code, True), await answer.text()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 403),  # without the cookie
        ({"Host": "evil.example"}, 421),
        ({"Cookie": "{cookie}", "Host": "evil.example"}, 421),
        ({"Cookie": "{cookie}", "Origin": "http://evil.example"}, 403),
        ({"Cookie": "{cookie}"}, 403),  # a form of another site sends no Origin in old browsers
        ({"Cookie": "hatchet-dashboard=wrong", "Origin": "{origin}"}, 403),
        ({"Cookie": "{cookie}", "Origin": "{origin}"}, 201),
    ],
)
async def test_others_are_kept_out(headers: dict[str, str], code: int) -> None:
    async with running_operator() as instance, serving(instance.api, NAMESPACE) as address:
        await instance.work(Child())
        origin, _, key = address.partition("/?key=")
        sent = {name: value.format(cookie=f"hatchet-dashboard={key}", origin=origin) for name, value in headers.items()}
        path = f"{origin}/api/namespaces/{NAMESPACE}/runs"
        async with (
            aiohttp.ClientSession() as session,
            session.post(path, json={"workflow": "child", "input": {"key": "a"}}, headers=sent) as answer,
        ):
            assert answer.status == code, await answer.text()
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
