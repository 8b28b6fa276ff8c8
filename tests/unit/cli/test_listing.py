"""Which runs a list shows, in which order, and what its columns say."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from hatchet_cli.listing import Wanted, draw_list, in_order
from hatchet_cli.top import draw_pools
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_run(
    name: str, phase: str = "Succeeded", *, age: float = 60, parent: bool = False, status: Any = None, **spec: Any
) -> WorkflowRun:
    created = (NOW - timedelta(seconds=age)).isoformat()
    if parent:
        spec["parent"] = {"name": "p", "uid": "p-uid", "step": "spawn", "key": None, "index": 0}
    return WorkflowRun.model_validate(
        {
            "metadata": {"name": name, "uid": name, "creationTimestamp": created},
            "spec": {"workflow": "etl"} | spec,
            "status": {"phase": phase} | (status or {}),
        }
    )


def test_failed_roots_come_first_then_what_goes_on_and_of_each_the_newest() -> None:
    runs = [
        make_run("done", age=1),
        make_run("waits", "Pending", age=300),
        make_run("runs", "Running", age=200),
        make_run("failed-child", "Failed", age=1, parent=True),
        make_run("failed-long-ago", "Failed", age=9000),
        make_run("failed", "Failed", age=500),
        make_run("cancelled", "Cancelled", age=2),
    ]
    assert [run.metadata.name for run in in_order(runs)] == [
        "failed",
        "failed-long-ago",
        "failed-child",
        "runs",
        "waits",
        "done",
        "cancelled",
    ]


@pytest.mark.parametrize(
    ("wanted", "is_shown"),
    [
        pytest.param(Wanted(), True, id="all"),
        pytest.param(Wanted(phases=frozenset({Phase.FAILED})), True, id="its phase"),
        pytest.param(Wanted(phases=frozenset({Phase.RUNNING, Phase.PENDING})), False, id="other phases"),
        pytest.param(Wanted(created_after=NOW - timedelta(seconds=61)), True, id="young enough"),
        pytest.param(Wanted(created_after=NOW - timedelta(seconds=59)), False, id="too old"),
        pytest.param(Wanted(metadata={"team": "blue"}), True, id="its metadata"),
        pytest.param(Wanted(metadata={"year": "2026"}), True, id="a number of its metadata"),
        pytest.param(Wanted(metadata={"team": "red"}), False, id="other metadata"),
        pytest.param(Wanted(group="acme"), True, id="its group"),
        pytest.param(Wanted(group="other"), False, id="another group"),
    ],
)
def test_a_list_is_of_what_was_asked_for(wanted: Wanted, is_shown: bool) -> None:
    run = make_run(
        "a", "Failed", additionalMetadata={"team": "blue", "year": 2026}, status={"concurrencyGroups": ["acme"]}
    )
    assert wanted.admits(run) is is_shown


def test_children_are_listed_only_if_they_are_asked_for() -> None:
    child = make_run("child", parent=True)
    assert not Wanted().admits(child)
    assert Wanted(children=True).admits(child)


def test_columns_say_what_kubectl_says_with_durations_and_exact_names() -> None:
    status = {
        "reason": "StepFailed",
        "message": 'step "load": Boom\nand more',
        "startedAt": (NOW - timedelta(seconds=50)).isoformat(),
        "finishedAt": (NOW - timedelta(seconds=8)).isoformat(),
        "children": {"total": 3, "succeeded": 2, "failed": 1, "summary": "3/3"},
    }
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(draw_list([make_run("etl-1", "Failed", status=status)], names={"etl": "Etl"}, now=NOW, wide=True))
    head, row = (line.split() for line in capture.get().splitlines())
    assert head[:7] == ["NAME", "WORKFLOW", "PHASE", "REASON", "AGE", "DURATION", "CHILDREN"]
    assert row[:7] == ["etl-1", "Etl", "Failed", "StepFailed", "1m", "42s", "3/3"]
    assert "Boom" in row


def test_a_long_message_takes_no_room_from_other_columns() -> None:
    out = io.StringIO()
    console = Console(width=100, file=out, highlight=False)
    run = make_run("report-7", "Failed", status={"reason": "StepFailed", "message": "x" * 400})
    console.print(draw_list([run], names={"etl": "Etl"}, now=NOW, wide=True))
    spec = {"template": {"spec": {"containers": [{"name": "worker", "image": "i"}]}}}
    unwell = {"type": "Available", "status": "False", "reason": "PodsFailing", "message": "x" * 400}
    pool = WorkerPool.model_validate(
        {"metadata": {"name": "word-count"}, "spec": spec, "status": {"conditions": [unwell]}}
    )
    console.print(draw_pools([pool], now=NOW))
    drawn = out.getvalue().splitlines()
    assert len(drawn) == 4
    assert drawn[1].startswith("report-7  Etl       Failed  StepFailed  1m")
    assert drawn[3].startswith("word-count  0/0      0 ")
    assert "PodsFailing: xxx" in drawn[3]
