"""Labels that a step gives its worker: as the step and those beside it read them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

import pytest

from hatchet_sdk import RequestRefused
from hatchet_sdk._runner.worker_labels import WorkerContext

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client


class Asked:
    """A client whose operator answers when the test says so."""

    def __init__(self) -> None:
        self.answer: Future[object] = Future()

    def upsert_worker_labels(self, worker_id: str, labels: Mapping[str, str | int]) -> Future[object]:
        return self.answer


@pytest.mark.parametrize("is_refused", [False, True])
async def test_labels_count_before_the_answer_and_not_after_a_refusal(is_refused: bool) -> None:
    asked = Asked()
    worker = WorkerContext(cast("Client", asked), worker_id="w", labels={"model": "small", "zone": "a"})
    setting = asyncio.create_task(worker.async_upsert_labels({"model": "large", "memory": 5}))
    await asyncio.sleep(0)
    assert worker.labels() == {"model": "large", "zone": "a", "memory": 5}, "a step that waited may read them now"
    if is_refused:
        asked.answer.set_exception(RequestRefused("no"))
        with pytest.raises(RequestRefused):
            await setting
        assert worker.labels() == {"model": "small", "zone": "a"}
    else:
        asked.answer.set_result(None)
        await setting
        assert worker.labels() == {"model": "large", "zone": "a", "memory": 5}
