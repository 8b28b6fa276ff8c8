"""What people do to runs, as patches; and with which runs of a tree a retry begins."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.decisions.acts import Act, plan_act, retried_in
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import ParentRef, RunSpec, RunStatus, WorkflowRun

PAUSED = {"phase": Phase.RUNNING, "reason": Reason.PAUSED}
OVER = {"phase": Phase.FAILED, "reruns": 2}


def make(name: str = "r", parent: str | None = None, status: dict[str, Any] | None = None, **spec: Any) -> WorkflowRun:
    metadata = ObjectMeta(name=name, namespace="default", uid=name, resource_version="7")
    if parent is not None:
        spec["parent"] = ParentRef(name=parent, uid=parent, step="work", index=0)
    return WorkflowRun(
        metadata=metadata,
        spec=RunSpec.model_validate({"workflow": "etl", **spec}),
        status=RunStatus.model_validate(status or {}),
    )


def replay(number: int, origin: str) -> dict[str, Any]:
    return {"replay": {"number": number, "from": origin, "requestedBy": None}}


@pytest.mark.parametrize(
    ("act", "run", "want"),
    [
        pytest.param(Act.CANCEL, make(), {"cancelled": True}, id="cancel a run that waits"),
        pytest.param(Act.CANCEL, make(status=PAUSED), {"cancelled": True}, id="cancel a paused run"),
        pytest.param(Act.CANCEL, make(cancelled=True), "is already cancelled", id="cancel again"),
        pytest.param(Act.CANCEL, make(status=OVER), "!is over (Failed), so there is", id="cancel what is over"),
        pytest.param(Act.CANCEL, make(status=OVER, reruns=3), {"cancelled": True}, id="cancel what is to be run again"),
        pytest.param(Act.RETRY, make(status=OVER), replay(3, "Failed"), id="retry what failed"),
        pytest.param(
            Act.RETRY, make(status={"phase": Phase.CANCELLED}), replay(1, "Failed"), id="retry what was cancelled"
        ),
        pytest.param(Act.RETRY, make(status=PAUSED), {"resumes": 1}, id="retry a paused run"),
        pytest.param(Act.RETRY, make(status={"phase": Phase.RUNNING}), "!goes on (Running)", id="retry what goes on"),
        pytest.param(Act.RETRY, make(status={"phase": Phase.SUCCEEDED}), "!succeeded, so nothing", id="nothing failed"),
        pytest.param(Act.RETRY, make(status=OVER, cancelled=True), "!was cancelled, and stays so", id="by a person"),
        pytest.param(Act.RETRY, make(status=OVER, reruns=3), "is already about to run again", id="retry twice"),
        pytest.param(
            Act.RETRY,
            make(status=OVER, replay={"number": 2, "from": "Start"}),
            replay(3, "Failed"),
            id="retry after a replay",
        ),
        pytest.param(Act.REPLAY, make(status={"phase": Phase.SUCCEEDED}), replay(1, "Start"), id="replay"),
        pytest.param(Act.REPLAY, make(status=PAUSED), "!is paused; resume it", id="replay a paused run"),
        pytest.param(Act.REPLAY, make(), "!goes on (Pending)", id="replay what waits"),
        pytest.param(Act.SUSPEND, make(), {"suspended": True}, id="suspend"),
        pytest.param(Act.SUSPEND, make(suspended=True), "is already suspended", id="suspend again"),
        pytest.param(Act.SUSPEND, make(status=OVER), "!is over (Failed)", id="suspend what is over"),
        pytest.param(Act.RESUME, make(suspended=True), {"suspended": False}, id="resume a suspended run"),
        pytest.param(
            Act.RESUME, make(status=PAUSED | {"resumes": 4}, resumes=4), {"resumes": 5}, id="resume a paused run"
        ),
        pytest.param(
            Act.RESUME,
            make(status=PAUSED, suspended=True),
            {"suspended": False, "resumes": 1},
            id="resume a run that is both",
        ),
        pytest.param(
            Act.RESUME, make(status=PAUSED, resumes=1), "is neither suspended nor paused", id="resume a run twice"
        ),
        pytest.param(Act.RESUME, make(), "is neither suspended nor paused", id="resume a run that goes on"),
    ],
)
def test_acts(act: Act, run: WorkflowRun, want: dict[str, Any] | str) -> None:
    verdict = plan_act(act, run)
    if isinstance(want, str):
        assert (verdict.patch, verdict.is_refused) == (None, want.startswith("!"))
        assert verdict.says.startswith(want.removeprefix("!"))
    else:
        assert verdict.patch == {"metadata": {"uid": "r", "resourceVersion": "7"}, "spec": want}
        assert not verdict.is_refused


FAILED, GOOD, GOING = {"phase": Phase.FAILED}, {"phase": Phase.SUCCEEDED}, {"phase": Phase.RUNNING}


@pytest.mark.parametrize(
    ("root", "tree", "want"),
    [
        pytest.param(make(status=FAILED), [make("a", "r", FAILED)], ["r"], id="a failed root asks for all below it"),
        pytest.param(
            make(status=GOOD),
            [make("a", "r", FAILED), make("b", "a", FAILED), make("c", "r", GOOD), make("d", "c", FAILED)],
            ["a", "d"],
            id="the topmost below one that succeeded",
        ),
        pytest.param(
            make(status=GOING),
            [make("a", "r", PAUSED), make("b", "a", FAILED), make("c", "r", GOING)],
            ["a", "b"],
            id="what is paused, and what failed below it",
        ),
        pytest.param(make(status=GOOD), [make("a", "r", FAILED, cancelled=True)], [], id="not what a person cancelled"),
        pytest.param(make(status=GOOD), [make("a", "other", FAILED)], [], id="not what is elsewhere in the tree"),
        pytest.param(make(status=FAILED, reruns=1), [], [], id="not what is already about to run again"),
    ],
)
def test_which_runs_a_retry_begins_with(root: WorkflowRun, tree: list[WorkflowRun], want: list[str]) -> None:
    assert [run.metadata.name for run in retried_in(root, tree)] == want
