"""What became of a run between two states, and who is reconciled because of it."""

from __future__ import annotations

import pytest

from hatchet_operator.engine.runs.changes import RunChange, RunFeed
from hatchet_operator.engine.runs.reactions import Requeued, requeued_by
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from tests.unit.operator.engine.test_records import make_run


def cancelled(run: WorkflowRun) -> WorkflowRun:
    return run.model_copy(update={"spec": run.spec.model_copy(update={"cancelled": True})})


def rerun(run: WorkflowRun) -> WorkflowRun:
    return run.model_copy(update={"spec": run.spec.model_copy(update={"reruns": 1})})


def told(change: RunChange) -> set[str]:
    return {flag for flag in ("came", "ended", "cancelled", "counted", "gone") if getattr(change, flag)}


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        pytest.param(None, make_run("a"), {"came"}, id="a root is made"),
        pytest.param(None, make_run("a", parent="p"), {"came", "counted"}, id="a child is made"),
        pytest.param(None, make_run("a", Phase.FAILED, parent="p"), {"came", "counted", "ended"}, id="read at a start"),
        pytest.param(make_run("a", parent="p"), make_run("a", Phase.RUNNING, parent="p"), set(), id="a child begins"),
        pytest.param(
            make_run("a", Phase.RUNNING, parent="p"),
            make_run("a", Phase.SUCCEEDED, parent="p"),
            {"counted", "ended"},
            id="end",
        ),
        pytest.param(make_run("a", Phase.RUNNING), cancelled(make_run("a", Phase.RUNNING)), {"cancelled"}, id="cancel"),
        pytest.param(cancelled(make_run("a")), cancelled(make_run("a", Phase.CANCELLED)), {"ended"}, id="it obeys"),
        pytest.param(make_run("a", Phase.FAILED), rerun(make_run("a", Phase.FAILED)), set(), id="asked to run again"),
        pytest.param(rerun(make_run("a", Phase.FAILED)), make_run("a", Phase.PENDING), set(), id="it runs again"),
    ],
)
def test_what_a_change_tells(before: WorkflowRun | None, after: WorkflowRun, want: set[str]) -> None:
    store = RunStore()
    if before is not None:
        store.put(before)
    assert told(store.put(after)) == want


def test_a_deletion_is_a_change_and_its_record_is_gone() -> None:
    store = RunStore()
    record = store.put(make_run("a", parent="p")).record
    change = store.drop(record)
    assert told(change) == {"gone", "counted"}
    assert record.gone


def test_everybody_reacts_in_the_order_of_the_list() -> None:
    feed, heard = RunFeed(), list[str]()
    feed.react_with(lambda change: heard.append("first"), lambda change: heard.append("second"))
    feed.publish(RunStore().put(make_run("a")))
    assert heard == ["first", "second"]


def test_a_second_list_of_reactions_is_refused() -> None:
    feed = RunFeed()
    feed.react_with()
    with pytest.raises(AssertionError):
        feed.react_with()


def world() -> RunStore:
    """Make a tree: root ─► middle ─► leaf-1, leaf-2 (finished)."""
    store = RunStore()
    store.put(make_run("root", Phase.SUCCEEDED))
    store.put(make_run("middle", Phase.RUNNING, parent="root"))
    store.put(make_run("leaf-1", Phase.RUNNING, parent="middle"))
    store.put(make_run("leaf-2", Phase.SUCCEEDED, parent="middle"))
    return store


@pytest.mark.parametrize(
    ("change", "nearest", "counting", "crowd"),
    [
        pytest.param(make_run("leaf-1", Phase.RUNNING, parent="middle"), ["leaf-1"], [], [], id="nothing others see"),
        pytest.param(make_run("leaf-1", Phase.FAILED, parent="middle"), ["leaf-1"], ["middle"], [], id="a child ends"),
        pytest.param(make_run("leaf-3", parent="middle"), ["leaf-3"], ["middle"], [], id="a child is made"),
        pytest.param(
            make_run("middle", Phase.FAILED, parent="root"),
            ["middle", "root"],
            ["root"],
            ["leaf-1"],
            id="a parent ends",
        ),
        pytest.param(
            cancelled(make_run("middle", Phase.RUNNING, parent="root")),
            ["middle"],
            [],
            ["leaf-1"],
            id="it is cancelled",
        ),
        pytest.param(make_run("root", Phase.SUCCEEDED), ["root"], [], [], id="a root, over before"),
    ],
)
def test_who_is_requeued(change: WorkflowRun, nearest: list[str], counting: list[str], crowd: list[str]) -> None:
    store = world()
    assert _names(requeued_by(store.put(change), store, loading=False)) == (nearest, counting, crowd)


def test_the_root_of_a_tree_that_is_final_as_a_whole_is_requeued() -> None:
    store = world()
    store.put(make_run("middle", Phase.SUCCEEDED, parent="root"))
    requeued = requeued_by(store.put(make_run("leaf-1", Phase.SUCCEEDED, parent="middle")), store, loading=False)
    assert _names(requeued) == (["leaf-1", "root"], ["middle"], [])


def test_who_is_gone_is_not_requeued_but_who_is_above() -> None:
    store = world()
    record = store.get(ObjectRef("default", "leaf-1"))
    assert record is not None
    assert _names(requeued_by(store.drop(record), store, loading=False)) == ([], ["middle"], [])


def test_while_runs_are_read_for_the_first_time_no_parent_is_told_its_counts() -> None:
    store = world()
    requeued = requeued_by(store.put(make_run("leaf-3", parent="middle")), store, loading=True)
    assert _names(requeued) == (["leaf-3"], [], [])


def _names(requeued: Requeued) -> tuple[list[str], list[str], list[str]]:
    counting = [requeued.counting] if requeued.counting is not None else []
    nearest, counted, crowd = (
        [each.ref.name for each in some] for some in (requeued.nearest, counting, requeued.crowd)
    )
    return nearest, counted, crowd
