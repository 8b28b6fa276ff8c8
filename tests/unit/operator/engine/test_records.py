"""What the operator remembers of runs: by name, by UID, and how many children each has."""

from __future__ import annotations

import tracemalloc
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.resources.base import Condition, ObjectMeta, OwnerReference
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import ParentRef, RunSpec, RunStatus, StepStatus, WorkflowRun

NOW = datetime(2026, 3, 14, 15, 9, 26, 123456, tzinfo=UTC)


def make_run(name: str, phase: Phase = Phase.PENDING, *, parent: str | None = None, version: int = 1) -> WorkflowRun:
    parent_ref = ParentRef(name=parent, uid=f"uid-{parent}", step="spawn", index=0) if parent else None
    return WorkflowRun(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", resource_version=str(version)),
        spec=RunSpec(workflow="etl", parent=parent_ref),
        status=RunStatus(phase=phase),
    )


def counted(store: RunStore, parent: str = "p") -> tuple[int, int, int, int, str] | None:
    tally = store.tally_of(f"uid-{parent}")
    if tally is None:
        return None
    counts = tally.counts()
    return counts.total, counts.succeeded, counts.failed, counts.cancelled, counts.summary


@pytest.mark.parametrize(
    ("phases", "want"),
    [
        pytest.param([], None, id="a run without children has no counts"),
        pytest.param([Phase.PENDING, Phase.RUNNING], (2, 0, 0, 0, "0/2"), id="none has finished"),
        pytest.param(
            [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.RUNNING], (4, 1, 1, 1, "3/4"), id="one of each"
        ),
    ],
)
def test_counting_children(phases: list[Phase], want: tuple[int, int, int, int, str] | None) -> None:
    store = RunStore()
    for number, phase in enumerate(phases):
        store.put(make_run(f"c{number}", phase, parent="p"))
    assert counted(store) == want


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([*Phase, None])), max_size=60))
def test_counts_are_right_after_any_history(history: list[tuple[int, Phase | None]]) -> None:
    store = RunStore()
    there: dict[int, Phase] = {}
    for number, phase in history:
        ref = ObjectRef("default", f"c{number}")
        if phase is not None:
            store.put(make_run(ref.name, phase, parent="p"))
            there[number] = phase
        elif (record := store.get(ref)) is not None:
            store.drop(record)
            del there[number]
    phases = list(there.values())
    want = [phases.count(phase) for phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)]
    got = counted(store)
    assert got == ((len(phases), *want, f"{sum(want)}/{len(phases)}") if phases else None)
    assert {record.ref.name for record in store.children_of("uid-p")} == {f"c{number}" for number in there}


def test_a_newer_state_keeps_what_is_in_flight() -> None:
    store = RunStore()
    record = store.put(make_run("a")).record
    record.refused, record.being_written = True, frozenset()
    again = store.put(make_run("a", Phase.RUNNING, version=2)).record
    assert again is record
    assert (record.version, record.run.status.phase) == (2, Phase.RUNNING)
    assert (record.writing, record.refused) == (True, False)


def test_a_dropped_run_is_found_nowhere_and_remembered_as_deleted() -> None:
    store = RunStore()
    record = store.put(make_run("a")).record
    assert store.by_uid("uid-a") is record
    store.drop(record)
    assert store.get(ObjectRef("default", "a")) is None
    assert store.by_uid("uid-a") is None
    assert store.was_deleted("uid-a")
    assert len(store) == 0


def test_a_child_may_come_before_its_parent() -> None:
    store = RunStore()
    store.put(make_run("c", Phase.SUCCEEDED, parent="p"))
    store.put(make_run("p"))
    assert counted(store) == (1, 1, 0, 0, "1/1")


@pytest.mark.parametrize(
    ("asked", "described", "want"),
    [
        pytest.param(0, 0, True, id="finished"),
        pytest.param(1, 0, False, id="to be executed again"),
        pytest.param(1, 1, True, id="executed again"),
    ],
)
def test_a_run_that_is_to_be_executed_again_is_not_final(asked: int, described: int, want: bool) -> None:
    run = make_run("a", Phase.FAILED)
    run = run.model_copy(
        update={
            "spec": run.spec.model_copy(update={"reruns": asked}),
            "status": run.status.model_copy(update={"reruns": described}),
        }
    )
    assert RunStore().put(run).record.is_final is want


def make_finished_child(number: int) -> WorkflowRun:
    """Make a small child as a fan-out leaves it by the hundred thousand."""
    run = make_run(f"fan-out-{number:08d}-0123456789abcdef", Phase.SUCCEEDED, parent="p", version=number)
    step = StepStatus(
        phase=Phase.SUCCEEDED, worker="main-abcde", started_at=NOW, finished_at=NOW, output=f'{{"n": {number}}}'
    )
    finished = Condition(type="Finished", status="True", reason="Completed", last_transition_time=NOW)
    status = RunStatus(
        phase=Phase.SUCCEEDED,
        reason="Completed",
        started_at=NOW,
        finished_at=NOW,
        duration="0.012s",
        definition="child-0123456789abcdef",
        steps={"process": step},
        conditions=(finished, finished.model_copy(update={"type": "Succeeded"})),
        observed_generation=1,
    )
    metadata = run.metadata.model_copy(
        update={
            "uid": str(uuid.UUID(int=number)),
            "labels": {"hatchet-operator.dev/root-uid": str(uuid.UUID(int=0))},
            "owner_references": (OwnerReference(uid="uid-p", controller=True),),
        }
    )
    return run.model_copy(update={"metadata": metadata, "status": status})


def test_what_is_asked_of_finished_runs_by_the_thousand_is_known_without_the_object() -> None:
    run = make_finished_child(7)
    record = RunStore().put(run).record
    assert record.run == run
    assert record.forget_object()
    assert record.whole is None
    assert (record.phase, record.is_final, record.version, record.uid) == (Phase.SUCCEEDED, True, 7, run.metadata.uid)
    assert (record.parent_uid, record.owner_uid) == ("uid-p", "uid-p")
    assert record.subject.metadata.uid == run.metadata.uid
    with pytest.raises(RuntimeError, match="has to be read"):
        _ = record.run
    record.remember_object(run)
    assert record.run == run


def test_a_finished_run_has_nothing_in_flight_until_it_is_run_again() -> None:
    store = RunStore()
    record = store.put(make_run("a", Phase.FAILED)).record
    record.forget_object()
    with pytest.raises(RuntimeError):
        record.reports.setdefault("step", Report(attempt_id="1", outcome=Outcome.LOST, at=NOW))
    store.put(make_run("a", Phase.PENDING, version=2))
    record.reports["step"] = Report(attempt_id="1", outcome=Outcome.LOST, at=NOW)
    assert not record.forget_object(), "it goes on"
    assert record.run.status.phase is Phase.PENDING
    store.put(make_run("a", Phase.FAILED, version=3))
    assert not record.forget_object(), "a report waits for its answer"


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([*Phase, None])), max_size=60))
def test_the_unfinished_are_known_after_any_history(history: list[tuple[int, Phase | None]]) -> None:
    store = RunStore()
    there: dict[str, Phase] = {}
    for number, phase in history:
        ref = ObjectRef("default", f"c{number}")
        if phase is not None:
            store.put(make_run(ref.name, phase, parent="p"))
            there[ref.name] = phase
        elif (record := store.get(ref)) is not None:
            store.drop(record)
            del there[ref.name]
    want = {name for name, phase in there.items() if not phase.is_final}
    for found in (
        store.unfinished(),
        store.unfinished_of(ObjectRef("default", "etl")),
        store.unfinished_children_of("uid-p"),
    ):
        assert {record.ref.name for record in found} == want


def test_finished_runs_are_small() -> None:
    store = RunStore()
    runs = [make_finished_child(number) for number in range(1, 1001)]
    for run in runs[:10]:
        store.put(run).record.forget_object()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for run in runs[10:]:
            store.put(run).record.forget_object()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept / len(runs[10:]) < 800  # with its UID and name, which are counted where they were read: 1 KB
