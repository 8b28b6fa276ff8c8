"""The variables that machines and clusters set for the web's sake."""

from __future__ import annotations

import pytest

from hatchet_sdk import Hatchet
from hatchet_sdk._client.pace import Pace
from hatchet_sdk.errors import OperatorUnavailable, WorkflowNotFound
from tests.unit.sdk.fake_operator import FakeOperator

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_proxy_for_the_web_is_not_asked(
    hatchet: Hatchet, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, NOBODY)
    with pytest.raises(WorkflowNotFound):  # so it was asked
        hatchet.admin.run_workflow("Any", {})


@pytest.mark.parametrize("pace", [Pace(patience=0.5)], ids=["impatient"])
def test_a_proxy_for_grpc_is(hatchet: Hatchet, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("grpc_proxy", NOBODY)
    with pytest.raises(OperatorUnavailable):
        hatchet.admin.run_workflow("Any", {})
    assert operator.calls == []
