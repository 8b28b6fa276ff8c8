"""An object that its observer can't take stops no other, in a list and in a watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchet_operator.cluster.api import Api, Page, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.resources.base import Json


def make_object(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"}}


class ScriptedApi(Api):
    """Lists and then tells of three objects each, of which the second is poison."""

    def __init__(self) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)

    async def list_pages(self, *_: Any, **__: Any) -> AsyncIterator[Page]:
        yield Page(items=[make_object("a"), make_object("poison"), make_object("b")], version="1")

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, Json]]:
        for name in ("c", "poison", "d"):
            yield "MODIFIED", make_object(name)
        await asyncio.Event().wait()


async def test_the_others_go_on_and_the_log_names_it(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    failures = 0
    done = asyncio.Event()

    def observe(kind: str, obj: Json) -> None:
        name = obj["metadata"]["name"]
        if name == "poison":
            raise ValueError("not understood")
        seen.append(name)
        if name == "d":
            done.set()

    def failed() -> None:
        nonlocal failures
        failures += 1

    running = asyncio.create_task(Informer(ScriptedApi(), PODS, on_change=observe, on_failure=failed).run())
    async with asyncio.timeout(60):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen == ["a", "b", "c", "d"]
    assert failures == 2
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(record.getMessage(), vars(record)["object"]) for record in errors] == [
        ("object not observed", "shop/poison")
    ] * 2
