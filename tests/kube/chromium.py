"""A real Chromium for tests of the page: HATCHET_TEST_CHROMIUM names it, otherwise the PATH has it."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

CHROMIUM = os.environ.get("HATCHET_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]  # root has no sandbox, and containers little shared memory
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: HATCHET_TEST_CHROMIUM or the PATH has to name one"
)

expect.set_options(timeout=60_000)  # the machine does other things as well


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Start a browser and end it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(browser: Browser, *, scheme: str = "light") -> AsyncIterator[Page]:
    """Open a page; what it complains about in its console fails the test."""
    context = await browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="dark" if scheme == "dark" else "light", locale="en-GB"
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    yield page
    await context.close()
    complaints = [each for each in complaints if "Failed to load resource" not in each]  # tests order such failures
    assert not complaints, f"the page complains: {complaints}"
