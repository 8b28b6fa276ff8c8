"""The page's buttons: whoever lacks a right has none that needs it, and with it each does what it says.

A real kube-apiserver decides, and its rules check what is written. No operator runs.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from hatchet_operator.cluster.kinds import POOLS, RUNS, WORKFLOWS, Resource
from hatchet_operator.resources.base import GROUP, Json
from tests.integration.test_dashboard_viewers import (
    ROLES,
    SEES,
    TEAM,
    World,
    admin,
    put,
    server,
    sign_in,
    world,
)
from tests.kube.chromium import browsing, needs_chromium, page_of
from tests.kube.eventually import eventually

__all__ = ["admin", "server", "world"]  # its fixtures
pytestmark = needs_chromium

SCHEDULE = "30 6 * * MON-FRI"
SCHEMA = {"type": "object", "properties": {"customer": {"type": "string", "title": "Customer"}}}


def rule(verb: str, resource: str, group: str = GROUP) -> Json:
    return {"apiGroups": [group], "resources": [resource], "verbs": [verb]}


CREATE, CHANGE, DELETE, CHANGE_WORKFLOWS, PODS, LOGS = (
    rule("create", "workflowruns"),
    rule("patch", "workflowruns"),
    rule("delete", "workflowruns"),
    rule("patch", "workflows"),
    rule("list", "pods", ""),
    rule("get", "pods/log", ""),
)
OFFERED: dict[str, list[tuple[Json, set[str]]]] = {
    "/workflows/report": [
        (CREATE, {"Start a run"}),
        (CHANGE_WORKFLOWS, {"Suspend", f"Suspend {SCHEDULE} of Report"}),
    ],
    "/schedules": [
        (CHANGE_WORKFLOWS, {f"Suspend {SCHEDULE} of Report"}),
        (CHANGE, {"Move later"}),
        (DELETE, {"Delete later"}),
    ],
    "/runs/failed": [(CHANGE, {"Retry what failed", "Replay"}), (LOGS, {"Logs"})],
    "/runs/waits": [(CHANGE, {"Suspend", "Cancel"})],
    "/pools": [(PODS, {"Pods of etl"})],
}
"""What each right alone has a view offer."""


@pytest.fixture
async def filled(world: World) -> AsyncIterator[World]:
    """Put one thing of each kind there."""
    definition = {
        "name": "Report",
        "version": "1",
        "scheduleTimeout": "5m",
        "steps": [{"name": "write", "action": "report:write", "timeout": "1m"}],
        "crons": [SCHEDULE],
        "inputSchema": json.dumps(SCHEMA),
    }
    await make(world, WORKFLOWS, "report", {"name": "Report"}, {"definition": definition})
    template = {"spec": {"containers": [{"name": "worker", "image": "etl:1"}]}}
    await make(world, POOLS, "etl", {"template": template})
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await make(world, RUNS, "later", {"workflow": "report", "startAt": at})
    await make(world, RUNS, "waits", {"workflow": "report"})
    await make(world, RUNS, "failed", {"workflow": "report"}, {"phase": "Failed", "reason": "StepFailed"})
    yield world
    for resource, name in ((WORKFLOWS, "report"), (POOLS, "etl")):
        await world.admin.delete(resource, TEAM, name)
    for run in (await world.admin.list_all(RUNS, TEAM))[0]:
        await world.admin.delete(RUNS, TEAM, run["metadata"]["name"])


async def make(world: World, resource: Resource, name: str, spec: Json, status: Json | None = None) -> None:
    await put(world.admin, resource, {"kind": resource.kind, "metadata": {"name": name}, "spec": spec})
    if status is not None:
        await world.admin.patch(resource, TEAM, name, {"status": status}, subresource="status")


async def test_each_right_has_its_own_buttons_offered_and_no_others(filled: World) -> None:
    token = await filled.person("mia", SEES)
    async with browsing() as browser, page_of(browser) as page:
        await sign_in(page, filled.origin, token)
        await expect(page.get_by_role("link", name="waits", exact=True)).to_be_visible()
        for path, rights in OFFERED.items():
            all_of_it = set[str]().union(*(names for _, names in rights))
            await page.goto(filled.origin + path)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            for given, offered in [([], set[str]()), *(([each], names) for each, names in rights)]:
                await put(filled.admin, ROLES, {"metadata": {"name": "mia"}, "rules": [*SEES, *given]})
                for name in sorted(all_of_it):
                    button = page.get_by_role("tab" if name == "Logs" else "button", name=name, exact=True)
                    await expect(button).to_be_visible(visible=name in offered)  # without a reload


async def test_with_its_right_each_button_does_what_it_says(filled: World) -> None:
    token = await filled.person("noa", [*SEES, CREATE, CHANGE, DELETE, CHANGE_WORKFLOWS])
    async with browsing() as browser, page_of(browser) as page:
        await sign_in(page, filled.origin, token)
        await expect(page.get_by_role("link", name="waits", exact=True)).to_be_visible()
        person = Person(filled, page)
        await person.presses("/workflows/report", "Suspend")
        await person.finds(WORKFLOWS, "report", suspended=True)
        await expect(page.get_by_role("button", name=SCHEDULE)).to_be_hidden()  # there is nothing left to suspend
        await person.presses(None, "Resume")
        await person.finds(WORKFLOWS, "report", suspended=False)

        await person.presses(None, f"Suspend {SCHEDULE} of Report")
        await expect(page.get_by_role("table", name="Crons").get_by_text("Suspended")).to_be_visible()
        await person.finds(WORKFLOWS, "report", crons=[{"schedule": SCHEDULE, "suspended": True}])
        found = await Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        await person.presses("/schedules", f"Resume {SCHEDULE} of Report")
        await person.finds(WORKFLOWS, "report", crons=[])  # as before: what the code says

        await person.presses("/runs/waits", "Suspend")
        await person.finds(RUNS, "waits", suspended=True)
        await person.presses(None, "Resume")
        await person.finds(RUNS, "waits", suspended=False)
        await person.presses(None, "Cancel")
        await person.finds(RUNS, "waits", cancelled=True)
        await person.presses("/runs/failed", "Replay")
        await person.finds(RUNS, "failed", replay={"number": 1, "from": "Start"})

        await person.presses("/workflows/report", "Start a run")
        await page.get_by_role("dialog").get_by_label("Customer").fill("Ada")
        await page.get_by_role("dialog").get_by_role("button", name="Start", exact=True).click()
        await page.wait_for_url("**/runs/report-*")
        started = await filled.admin.get(RUNS, TEAM, page.url.rsplit("/", 1)[1])
        assert json.loads(started["spec"]["inputJson"]) == {"customer": "Ada"}

        await person.presses("/schedules", "Delete later")
        await page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        await expect(page.get_by_text("No scheduled runs.")).to_be_visible()
        names = [run["metadata"]["name"] for run in (await filled.admin.list_all(RUNS, TEAM))[0]]
        assert "later" not in names


@dataclass(frozen=True)
class Person:
    """Somebody in front of the page."""

    world: World
    page: Page

    async def presses(self, path: str | None, name: str) -> None:
        """Press a button with the keyboard, in a view if it is another one."""
        if path is not None:
            await self.page.goto(self.world.origin + path)
        button = self.page.get_by_role("button", name=name, exact=True)
        await button.focus()
        await self.page.keyboard.press("Enter")

    async def finds(self, resource: Resource, name: str, **want: Any) -> None:
        """Wait until an object's spec has this."""

        async def has_it() -> bool:
            spec = (await self.world.admin.get(resource, TEAM, name))["spec"]
            return {field: spec.get(field) for field in want} == want

        await eventually(has_it)
