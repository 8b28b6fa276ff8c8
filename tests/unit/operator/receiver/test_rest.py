"""What Hatchet's REST clients are told about a run, in both vocabularies, and how their questions are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from multidict import MultiDict

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.receiver.rest import v0, v1
from hatchet_operator.receiver.rest.calls import flag_of, metadata_of, page_of, phases_of, time_of
from hatchet_operator.receiver.rest.sight import SeenRun
from hatchet_operator.resources.names import runs_of_task, task_run_id
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import ChildCounts, RunStatus, StepStatus
from hatchet_operator.resources.workflow import GROUP_KEY_STEP
from tests.unit.operator.decisions.builders import ago, make_graph, make_run, make_step

UID = "5f1d3c1e-0000-4000-8000-0000000000ff"
REFERENCE = '{"hatchet-operator.dev/payload": {"url": "s3://b/x", "sha256": "0", "bytes": 1}}'

ALONE = make_graph(make_step("work"))
GRAPH = make_graph(make_step("load"), make_step("add", parents=("load",)), on_failure=make_step("tell"))
DONE = StepStatus(phase=Phase.SUCCEEDED, output='{"n": 1}', started_at=ago(9), finished_at=ago(8))
BROKE = StepStatus(phase=Phase.FAILED, error="it broke", reason="StepFailed", attempt=2, finished_at=ago(7))


def seen(graph: Graph | None, status: RunStatus, **changes: Any) -> SeenRun:
    run = make_run(status=status, input={"a": 1})
    run = run.model_copy(update={"metadata": run.metadata.model_copy(update={"uid": UID})})
    return SeenRun(run=run, graph=graph, workflow_id="w", workflow_name="Etl", **changes)


def failed(**changes: Any) -> SeenRun:
    steps = {"load": DONE, "add": BROKE, "tell": DONE}
    return seen(GRAPH, RunStatus(phase=Phase.FAILED, message="step add failed", steps=steps), **changes)


def test_a_run_of_one_task_is_that_task() -> None:
    children = ChildCounts(total=3)
    row = v1.row(seen(ALONE, RunStatus(phase=Phase.SUCCEEDED, steps={"work": DONE}, children=children)))
    assert (row.type, row.task_external_id, row.status, row.output) == ("TASK", UID, "COMPLETED", {"n": 1})
    assert (row.display_name, row.num_spawned_children, row.children, row.duration) == ("etl-7", 3, (), 1000)


def test_a_run_of_several_tasks_has_them_with_ids_that_lead_back_to_it() -> None:
    row = v1.row(failed())
    assert (row.type, row.status, row.error_message) == ("DAG", "FAILED", "it broke")
    assert row.output == {"load": {"n": 1}, "tell": {"n": 1}}
    told = {task.display_name: task for task in row.children}
    assert {name: task.status for name, task in told.items()} == {
        "load": "COMPLETED",
        "add": "FAILED",
        "tell": "COMPLETED",
    }
    assert (told["add"].retry_count, told["add"].attempt, told["add"].error_message) == (2, 3, "it broke")
    for number, name in enumerate(["load", "add", "tell"]):
        assert runs_of_task(told[name].task_external_id)[number] == UID


@pytest.mark.parametrize("number", [1, 255, 256, 257])
def test_every_task_of_the_largest_workflow_has_an_id_of_its_own(number: int) -> None:
    for uid in (UID, UID[:-3] + "000", UID[:-3] + "fff"):
        task = task_run_id(uid, number)
        assert len(task) == len(uid)
        assert task != uid
        assert runs_of_task(task)[number - 1] == uid


def test_the_step_that_names_a_group_is_no_task() -> None:
    asked = seen(ALONE, RunStatus(phase=Phase.SUCCEEDED, steps={GROUP_KEY_STEP: DONE, "work": DONE}))
    assert [task.display_name for task in v1.tasks(asked)] == ["work"]


def test_a_run_of_which_nobody_knows_the_graph_shows_the_steps_it_had() -> None:
    told = v1.details(seen(None, RunStatus(phase=Phase.FAILED, steps={"b": BROKE, "a": DONE})))
    assert [(task.display_name, task.action_id) for task in told.tasks] == [("a", None), ("b", None)]
    (job,) = v0.shown(seen(None, RunStatus(phase=Phase.FAILED, steps={"a": BROKE}))).job_runs or ()
    assert [(step.step, step.error) for step in job.step_runs] == [(None, "it broke")]


def test_a_task_that_never_ran_because_another_failed_has_no_error() -> None:
    skipped = StepStatus(phase=Phase.CANCELLED, reason=Reason.PREVIOUS_STEP_FAILED, error="load failed")
    told = v1.details(seen(GRAPH, RunStatus(phase=Phase.FAILED, steps={"load": BROKE, "add": skipped})))
    assert [task.error_message for task in told.tasks] == ["it broke", None, None]
    assert told.run.error_message == "it broke"


def test_a_run_that_never_had_a_step_says_why_itself() -> None:
    told = v1.row(seen(ALONE, RunStatus(phase=Phase.FAILED, message="its input is no object")))
    assert (told.status, told.error_message) == ("FAILED", "its input is no object")


def test_a_timeout_is_told_in_the_clients_word_for_it() -> None:
    late = StepStatus(
        phase=Phase.FAILED, reason=Reason.TIMED_OUT, error="after 60s", started_at=ago(61), finished_at=ago(1)
    )
    told = v1.details(seen(ALONE, RunStatus(phase=Phase.FAILED, steps={"work": late})))
    assert [(event.event_type, event.error_message) for event in told.task_events] == [
        ("STARTED", None),
        ("TIMED_OUT", "TIMED_OUT"),
    ]


def test_what_references_stand_for_is_shown_if_it_was_read() -> None:
    status = RunStatus(phase=Phase.SUCCEEDED, steps={"work": DONE.model_copy(update={"output": REFERENCE})})
    assert v1.row(seen(ALONE, status, texts={REFERENCE: '{"large": 1}'})).output == {"large": 1}
    assert "hatchet-operator.dev/payload" in v1.row(seen(ALONE, status)).output
    bare = v1.row(seen(ALONE, status, with_payloads=False))
    assert (bare.output, bare.input) == ({}, {})


def test_the_on_failure_step_is_a_job_of_its_own_with_the_id_that_its_worker_knows() -> None:
    told = v0.shown(failed())
    main, last = told.job_runs or ()
    assert (main.job_id, last.job_id) == ("etl-1/main", "etl-1/on-failure")
    assert [(step.step_id, step.status) for step in main.step_runs] == [
        ("etl-1/load", "SUCCEEDED"),
        ("etl-1/add", "FAILED"),
    ]
    assert [step.step_id for step in last.step_runs] == ["etl-1/tell"]
    assert (told.status, told.error, told.input) == ("FAILED", "step add failed", {"a": 1})
    listed = v0.shown(failed(), whole=False)
    assert (listed.job_runs, listed.input) == (None, None)


@pytest.mark.parametrize("show", [v0.shown, v1.details, v1.row])
def test_what_is_told_is_json(show: Callable[[SeenRun], Any]) -> None:
    assert b'"createdAt":"2026-03-14T15:09:25.000000Z"' in show(failed()).to_json()


@pytest.mark.parametrize(
    ("read", "words"),
    [
        pytest.param(lambda: page_of(MultiDict(limit="0")), 'limit is "0"; expected 1 to 1000', id="no rows"),
        pytest.param(lambda: page_of(MultiDict(limit="1001")), "expected 1 to 1000", id="too many rows"),
        pytest.param(lambda: page_of(MultiDict(offset="-1")), 'offset is "-1"', id="a negative offset"),
        pytest.param(lambda: page_of(MultiDict(offset="²")), "offset", id="a digit that is no number"),
        pytest.param(lambda: flag_of(MultiDict(a="maybe"), "a", True), "expected true or false", id="a flag"),
        pytest.param(lambda: time_of("soon", "since"), 'since is "soon"', id="a time"),
        pytest.param(lambda: metadata_of(["a=b"]), "is not key:value", id="metadata"),
        pytest.param(lambda: phases_of(["DONE"], v1.STATUSES), "expected QUEUED, RUNNING", id="a status"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(read: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words.replace("?", r"\?")):
        read()


def test_pages_count_from_one() -> None:
    page = page_of(MultiDict(limit="10", offset="20"))
    assert page.shown(25).model_dump() == {"current_page": 3, "next_page": 3, "num_pages": 3}
    assert page_of(MultiDict()).shown(0).model_dump() == {"current_page": 1, "next_page": 1, "num_pages": 1}


def test_questions_are_read() -> None:
    assert phases_of(["queued", "FAILED", "FAILED"], v1.STATUSES) == (Phase.PENDING, Phase.FAILED)
    assert metadata_of(["url:http://a:1"]) == {"url": "http://a:1"}
    zoned, naive = time_of("2030-01-31T12:00:00Z", "since"), time_of("2030-01-31T12:00:00.000000", "since")
    assert zoned == naive is not None
