"""The page's views of what starts by the clock, of what holds runs back, and of pods, in a real Chromium."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import expect

from hatchet_operator.cluster.kinds import OWN_ACCESS_REVIEWS, PODS, POOLS, RATE_LIMITS, WORKFLOWS, Resource
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_sdk import ConcurrencyExpression, ConcurrencyLimitStrategy, Context, Hatchet, RateLimit
from tests.integration.inprocess import NAMESPACE, SECONDS
from tests.integration.pages import MARKUP, World, a_page
from tests.kube.chromium import needs_chromium
from tests.kube.eventually import eventually
from tests.kube.session import Call as ApiCall

pytestmark = needs_chromium

hatchet = Hatchet()  # for its decorators
go_on = threading.Event()
BY_USER = ConcurrencyExpression("input.user", max_runs=1, limit_strategy=ConcurrencyLimitStrategy.QUEUE_NEWEST)


@hatchet.workflow(on_crons=["30 6 * * MON-FRI"])
class Report:
    @hatchet.step()
    def write(self, context: Context) -> None: ...


@hatchet.workflow(concurrency=BY_USER)
class Convert:
    @hatchet.step(timeout="5m")
    def convert(self, context: Context) -> None:
        go_on.wait(SECONDS)


@hatchet.workflow()
class Call:
    @hatchet.step(rate_limits=[RateLimit("calls", units=1)])
    def call(self, context: Context) -> None: ...


@pytest.fixture
async def world() -> AsyncIterator[World]:
    go_on.clear()
    async with a_page(Report(), Convert(), Call()) as world:
        yield world
        go_on.set()


async def test_crons_say_when_they_tick_in_their_zone_and_what_they_do(world: World) -> None:
    page = await world.show("/schedules")
    table = page.get_by_role("table", name="Crons")
    ours = table.get_by_role("row").filter(has_text="30 6 * * MON-FRI")
    await expect(ours).to_contain_text("06:30 UTC")
    await expect(ours).to_contain_text("starts another")
    crons = [
        {"schedule": "0 4 * * *", "timeZone": "Asia/Tokyo", "concurrencyPolicy": "Forbid"},
        {"schedule": "0 5 * * *", "suspended": True},
        {"schedule": "0 6 * * *", "timeZone": "Europe/Atlantis"},
    ]
    await world.instance.api.patch(WORKFLOWS, NAMESPACE, "report", {"spec": {"crons": crons}})
    tokyo = table.get_by_role("row").filter(has_text="0 4 * * *")
    await expect(tokyo).to_contain_text("04:00 Asia/Tokyo")  # wherever the browser is
    await expect(tokyo).to_contain_text("skips the tick")
    suspended = table.get_by_role("row").filter(has_text="0 5 * * *")
    await expect(suspended).to_contain_text("Suspended")
    await expect(table.get_by_role("row").filter(has_text="Atlantis")).to_contain_text("is not known")
    await world.passes_axe()

    await page.get_by_label("Hide suspended crons").check()
    await expect(suspended).to_be_hidden()
    await page.reload()  # the address says what is shown
    await expect(tokyo).to_be_visible()
    await expect(suspended).to_be_hidden()
    await world.show("/workflows/report")
    await expect(tokyo).to_be_visible()
    await world.show("/schedules?workflow=call")
    await expect(page.get_by_text("No matching crons.")).to_be_visible()


async def test_a_run_is_scheduled_in_the_form_moved_and_deleted(world: World) -> None:
    page = await world.show("/workflows/report")
    await page.get_by_role("button", name="Start a run").click()
    at = datetime.now().astimezone().replace(second=0, microsecond=0) + timedelta(days=1)
    await page.get_by_label("Starts at").fill(at.strftime("%Y-%m-%dT%H:%M"))
    await page.get_by_role("button", name="Start", exact=True).click()
    name = await world.name_shown()
    await world.show("/schedules")
    row = page.get_by_role("table", name="Scheduled runs").get_by_role("row").filter(has_text=name)
    await expect(row).to_contain_text("in 23h")
    await world.passes_axe()

    await row.get_by_role("button", name=f"Move {name}").click()
    dialog = page.get_by_role("dialog", name=f"Move {name}")
    await expect(dialog.get_by_label("Starts at")).to_have_value(at.strftime("%Y-%m-%dT%H:%M"))
    later = at + timedelta(days=3)
    await dialog.get_by_label("Starts at").fill(later.strftime("%Y-%m-%dT%H:%M"))
    await dialog.get_by_role("button", name="Move", exact=True).click()
    await expect(row).to_contain_text("in 3d23h")
    starts = (await world.instance.run(name))["spec"]["startAt"]
    assert datetime.fromisoformat(starts) == later.astimezone(UTC)

    await row.get_by_role("button", name=f"Delete {name}").click()
    dialog = page.get_by_role("dialog", name=f"Delete {name}")
    await world.instance.patch_run(name, priority=2)  # it is another one than the page showed when it was asked
    await dialog.get_by_role("button", name="Delete", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_contain_text("does not match")
    await dialog.get_by_role("button", name="Close").click()
    await row.get_by_role("button", name=f"Delete {name}").click()
    await dialog.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.get_by_text("No scheduled runs.")).to_be_visible()
    assert await world.instance.runs() == []


async def test_what_the_viewer_may_not_do_is_not_offered(world: World) -> None:
    refused: set[tuple[str, str]] = set()

    async def review(create: ApiCall, resource: Resource, namespace: str | None, body: Json, **options: Any) -> Json:
        if resource != OWN_ACCESS_REVIEWS:
            answer: Json = await create(resource, namespace, body, **options)
            return answer
        wanted = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (wanted["verb"], wanted["resource"]) not in refused}}

    world.session.detours["create"] = review
    at = datetime.now(UTC) + timedelta(hours=1)
    await world.instance.create_run("later", "report", startAt=at.isoformat())
    await create_pool(world, minReplicas=0, maxReplicas=1)
    for path, name, verb, resource in (
        ("/schedules", "Delete later", "delete", "workflowruns"),
        ("/schedules", "Move later", "patch", "workflowruns"),
        ("/workflows/report", "Start a run", "create", "workflowruns"),
        ("/pools?pods=etl", "Pods of etl", "list", "pods"),
    ):
        refused.clear()
        page = await world.show(path)
        button = page.get_by_role("button", name=name)
        await expect(button).to_be_visible()
        refused.add((verb, resource))
        await expect(button).to_be_hidden()  # without a reload


async def test_a_group_says_who_goes_on_and_who_waits(world: World) -> None:
    for number in range(8):
        await world.instance.create_run(f"ada-{number}", "convert", {"user": MARKUP})
    await world.instance.create_run("bob", "convert", {"user": "bob"})
    page = await world.show("/limits")
    table = page.get_by_role("table", name="Concurrency groups")
    group = table.get_by_role("row").filter(has_text=MARKUP)
    await expect(group.get_by_role("cell").nth(2)).to_contain_text("1 of 1")
    await expect(group.get_by_role("cell").nth(2).get_by_role("link", name="ada-0")).to_be_visible()
    await expect(group.get_by_role("cell").nth(3)).to_contain_text("ada-1ada-2ada-3ada-4ada-5and 2 more")
    await world.passes_axe()
    await page.get_by_label("Only if something waits").check()
    await expect(table.get_by_role("row").filter(has_text="bob")).to_be_hidden()
    await group.get_by_role("link", name="and 2 more").click()
    await expect(page.get_by_test_id("shown")).to_have_text("8 of 9")
    await expect(page.get_by_label("Concurrency group")).to_have_value(MARKUP)
    await page.go_back()
    go_on.set()
    await expect(page.get_by_text("No matching groups.")).to_be_visible()  # without a reload
    assert await page.title() == "hatchet", "what users write is text"


async def test_a_rate_limit_says_what_is_used_and_who_waits(world: World) -> None:
    limit: Json = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "calls"}}
    await world.instance.api.create(RATE_LIMITS, NAMESPACE, limit | {"spec": {"limit": 1, "window": "1h"}})
    await world.instance.create_run("first", "call")
    await world.instance.finished("first")
    for number in range(7):
        await world.instance.create_run(f"call-{number}", "call", priority=3 if number == 6 else 1)
    page = await world.show("/limits")
    row = page.get_by_role("table", name="Rate limits").get_by_role("row").filter(has_text="calls")
    await expect(row).to_contain_text("1 of 1")
    await expect(row.get_by_role("cell").last).to_contain_text("7call-6call-0call-1call-2call-3and 2 more")
    await world.passes_axe()


async def test_a_pool_says_why_its_pods_are_not_ready(world: World) -> None:
    api = world.instance.api
    await create_pool(world, minReplicas=2)
    names: list[str] = []

    async def are_there() -> bool:
        names[:] = sorted(pod["metadata"]["name"] for pod in (await api.list_all(PODS, NAMESPACE))[0])
        return len(names) == 2

    await eventually(are_there)
    broken, fine = names
    page = await world.show("/pools")
    await page.get_by_role("button", name="Pods of etl").click()
    table = page.get_by_role("table", name="Pods of etl")
    await expect(table.get_by_role("row")).to_have_count(3)
    await set_status(world, fine, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    waiting = {"reason": "ErrImagePull", "message": f"etl:1: not found {MARKUP}"}
    container = {"name": "worker", "state": {"waiting": waiting}, "ready": False, "restartCount": 0, "image": "etl:1"}
    await set_status(world, broken, {"phase": "Pending", "containerStatuses": [container | {"imageID": ""}]})
    said = f"ErrImagePull: etl:1: not found {MARKUP}"
    await expect(table.get_by_role("row").filter(has_text=broken)).to_contain_text(said)
    await expect(table.get_by_role("row").nth(1)).to_contain_text(broken)  # what is not well comes first
    await expect(table.get_by_role("row").filter(has_text=fine).get_by_text("Ready", exact=True)).to_be_visible()
    await expect(page.get_by_role("alert").filter(has_text="PodsFailing")).to_contain_text(said)
    await expect(page.get_by_text("0 of 2 workers · 2 to 2")).to_be_visible()
    await page.reload()  # the address says which pool is open
    await expect(table).to_be_visible()
    await world.passes_axe()


async def create_pool(world: World, **spec: Any) -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "etl:1"}]}}
    body = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": "etl"}}
    await world.instance.api.create(POOLS, NAMESPACE, body | {"spec": {"template": template, **spec}})


async def set_status(world: World, pod: str, status: dict[str, Any]) -> None:
    """Write what a kubelet writes."""
    await world.instance.api.patch(PODS, NAMESPACE, pod, {"status": status}, subresource="status")
