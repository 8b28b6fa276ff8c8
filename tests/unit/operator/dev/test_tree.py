"""What the tree of runs says about its runs, and how it is drawn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from hatchet_operator.dev.drawing import draw_failure, draw_tree
from hatchet_operator.dev.tree import RunNode, find_failure, format_elapsed, make_tree, result
from hatchet_operator.resources.run import WorkflowRun

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROOT = "root-uid"
TRACEBACK = 'Traceback (most recent call last):\n  File "worker.py", line 3, in process\nValueError: no [bold]'


def make_run(
    name: str,
    phase: str = "Succeeded",
    *,
    workflow: str = "child",
    parent: str | None = None,
    key: str | None = None,
    index: int = 0,
    steps: dict[str, dict[str, Any]] | None = None,
    finished_after: float = 1,
    message: str | None = None,
) -> WorkflowRun:
    started = None if phase == "Pending" else NOW.isoformat()
    finished = (NOW + timedelta(seconds=finished_after)).isoformat() if phase not in ("Pending", "Running") else None
    steps = {name: step | {"finishedAt": finished} for name, step in (steps or {}).items()}
    spec: dict[str, Any] = {"workflow": workflow}
    if parent:
        spec["parent"] = {"name": "p", "uid": parent, "step": "spawn", "key": key, "index": index}
    status = {"phase": phase, "startedAt": started, "finishedAt": finished, "steps": steps, "message": message}
    return WorkflowRun.model_validate({"metadata": {"name": name, "uid": name}, "spec": spec, "status": status})


def make_root(phase: str = "Succeeded", **fields: Any) -> WorkflowRun:
    return make_run(ROOT, phase, workflow="parent", **fields)


def tree_of(*runs: WorkflowRun) -> RunNode:
    tree = make_tree(runs, ROOT, names={"parent": "Parent", "child": "Child"})
    assert tree is not None
    return tree


def text_of(drawing: RenderableType) -> list[str]:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(drawing)
    return [line.rstrip() for line in capture.get().splitlines()]


def draw(*runs: WorkflowRun) -> list[str]:
    return text_of(draw_tree(tree_of(*runs), now=NOW + timedelta(seconds=2)))


def test_the_root_may_not_be_there_yet() -> None:
    assert make_tree([make_run("other")], ROOT, names={}) is None


def test_a_result_is_what_the_steps_returned() -> None:
    steps = {"a": {"phase": "Succeeded", "output": '{"n": 12345678901234567890}'}, "b": {"phase": "Succeeded"}}
    assert result(tree_of(make_root(steps=steps))) == {"a": {"n": 12345678901234567890}}


class TestDrawing:
    def test_children_stand_below_their_parent_in_the_order_of_their_spawning(self) -> None:
        assert draw(
            make_root(steps={"spawn": {"phase": "Succeeded"}}),
            make_run("late", "Running", parent=ROOT, index=1),
            make_run("first", parent=ROOT, key="k [red]", index=0, steps={"process": {"attempt": 1}}),
            make_run("grandchild", "Pending", parent="late", workflow="leaf", message="waiting for a worker"),
        ) == [
            f"✔ Parent  {ROOT}  1.0s",
            "├── ✔ Child  k [red]  1.0s  attempt 2",
            "└── ⠋ Child  #1  2.0s",
            "    └── ○ leaf  #0  waiting for a worker",
        ]

    def test_steps_are_drawn_where_there_are_several(self) -> None:
        steps = {"load": {"phase": "Succeeded", "startedAt": NOW.isoformat()}, "spawn": {"phase": "Succeeded"}}
        lines = draw(make_root(steps=steps), make_run("a", parent=ROOT))
        assert lines[1:] == ["├── ✔ load  1.0s", "└── ✔ spawn", "    └── ✔ Child  #0  1.0s"]

    @pytest.mark.parametrize(("children", "want"), [pytest.param(20, 21, id="20"), pytest.param(21, 2, id="21")])
    def test_more_than_twenty_children_become_one_line(self, children: int, want: int) -> None:
        runs = [make_run(f"c{i}", parent=ROOT, index=i) for i in range(children)]
        assert len(draw(make_root(), *runs)) == want

    def test_a_bar_counts_and_shows_the_first_failures(self) -> None:
        phases = ["Failed"] * 7 + ["Succeeded"] * 8 + ["Running"] * 10 + ["Pending"] * 5
        failed = {"process": {"phase": "Failed", "error": TRACEBACK}}
        runs = [
            make_run(f"c{i}", phase, parent=ROOT, index=i, steps=failed if phase == "Failed" else None)
            for i, phase in enumerate(phases)
        ]
        lines = draw(make_root("Running"), *runs)
        assert lines[1] == f"└── Child \N{MULTIPLICATION SIGN} 30  {'━' * 24}  15/30  10 running  7 failed"
        assert lines[2] == "    ├── ✘ Child  #0  1.0s  process: ValueError: no [bold]"
        assert lines[-1] == "    └── … 2 more failed"
        assert len(lines) == 8


class TestFailure:
    def test_the_way_leads_to_the_child_that_failed_first(self) -> None:
        spawn = {"spawn": {"phase": "Failed", "error": "RunFailed: a child failed"}}
        process = {"process": {"phase": "Failed", "error": f"no [bold]\n{TRACEBACK}"}}
        failure = find_failure(
            tree_of(
                make_root("Failed", steps=spawn, finished_after=9),
                make_run("good", parent=ROOT),
                make_run("second", "Failed", parent=ROOT, index=1, steps=process, finished_after=3),
                make_run("first", "Failed", parent=ROOT, index=2, key="k", steps=process, finished_after=2),
            )
        )
        assert [(node.label, step) for node, step in failure.path] == [(ROOT, "spawn"), ("k", "process")]
        assert text_of(draw_failure(failure)) == [
            f"✘ Parent {ROOT} failed in step spawn",
            "└─ ✘ Child k failed in step process",
            "",
            *(f"  {line}" for line in TRACEBACK.splitlines()),
        ]

    @pytest.mark.parametrize(
        ("fields", "want"),
        [
            pytest.param({"message": "no worker came"}, "no worker came", id="a run may fail without a step"),
            pytest.param({}, "no error text was recorded", id="and without words"),
        ],
    )
    def test_without_an_error_text(self, fields: dict[str, Any], want: str) -> None:
        failure = find_failure(tree_of(make_root("Failed", **fields)))
        assert (failure.step, failure.error) == (None, want)

    def test_a_failed_child_that_another_step_spawned_is_no_cause(self) -> None:
        steps = {"other": {"phase": "Failed", "error": "own"}, "spawn": {"phase": "Succeeded"}}
        failure = find_failure(tree_of(make_root("Failed", steps=steps), make_run("c", "Failed", parent=ROOT)))
        assert (failure.node.label, failure.error) == (ROOT, "own")


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(0, "0ms"), (0.0314, "31ms"), (0.9997, "1.0s"), (4.2, "4.2s"), (59.97, "1m00s"), (65, "1m05s"), (7384, "2h03m")],
)
def test_elapsed(seconds: float, want: str) -> None:
    assert format_elapsed(timedelta(seconds=seconds)) == want
