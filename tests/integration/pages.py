"""The page in a real Chromium, with the real operator behind it, for tests of its views."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from hatchet_cli.dashboard.server import serving
from hatchet_operator.cluster.api import always
from hatchet_operator.cluster.endpoint import Endpoint
from tests.integration.inprocess import NAMESPACE, Instance, running_operator
from tests.kube.chromium import browsing, page_of
from tests.kube.session import Session

MARKUP = "<img src=x onerror=\"document.title='taken'\">"
"""What a user may write anywhere, and what must stay a text."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A page that shows what an operator does.

    Attributes:
        instance: The operator with its API server and workers.
        session: The way of the page's server to the API server.
        page: The browser's.
        address: Where the page is served, without its key.
    """

    instance: Instance
    session: Session
    page: Page
    address: str

    async def show(self, path: str) -> Page:
        await self.page.goto(self.address + path)
        return self.page

    async def name_shown(self) -> str:
        """Wait for the page of a run, and return its name."""
        await self.page.wait_for_url(re.compile("/runs/."))
        return self.page.url.rsplit("/", 1)[1]

    async def passes_axe(self) -> None:
        """Fail for what keeps somebody from using what is shown, light or dark."""
        for scheme in ("dark", "light"):
            await self.page.emulate_media(color_scheme=scheme)
            found = await Axe().run(self.page)
            assert found.response["violations"] == [], f"{self.page.url}, {scheme}: {found.generate_report()}"


@asynccontextmanager
async def a_page(*workflows: object, slots: int = 20) -> AsyncIterator[World]:
    """Run these workflows, and open the page in a browser."""
    async with (
        running_operator(running_after=0.2) as instance,
        Session(Endpoint(server=instance.url), user_agent="page", may_write=always) as session,
        serving(session, NAMESPACE, ask_seconds=0.2) as address,
        browsing() as browser,
        page_of(browser) as page,
    ):
        await instance.work(*workflows, slots=slots)
        await page.goto(address)
        assert "key=" not in page.url, "histories and screenshots would have it"
        yield World(instance=instance, session=session, page=page, address=address.partition("/?")[0])
