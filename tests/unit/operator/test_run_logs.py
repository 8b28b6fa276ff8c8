from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hatchet_operator.cluster.api import Api, Endpoint, Json, always
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.run_logs import RunLogs, _Source

POD = {"spec": {"containers": [{"name": "worker"}]}}


class LogApi(Api):
    """A pod and the log of its container, as it is now."""

    def __init__(self) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.lines: list[str] = []

    async def get(self, *args: object) -> Json:
        return POD

    async def log_lines(self, *args: object, **kwargs: object) -> AsyncIterator[str]:
        for line in self.lines:
            yield line


def numbered(first: int, last: int, *, time: str = "1") -> list[str]:
    return [f"{time} INFO run work: {number}" for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        pytest.param(numbered(1, 3), numbered(1, 3), numbered(1, 3), id="nothing new"),
        pytest.param(numbered(1, 3), numbered(1, 5), numbered(1, 5), id="the log went on"),
        pytest.param([], numbered(1, 2), numbered(1, 2), id="it has only begun"),
        pytest.param(
            numbered(1, 5),
            numbered(1, 2, time="2"),
            numbered(1, 5) + numbered(1, 2, time="2"),
            id="another container's, shorter than that of the first",
        ),
        pytest.param(
            numbered(1, 2),
            numbered(1, 5, time="2"),
            numbered(1, 2) + numbered(1, 5, time="2"),
            id="another container's, longer",
        ),
        pytest.param(
            ["run work: same", *numbered(1, 2)],
            ["run work: same", *numbered(1, 1, time="2")],
            ["run work: same", *numbered(1, 2), "run work: same", *numbered(1, 1, time="2")],
            id="another container's, which begins alike",
        ),
    ],
)
@pytest.mark.parametrize("is_the_runs", [True, False], ids=["the run's own pod", "a shared pod"])
async def test_a_log_that_is_read_again(
    before: list[str], after: list[str], want: list[str], is_the_runs: bool
) -> None:
    api, shown = LogApi(), list[str]()
    logs, source = RunLogs(api, ObjectRef("default", "run"), write=shown.append), _Source("main-1", is_the_runs)
    others = [] if is_the_runs else ["1 INFO another work: x"]
    for lines in (before, after, after):
        api.lines = [*others, *lines]
        await logs._copy(source, follow=True)
    assert shown == want
