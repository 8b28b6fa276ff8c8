"""What programs of Hatchet's published class API do with this operator: steps, children, errors, slots."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from tests.compat.published import FAN_OUT, PATIENCE_SECONDS, PROGRAMS, PublishedCluster
from tests.integration.harness import NAMESPACE, fan_out_results, output_of, phase_of
from tests.kube.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_fan_out_example_runs_to_the_letter(cluster: PublishedCluster) -> None:
    await cluster.until_listening(cluster.start_program(FAN_OUT, name="fan-out"), "parent", "child")
    await cluster.create_run("fan-out")
    assert output_of(await cluster.finished("fan-out")) == fan_out_results(10)
    assert len(await cluster.children_of("fan-out")) == 10


@pytest.mark.usefixtures("worker")
async def test_a_client_outside_runs_a_workflow_and_awaits_it_again(cluster: PublishedCluster) -> None:
    [first] = await cluster.ask(
        {"workflow": "Echo", "input": {"a": [1, "zwei"]}, "options": {"additional_metadata": {"who": "me"}}}
    )
    assert "result" in first, first
    said = first["result"]["say"]
    assert said["input"] == {"a": [1, "zwei"]}
    assert said["metadata"] == {"who": "me"}
    assert (said["index"], said["key"], said["parent"], said["retry_count"]) == (0, "", "", 0)
    assert said["run"] == first["run"]
    [again] = await cluster.ask({"run": first["run"]})
    assert again["result"] == first["result"]


@pytest.mark.usefixtures("worker")
async def test_steps_get_the_outputs_of_their_parents(cluster: PublishedCluster) -> None:
    result = await cluster.result("Diamond", {"number": 5})
    assert result == {"load": {"number": 5}, "double": {"number": 10}, "square": {"number": 25}, "add": {"number": 35}}


@pytest.mark.usefixtures("worker")
async def test_a_retried_parent_gets_the_children_it_has(cluster: PublishedCluster) -> None:
    await cluster.create_run("retried", "retriedparent")
    output = output_of(await cluster.finished("retried"))
    assert [(each["say"]["index"], each["say"]["key"]) for each in output["results"]] == [
        (-1, ""),
        (0, ""),
        (1, "key0"),
        (2, "key1"),
    ]
    assert all(each["say"]["parent"] == cluster.uid_of("retried") for each in output["results"])
    assert output["same_again"]
    assert len(cluster.executions("spawn", "retried")) == 2
    for child in output["runs"]:
        assert len(cluster.executions("say", child)) == 1
    assert len(await cluster.children_of("retried")) == 4


@pytest.mark.usefixtures("worker")
async def test_metadata_of_a_parent_comes_to_its_child(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask(
        {
            "workflow": "OneChild",
            "input": {"workflow": "Echo", "options": {"additional_metadata": {"b": "child"}}},
            "options": {"additional_metadata": {"a": "parent", "b": "parent"}},
        }
    )
    assert answer["result"]["spawn"]["result"]["say"]["metadata"] == {"a": "parent", "b": "child"}


@pytest.mark.usefixtures("worker")
async def test_an_unknown_workflow_is_an_error_that_names_it(cluster: PublishedCluster) -> None:
    [outside] = await cluster.ask({"workflow": "Nowhere"})
    inside = (await cluster.result("OneChild", {"workflow": "Nowhere"}))["spawn"]
    for said in (outside["refused"], inside["error"]):
        assert "NOT_FOUND" in said
        assert 'workflow "Nowhere" is not registered in namespace "default" (registered: ' in said


@pytest.mark.usefixtures("worker")
async def test_a_step_that_times_out_has_hatchets_error_text(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"workflow": "Impatient"})
    assert answer["error"] == "Exception: Workflow Errors: ['TIMED_OUT']"


@pytest.mark.usefixtures("worker")
async def test_a_step_that_stops_when_told_ends_its_run_without_output(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"workflow": "Obedient"})
    assert answer["result"] == {}
    assert len(cluster.executions("wait", answer["run"])) == 1


@pytest.mark.usefixtures("worker")
async def test_what_a_timed_out_attempt_says_late_does_not_count(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"workflow": "Stubborn"})
    assert answer["result"] == {"wait": {"from": "the retry"}}
    assert [each.retry_count for each in cluster.executions("wait", answer["run"])] == [0, 1]


@pytest.mark.usefixtures("worker")
async def test_a_step_can_prolong_its_timeout(cluster: PublishedCluster) -> None:
    assert await cluster.result("Prolonged") == {"wait": {"prolonged": True}}


@pytest.mark.usefixtures("worker")
async def test_lines_that_a_step_logs_are_in_the_operators_log(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"workflow": "Talkative"})
    assert answer["result"] == {"talk": {"talked": True}}
    name = (await cluster.run(answer["run"]))["metadata"]["name"]

    async def logged() -> bool:
        assert cluster.operator is not None
        log = cluster.operator.tail()
        return all(line in log for line in ("a line for the operator's log", '{"and": "a mapping"}', name))

    await eventually(logged, within_seconds=PATIENCE_SECONDS)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("what", "want"),
    [
        pytest.param("nothing", {}, id="None is no output"),
        pytest.param("empty", {"give": {}}, id="an empty mapping"),
    ],
)
async def test_returning_nothing(cluster: PublishedCluster, what: str, want: Any) -> None:
    assert await cluster.result("Returning", {"what": what}) == want


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("what", "want"),
    [
        pytest.param("a list", 'step "give" returned a JSON list; expected a mapping or None', id="a list"),
        pytest.param("a set", 'step "give" returned something that is not JSON', id="a set"),
        pytest.param("text", 'step "give" returned a JSON str; expected a mapping or None', id="a text"),
    ],
)
async def test_a_step_that_returns_no_mapping_fails_at_once(cluster: PublishedCluster, what: str, want: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        [answer] = await cluster.ask({"workflow": "Returning", "input": {"what": what}})
    assert want in answer["error"]


@pytest.mark.usefixtures("worker")
async def test_a_failed_run_says_why_and_its_on_failure_step_has_run(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"workflow": "Failing"})
    assert "Workflow Errors: ['this step always fails\\nTraceback" in answer["error"].replace("\\\\n", "\\n")
    assert "this step run was cancelled due to PREVIOUS_STEP_FAILED" in answer["error"]
    assert phase_of(await cluster.run(answer["run"])) == "Failed"
    assert cluster.executions("clean_up", answer["run"])
    assert not cluster.executions("after", answer["run"])


@pytest.mark.usefixtures("worker")
async def test_upper_case_letters_in_names(cluster: PublishedCluster) -> None:
    want = {"firststep": {"one": 1}, "secondstep": {"two": 2}}
    assert await cluster.result("MixedCase-Names") == want


@pytest.mark.usefixtures("narrow")
async def test_a_slot_that_is_given_back_is_taken(cluster: PublishedCluster) -> None:
    await cluster.create_run("holding", "holder", release=True, gate="held")
    await cluster.create_run("beside", "quick", label="beside")
    assert phase_of(await cluster.finished("beside")) == "Succeeded"
    assert phase_of(await cluster.run("holding")) != "Succeeded"
    cluster.open_gate("held")
    assert phase_of(await cluster.finished("holding")) == "Succeeded"


@pytest.mark.usefixtures("narrow")
async def test_a_higher_priority_goes_first(cluster: PublishedCluster) -> None:
    await cluster.create_run("blocking", "holder", release=False, gate="blocked")

    async def is_blocked() -> bool:
        return (cluster.directory / f"holding-{cluster.uid_of('blocking')}").exists()

    await eventually(is_blocked)
    (cluster.directory / "order").unlink(missing_ok=True)
    for name, workflow in (("first", "quick"), ("second", "quick"), ("urgent", "urgent")):
        await cluster.create_run(f"queued-{name}", workflow, label=name)
    cluster.open_gate("blocked")
    for name in ("first", "second", "urgent"):
        await cluster.finished(f"queued-{name}")
    assert (cluster.directory / "order").read_text().split() == ["urgent", "first", "second"]


@pytest.mark.usefixtures("worker")
async def test_cancelling_a_run_stops_its_step(cluster: PublishedCluster) -> None:
    await cluster.create_run("cancelled", "obedient")
    await cluster.until_executing("wait", 1, "cancelled")
    await cluster.api.patch(RUNS, NAMESPACE, "cancelled", {"spec": {"cancelled": True}})
    assert phase_of(await cluster.finished("cancelled")) == "Cancelled"
    await cluster.until_executing("told", 1, "cancelled")  # its exit_flag is set
    [answer] = await cluster.ask({"run": "cancelled"})
    assert answer["error"] == "Exception: Workflow Errors: ['this step run was cancelled due to JOB_RUN_CANCELLED']"


@pytest.mark.usefixtures("worker")
async def test_awaiting_a_run_that_is_not_there_is_an_error(cluster: PublishedCluster) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        [answer] = await cluster.ask({"run": "never-there"})
    assert "never-there was deleted" in answer["error"] or "never-there" in answer["error"]


@pytest.mark.usefixtures("worker")
async def test_spawns_in_bulk(cluster: PublishedCluster) -> None:
    if not cluster.sdk.spawns_in_bulk:
        pytest.skip(f"{cluster.sdk.version} can't")
    await cluster.create_run("bulk-parent", "bulkparent")
    assert output_of(await cluster.finished("bulk-parent")) == {"numbers": [0, 1, 2, 3, 4]}


@pytest.mark.usefixtures("worker")
async def test_a_backoff_is_waited_for(cluster: PublishedCluster) -> None:
    if not cluster.sdk.spawns_in_bulk:
        pytest.skip(f"{cluster.sdk.version} has no backoff")
    await cluster.create_run("backing-off", "backingoff")
    status = (await cluster.finished("backing-off"))["status"]
    began = datetime.fromisoformat(status["startedAt"])
    assert output_of(await cluster.run("backing-off"), "work")["at"] >= began.timestamp() + 1


@pytest.mark.usefixtures("worker")
async def test_models_as_inputs_and_outputs(cluster: PublishedCluster) -> None:
    if not cluster.sdk.spawns_in_bulk:
        pytest.skip(f"{cluster.sdk.version} has no input_validator")
    assert await cluster.result("Modelled", {"n": 5}) == {"twice": {"n": 10}, "again": {"n": 20}}
    [answer] = await cluster.ask({"workflow": "Modelled", "input": {"n": "five"}})
    assert "Input should be a valid integer" in answer["error"]


@pytest.mark.usefixtures("worker")
async def test_spawns_from_a_sync_step(cluster: PublishedCluster) -> None:
    if not cluster.sdk.spawns_in_bulk:
        pytest.skip(f"{cluster.sdk.version} can't")
    await cluster.until_listening(cluster.start_program(PROGRAMS / "sync_spawns.py"), "syncparent")
    await cluster.create_run("sync-parent", "syncparent")
    assert output_of(await cluster.finished("sync-parent")) == {"results": [{"n": 0}, {"n": 1}]}
    children = await cluster.children_of("sync-parent")
    assert sorted(run["spec"]["parent"].get("key", "") for run in children) == ["", "one"]


@pytest.mark.usefixtures("worker")
async def test_calls_that_are_not_served_break_nothing_else(cluster: PublishedCluster) -> None:
    said = (await cluster.result("Extras"))["use"]
    assert said["playground"] == "a default"
    assert said["labels"] == "kept"
    assert said["push"] == "sent"
    assert (await cluster.result("Echo"))["say"]["input"] == {}


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("how", ["run", "metadata"])
async def test_a_stream_of_what_a_step_says(cluster: PublishedCluster, how: str) -> None:
    [answer] = await cluster.ask({"listen": how, "workflow": "Streaming"})
    told = [tuple(each) for each in answer["events"]]
    stream = [payload for kind, payload in told if kind == "STEP_RUN_EVENT_TYPE_STREAM"]
    assert stream == [f"word {number}" for number in range(5)]
    assert told[-2:] == [("STEP_RUN_EVENT_TYPE_COMPLETED", {"said": 5}), ("WORKFLOW_RUN_EVENT_TYPE_COMPLETED", None)]


@pytest.mark.usefixtures("worker")
async def test_a_deduplication_value_that_another_run_has_is_the_clients_own_error(cluster: PublishedCluster) -> None:
    asked = {"workflow": "Echo", "input": {}, "options": {"additional_metadata": {"dedupe": "once"}}}
    first, second = await cluster.ask(asked, asked)
    assert first["result"]["say"]["metadata"] == {"dedupe": "once"}
    name = (await cluster.run(first["run"]))["metadata"]["name"]
    want = f'workflow run with deduplication value once already exists: run {name} of workflow "Echo" has it'
    assert second["refused"].startswith(f"DedupeViolationErr: {want}")
    said = (await cluster.result("OneChild", asked))["spawn"]
    assert said["type"] in ("DedupeViolationErr", "ValueError"), said  # 0.36.24 wraps it
    assert want in said["error"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("options", "want"),
    [
        pytest.param(
            {"sticky": True},
            'the run of workflow "Echo" asks for one worker (sticky=True), but the workflow is not sticky',
            id="sticky child",
        ),
    ],
)
async def test_spawns_that_ask_for_what_is_not_there_are_refused(
    cluster: PublishedCluster, options: dict[str, Any], want: str
) -> None:
    said = (await cluster.result("OneChild", {"workflow": "Echo", "options": options}))["spawn"]
    assert "UNIMPLEMENTED" in said["error"]  # the one refusal that no version repeats
    assert want in said["error"]


async def test_a_namespace_is_part_of_every_name(cluster: PublishedCluster) -> None:
    worker = cluster.start_program(FAN_OUT, name="namespaced", HATCHET_CLIENT_NAMESPACE="Team")
    await cluster.until_listening(worker, "team-parent", "team-child")
    [answer] = await cluster.ask({"workflow": "Parent"}, HATCHET_CLIENT_NAMESPACE="Team")
    assert answer["result"]["spawn"] == fan_out_results(10)
    children = await cluster.children_of(answer["run"])
    assert {run["spec"]["workflow"] for run in children} == {"team-child"}
    workflow = await cluster.api.get(WORKFLOWS, NAMESPACE, "team-parent")
    [step] = workflow["status"]["definition"]["steps"]
    assert (workflow["status"]["definition"]["name"], step["action"]) == ("team_Parent", "team_parent:spawn")


@pytest.mark.usefixtures("worker")
async def test_a_workflow_with_triggers_runs_also_when_it_is_asked_for(cluster: PublishedCluster) -> None:
    assert (await cluster.result("Triggered", {"a": 1}))["say"]["input"] == {"a": 1}
    workflow = await cluster.api.get(WORKFLOWS, NAMESPACE, "triggered")
    [cron] = workflow["status"]["crons"]
    assert (cron["schedule"], cron["nextTick"][4:16]) == ("0 0 1 1 *", "-01-01T00:00")


@pytest.mark.usefixtures("worker")
async def test_an_event_that_the_published_client_pushes_starts_a_workflow(cluster: PublishedCluster) -> None:
    [answer] = await cluster.ask({"event": "user:create", "payload": {"user": "ada"}})
    selector = f"hatchet-operator.dev/event={answer['event']}"
    runs, _ = await cluster.api.list_all(RUNS, NAMESPACE, label_selector=selector)
    [name] = [run["metadata"]["name"] for run in runs]
    said = output_of(await cluster.finished(name), "say")
    assert said == {"input": {"user": "ada"}, "metadata": {"by": "me"}, "by_event": True}


@pytest.mark.usefixtures("worker")
async def test_runs_that_the_published_client_schedules_start_at_their_time(cluster: PublishedCluster) -> None:
    times = ["2020-01-01T00:00:00", "2099-01-01T00:00:00"]
    [answer] = await cluster.ask({"workflow": "Triggered", "times": times, "input": {"a": 1}})
    selector = "hatchet-operator.dev/triggered-by=schedule"
    runs, _ = await cluster.api.list_all(RUNS, NAMESPACE, label_selector=selector)
    ids = {run["metadata"]["uid"] for run in runs}
    assert set(answer["runs"]) == (set() if cluster.sdk.version == "0.36.24" else ids)  # which is told no ids
    now, later = sorted(runs, key=lambda run: str(run["spec"]["startAt"]))
    assert output_of(await cluster.finished(now["metadata"]["name"]), "say")["input"] == {"a": 1}
    assert phase_of(await cluster.run(later["metadata"]["name"])) == "Pending"
