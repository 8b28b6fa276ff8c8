"""What the tree of runs says about its runs, and how it is drawn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from hatchet_cli.drawing import draw_failure, draw_tree
from hatchet_cli.tree import RunNode, find_failure, make_tree, result
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator_dev.one_run import report_failure

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
    assert result(tree_of(make_root(steps=steps)), {}) == {"a": {"n": 12345678901234567890}}


class TestDrawing:
    def test_children_stand_below_their_parent_in_the_order_of_their_spawning(self) -> None:
        assert draw(
            make_root(steps={"spawn": {"phase": "Succeeded"}}),
            make_run("late", "Running", parent=ROOT, index=1),
            make_run("first", parent=ROOT, key="k [red]", index=0, steps={"process": {"attempt": 1}}),
            make_run("grandchild", "Pending", parent="late", workflow="leaf", message="waiting for a worker"),
        ) == [
            f"✔ Parent  {ROOT}  1s",
            "├── ✔ Child  k [red]  1s  attempt 2",
            "└── ⠋ Child  #3  2s",
            "    └── ○ leaf  #2  waiting for a worker",
        ]

    def test_steps_are_drawn_where_there_are_several(self) -> None:
        steps = {"load": {"phase": "Succeeded", "startedAt": NOW.isoformat()}, "spawn": {"phase": "Succeeded"}}
        lines = draw(make_root(steps=steps), make_run("a", parent=ROOT))
        assert lines[1:] == ["├── ✔ load  1s", "└── ✔ spawn", "    └── ✔ Child  #2  1s"]

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
        assert lines[2] == "    ├── ✘ Child  #2  1s  c0  process: ValueError: no [bold]"
        assert lines[-1] == "    └── … 2 more failed"
        assert len(lines) == 8


def failed_with(error: str, step: str = "process") -> dict[str, Any]:
    return {step: {"phase": "Failed", "error": error}}


AWAITED = f"no [bold]\n{TRACEBACK}"  # as the SDK sends it
RAISED = f"Workflow Errors: {[AWAITED]}"
OF_CHILD = (
    f'{RAISED}\nTraceback (most recent call last):\n  File "worker.py", line 9, in spawn\n'
    f"hatchet_sdk.errors.WorkflowRunFailed: {RAISED}\n"
)
OF_ITS_OWN = """'missing_key'
Traceback (most recent call last):
  File "worker.py", line 8, in spawn
KeyError: 'missing_key'
"""
WHILE_HANDLING = (
    f"'missing_key'\n{OF_CHILD[len(RAISED) + 1 :]}\n"
    "During handling of the above exception, another exception occurred:\n\n"
    f"{OF_ITS_OWN.partition(chr(10))[2]}"
)


class TestFailure:
    def test_the_way_leads_to_the_child_that_the_error_tells_of(self) -> None:
        failure = find_failure(
            tree_of(
                make_root("Failed", steps=failed_with(OF_CHILD, "spawn"), finished_after=9),
                make_run("good", parent=ROOT),
                make_run("second", "Failed", parent=ROOT, index=1, steps=failed_with(AWAITED), finished_after=3),
                make_run("first", "Failed", parent=ROOT, index=2, key="k", steps=failed_with(AWAITED)),
                make_run(
                    "third", "Failed", parent=ROOT, index=3, key="t", steps=failed_with("other"), finished_after=0
                ),
            )
        )
        assert [(failed.node.label, failed.step) for failed in failure.path] == [(ROOT, "spawn"), ("k", "process")]
        assert text_of(draw_failure(failure)) == [
            f"✘ Parent {ROOT} failed in step spawn",
            "└─ ✘ Child k (first) failed in step process",
            "",
            f"  Parent {ROOT} in step spawn:",
            "  Traceback (most recent call last):",
            '    File "worker.py", line 9, in spawn',
            "  WorkflowRunFailed: Workflow Errors: [ValueError: no [bold]]",
            "",
            "  Child k (first) in step process:",
            *(f"  {line}" for line in TRACEBACK.splitlines()),
            "",
            "2 runs also failed:",
            "  ✘ Child #3 (second) in step process: ValueError: no [bold]",
            "  ✘ Child t (third) in step process: other",
        ]

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(OF_ITS_OWN, id="awaited with return_exceptions, or not at all"),
            pytest.param(WHILE_HANDLING, id="caught, before another error"),
            pytest.param("TIMED_OUT: timeout 1s of step spawn", id="timed out"),
        ],
    )
    def test_a_tolerated_child_is_not_to_blame(self, error: str) -> None:
        child = failed_with(AWAITED if "TIMED" not in error else "TIMED_OUT")
        failure = find_failure(
            tree_of(
                make_root("Failed", steps=failed_with(error, "spawn")),
                make_run("c3", "Failed", parent=ROOT, key="three", steps=child),
            )
        )
        assert [failed.node.label for failed in failure.path] == [ROOT]
        drawn = text_of(draw_failure(failure))
        own = error[max(error.find("Traceback"), 0) :].splitlines()
        assert drawn[:3] == [f"✘ Parent {ROOT} failed in step spawn", "", f"  {own[0]}"]
        assert drawn[-2] == "1 run also failed, tolerated:"
        assert drawn[-1].startswith("  ✘ Child three (c3) in step process: ")

    def test_programs_are_told_the_same(self) -> None:
        tree = tree_of(
            make_root("Failed", steps={"spawn": {"phase": "Failed", "error": OF_CHILD, "attempt": 1}}),
            make_run("c", "Failed", parent=ROOT, key="k", steps=failed_with(AWAITED)),
            make_run("d", "Failed", parent=ROOT, index=1, message="no worker came"),
        )
        report = report_failure(find_failure(tree))
        assert (report["run"], report["step"], report["attempt"]) == (ROOT, "spawn", 2)
        assert (report["cause"]["run"], report["cause"]["error"]) == ("c", "ValueError: no [bold]")
        assert [(other["run"], other["step"], other["error"]) for other in report["alsoFailed"]] == [
            ("d", None, "no worker came")
        ]

    @pytest.mark.parametrize(
        ("fields", "want"),
        [
            pytest.param({"message": "no worker came"}, "no worker came", id="a run may fail without a step"),
            pytest.param({}, "no error text was recorded", id="and without words"),
        ],
    )
    def test_without_an_error_text(self, fields: dict[str, Any], want: str) -> None:
        cause = find_failure(tree_of(make_root("Failed", **fields))).cause
        assert (cause.step, cause.error.headline) == (None, want)

    def test_a_failed_child_that_another_step_spawned_is_no_cause(self) -> None:
        steps = {"other": {"phase": "Failed", "error": OF_CHILD}, "spawn": {"phase": "Succeeded"}}
        child = make_run("c", "Failed", parent=ROOT, steps=failed_with(AWAITED))
        failure = find_failure(tree_of(make_root("Failed", steps=steps), child))
        assert failure.cause.node.label == ROOT

    def test_what_users_wrote_moves_no_cursor(self) -> None:
        evil = "\x1b[2J\n\u202e\0"
        tree = tree_of(
            make_root("Failed", steps=failed_with(evil, "spawn")),
            make_run("c", "Failed", parent=ROOT, key=evil, steps=failed_with(evil)),
        )
        shown = "\n".join([*text_of(draw_tree(tree, now=NOW)), *text_of(draw_failure(find_failure(tree)))])
        assert not {*shown} & {"\x1b", "\u202e", "\0"}
        assert r"Child  \x1b[2J\n\u202e\x00  1s" in shown
