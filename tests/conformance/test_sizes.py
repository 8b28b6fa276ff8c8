"""What is too large, and in which words: a write refused for its size must not be repeated for ever."""

from __future__ import annotations

import pytest

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import Api

MIB = 2**20


async def test_a_mebibyte_fits(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", host="x" * MIB))).ok(201)
    assert len((await api.get(WIDGETS, "a")).ok()["spec"]["host"]) == MIB


@pytest.mark.parametrize(
    ("size", "code", "words"),
    [
        pytest.param(int(1.6 * MIB), 500, "etcdserver: request is too large", id="more than etcd takes"),
        pytest.param(int(2.5 * MIB), 500, "trying to send message larger than max", id="more than is sent to etcd"),
        pytest.param(int(3.1 * MIB), 413, "Request entity too large: limit is 3145728", id="more than is read"),
    ],
)
async def test_what_is_too_large_is_refused(api: Api, size: int, code: int, words: str) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    answers = [
        await api.create(WIDGETS, make_widget("b", host="x" * size)),
        await api.put(WIDGETS, created | {"status": {"output": "x" * size}}, "status"),
    ]
    for answer in answers:
        assert answer.status == code
        assert words in answer.body["message"]
    assert (await api.get(WIDGETS, "a")).ok() == created
