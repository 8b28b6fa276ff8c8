"""Makes the pictures of the page in the docs: HATCHET_TEST_PICTURES=docs/pictures says where they go."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect
from pydantic import BaseModel, Field

from hatchet_operator.cluster.kinds import RATE_LIMITS, WORKFLOWS
from hatchet_operator.resources.base import API_VERSION
from hatchet_sdk import ConcurrencyExpression, ConcurrencyLimitStrategy, Context, Hatchet, RateLimit
from tests.integration.inprocess import NAMESPACE
from tests.integration.pages import World, a_page
from tests.kube.chromium import needs_chromium

VARIABLE = "HATCHET_TEST_PICTURES"
pytestmark = [
    needs_chromium,
    pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder for them"),
]

hatchet = Hatchet()  # for its decorators
go_on = threading.Event()
CUSTOMERS = [f"customer-{number}" for number in range(8)]
BY_USER = ConcurrencyExpression("input.user", max_runs=2, limit_strategy=ConcurrencyLimitStrategy.QUEUE_NEWEST)


@hatchet.workflow(on_crons=["0 5 1 * *"])
class Parent:
    @hatchet.step(timeout="1m")
    async def spawn(self, context: Context) -> dict[str, Any]:
        given = context.workflow_input()
        refs = [await context.aio.spawn_workflow("Child", {**given, "key": key}, key=key) for key in CUSTOMERS]
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
    article: str = Field(min_length=2)
    count: int = Field(1, ge=1, le=9)


class Order(BaseModel):
    customer: str = Field(description="Who pays", min_length=1)
    speed: Literal["slow", "fast"] = "slow"
    lines: list[Line] = []
    gift: bool = False


@hatchet.workflow(input_validator=Order)
class Buy:
    @hatchet.step()
    def pay(self, context: Context) -> None: ...


@hatchet.workflow(on_crons=["30 6 * * MON-FRI"])
class Report:
    @hatchet.step()
    def write(self, context: Context) -> None: ...


@hatchet.workflow(concurrency=BY_USER)
class Convert:
    @hatchet.step(timeout="5m", rate_limits=[RateLimit("conversions", units=1)])
    def convert(self, context: Context) -> None:
        go_on.wait(60)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    go_on.clear()
    async with a_page(Parent(), Child(), Buy(), Report(), Convert()) as world:
        yield world
        go_on.set()


async def test_pictures_of_the_docs(world: World) -> None:
    for number in range(12):
        fails = {"fails": CUSTOMERS[3]} if number % 5 == 4 else {}
        await world.instance.create_run(f"invoices-{number}", "parent", fails)
        await world.instance.finished(f"invoices-{number}")
    await world.instance.create_run("invoices-12", "parent", {"waits": True})
    for name, path in {"overview": "/", "runs": "/runs", "run": "/runs/invoices-4"}.items():
        await take(await world.show(path), name)


async def test_pictures_of_what_starts_and_waits(world: World) -> None:
    api = world.instance.api
    page = await world.show("/workflows/buy")
    await page.get_by_role("button", name="Start a run").click()
    form = page.get_by_role("dialog", name="Start Buy")
    await form.get_by_role("button", name="Add").click()
    await form.get_by_label("Article").fill("a hat")
    await form.get_by_label("Count").fill("12")
    await form.get_by_role("button", name="Start", exact=True).click()
    await expect(form.get_by_text("12 is greater than 9").first).to_be_visible()
    await page.set_viewport_size({"width": 1280, "height": 1040})
    await take(page, "form")
    await page.set_viewport_size({"width": 1280, "height": 690})

    crons = [
        {"schedule": "0 4 * * *", "timeZone": "Asia/Tokyo", "concurrencyPolicy": "Forbid"},
        {"schedule": "0 12 * * SUN", "timeZone": "Europe/Berlin", "suspended": True},
    ]
    await api.patch(WORKFLOWS, NAMESPACE, "report", {"spec": {"crons": crons}})
    for number, hours in enumerate((5, 29)):
        at = datetime.now(UTC) + timedelta(hours=hours)
        await world.instance.create_run(f"year-end-{number}", "report", startAt=at.isoformat())
    await world.show("/schedules")
    await expect(page.get_by_role("table", name="Crons").get_by_text("Suspended")).to_be_visible()
    await take(page, "schedules")

    limit = {"apiVersion": API_VERSION, "kind": "RateLimit", "metadata": {"name": "conversions"}}
    await api.create(RATE_LIMITS, NAMESPACE, limit | {"spec": {"limit": 3, "window": "1h"}})
    for number in range(5):
        for user in ("ada", "bob"):
            await world.instance.create_run(f"{user}-{number}", "convert", {"user": user})
    await world.show("/limits")
    await expect(page.get_by_role("table", name="Rate limits").get_by_text("3 of 3")).to_be_visible()
    await take(page, "limits")


async def take(page: Page, name: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await page.wait_for_load_state("load")
    await expect(page.get_by_text("…", exact=True)).to_be_hidden()
    picture = await page.screenshot(path=Path(os.environ[VARIABLE], f"dashboard-{name}.png"), animations="disabled")
    assert len(picture) > 20_000, f"the picture of {name} is empty"
