"""kopf's requests, on their way to the API server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from yarl import URL

from hatchet_operator.handlers import KopfWatches

WORKFLOWS = "https://api/apis/hatchet-operator.dev/v1alpha1/namespaces/{}/workflows"


class Answer:
    def __init__(self, status: int) -> None:
        self.status = status
        self.ok = status == 200

    def close(self) -> None:
        """As there is nothing to close."""


class Request:
    def __init__(self, namespace: str) -> None:
        self.url = URL(WORKFLOWS.format(namespace)).with_query("watch=true")


async def answer_of(watches: KopfWatches, namespace: str, *statuses: int) -> int:
    """Pass on a request that the server answers in turn, and return what kopf sees."""
    left = iter(statuses)

    async def handler(request: Any) -> Any:
        return Answer(next(left))

    return (await watches.pass_on(cast("Any", Request(namespace)), handler)).status


@pytest.mark.parametrize(
    ("namespaces", "statuses", "want"),
    [
        pytest.param(("a", "b"), (403, 403, 200), 200, id="of one of several, kopf does not learn"),
        pytest.param(("a",), (403, 200), 403, id="of the only one it does, and is started again"),
        pytest.param(("a",), (404, 200), 200, id="an absent kind"),
    ],
)
async def test_a_right_that_is_taken_away(namespaces: tuple[str, ...], statuses: tuple[int, ...], want: int) -> None:
    watches = KopfWatches(namespaces, on_list=lambda: None, on_absence=lambda: None, absent_seconds=0)
    watches.begin()
    assert await answer_of(watches, "a", *statuses) == want


async def test_a_kind_is_as_fresh_as_in_the_namespace_that_was_asked_longest_ago() -> None:
    watches = KopfWatches(("a", "b"), on_list=lambda: None, on_absence=lambda: None)
    watches.begin()
    began = watches.asked_at()["workflows"]
    await asyncio.sleep(0.01)
    await answer_of(watches, "a", 200)
    assert watches.asked_at()["workflows"] == began
    await answer_of(watches, "b", 200)
    assert watches.asked_at()["workflows"] > began
