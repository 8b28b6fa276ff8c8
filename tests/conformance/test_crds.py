"""Our own kinds as a server enforces them: defaults, limits, rules, and what a person reads who breaks one."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator.resources.base import API_VERSION
from tests.conformance.kubectl import Kubectl
from tests.conformance.run_changes import FORBIDDEN_CHANGES, PARENT, fixed
from tests.kube.client import CRDS, Api, Json, Kind
from tests.kube.kstatus import kstatus

WORKFLOWS = Kind(api_version=API_VERSION, kind="Workflow", plural="workflows")
RUNS = Kind(api_version=API_VERSION, kind="WorkflowRun", plural="workflowruns")
LIMITS = Kind(api_version=API_VERSION, kind="RateLimit", plural="ratelimits")
POOLS = Kind(api_version=API_VERSION, kind="WorkerPool", plural="workerpools")


def make_run(name: str = "a", /, **spec: Any) -> Json:
    return RUNS.make(name, spec={"workflow": "etl"} | spec)


def make_pool(name: str = "a", /, **spec: Any) -> Json:
    return POOLS.make(name, spec={"template": {"spec": {"containers": [{"name": "worker"}]}}} | spec)


def make_limit(name: str = "a", /, **spec: Any) -> Json:
    return LIMITS.make(name, spec={"limit": 5, "window": "1m", **spec})


def make_workflow(name: str = "a", /, **spec: Any) -> Json:
    return WORKFLOWS.make(name, spec=spec)


@pytest.mark.parametrize("kind", [WORKFLOWS, RUNS, POOLS], ids=lambda kind: kind.kind)
async def test_the_crd_is_established_and_structural(api: Api, kind: Kind) -> None:
    crd = (await api.get(CRDS, f"{kind.plural}.hatchet-operator.dev")).ok()
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


# --- defaults ---


async def test_defaults_of_a_run(api: Api) -> None:
    run = (await api.create(RUNS, make_run())).ok(201)
    want = {"workflow": "etl", "cancelled": False, "suspended": False, "onParentClose": "Abandon", "reruns": 0}
    assert run["spec"] == want


async def test_a_run_is_pending_before_anybody_wrote_its_status(api: Api) -> None:
    (await api.create(RUNS, make_run())).ok(201)
    status = (await api.get(RUNS, "a")).ok()["status"]
    assert (status["phase"], status["reruns"]) == ("Pending", 0)
    assert await api.names(RUNS, fieldSelector="status.phase=Pending") == ["a"]
    assert await api.names(RUNS, fieldSelector="status.phase=Running") == []


async def test_a_run_is_found_by_phase_and_workflow(api: Api) -> None:
    (await api.create(RUNS, make_run("a"))).ok(201)
    (await api.create(RUNS, make_run("b", workflow="other"))).ok(201)
    (await api.merge_patch(RUNS, "a", {"status": {"phase": "Succeeded"}}, "status")).ok()
    assert await api.names(RUNS, fieldSelector="status.phase=Succeeded") == ["a"]
    assert await api.names(RUNS, fieldSelector="spec.workflow=other,status.phase=Pending") == ["b"]


async def test_defaults_of_a_workflow_without_spec(api: Api) -> None:
    workflow = (await api.create(WORKFLOWS, WORKFLOWS.make("a"))).ok(201)
    assert workflow["spec"] == {
        "execution": "Pool",
        "scheduleTimeoutCounts": "Worker",
        "onRetriesExhausted": "Fail",
        "suspended": False,
    }


async def test_a_pool_keeps_one_pod_unless_told_otherwise_and_scales(api: Api) -> None:
    pool = (await api.create(POOLS, make_pool())).ok(201)
    assert pool["spec"]["minReplicas"] == 1
    status = (await api.get(POOLS, "a")).ok()["status"]
    assert (status["replicas"], status["desiredReplicas"], status["readyReplicas"]) == (0, 0, 0)
    (await api.merge_patch(POOLS, "a", {"spec": {"replicas": 3}}, "scale")).ok()
    assert (await api.get(POOLS, "a")).ok()["spec"]["minReplicas"] == 3


async def test_a_pool_may_be_scaled_above_its_maximum_as_an_hpa_does_that_does_not_know_it(api: Api) -> None:
    (await api.create(POOLS, make_pool(minReplicas=1, maxReplicas=2))).ok(201)
    (await api.merge_patch(POOLS, "a", {"spec": {"replicas": 5}}, "scale")).ok()
    assert (await api.get(POOLS, "a", "scale")).ok()["spec"] == {"replicas": 5}


async def test_free_form_fields_are_kept_as_they_are(api: Api) -> None:
    free: Json = {"list": [1, {"deep": None}], "none": None, "text": "x", "nested": {"a": {"b": 1.5}}}
    run = (await api.create(RUNS, make_run(input=free, additionalMetadata=free))).ok(201)
    assert (run["spec"]["input"], run["spec"]["additionalMetadata"]) == (free, free)
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"nodeSelector": {"x": "y"}, "containers": [{"name": "w", "env": [{"name": "A", "value": "1"}]}]},
    }
    assert (await api.create(POOLS, make_pool(template=template))).ok(201)["spec"]["template"] == template


async def test_of_a_pod_only_what_is_allowed_can_be_overridden(api: Api) -> None:
    allowed = {
        "resources": {"requests": {"cpu": 2, "memory": "8Gi"}, "limits": {"nvidia.com/gpu": "1"}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    }
    others = {"hostNetwork": True, "serviceAccountName": "admin", "volumes": [{"name": "x"}], "containers": []}
    workflow = (await api.create(WORKFLOWS, make_workflow(podOverrides=allowed | others))).ok(201)
    assert workflow["spec"]["podOverrides"] == allowed


# --- what is refused when an object is made ---


@pytest.mark.parametrize(
    ("kind", "body", "want"),
    [
        pytest.param(RUNS, RUNS.make("a"), "spec: Required value", id="a run without spec"),
        pytest.param(RUNS, RUNS.make("a", spec={}), "spec.workflow: Required value", id="a run without workflow"),
        pytest.param(RUNS, make_run(workflow=""), "spec.workflow in body should be at least 1 chars", id="no name"),
        pytest.param(RUNS, make_run(workflow="x" * 64), "spec.workflow: Too long", id="a workflow's name of 64"),
        pytest.param(
            RUNS,
            make_run(workflow="Etl"),
            'spec.workflow: Invalid value: "Etl": cannot be the name of a Workflow object',
            id="a workflow's exact name",
        ),
        pytest.param(RUNS, make_run(input=5), 'spec.input in body must be of type object: "integer"', id="input 5"),
        pytest.param(RUNS, make_run(inputJson="x" * 262145), "spec.inputJson: Too long", id="input above 256 KiB"),
        pytest.param(
            RUNS,
            make_run(input={}, inputJson="{}"),
            "spec.inputJson: Invalid value: input and inputJson are both set, but a run has one input; "
            "keep input (an object) or inputJson (the text of one)",
            id="two inputs",
        ),
        pytest.param(
            RUNS, make_run(priority=4), "spec.priority in body should be less than or equal to 3", id="priority 4"
        ),
        pytest.param(
            RUNS,
            make_run(reruns=-1),
            "spec.reruns in body should be greater than or equal to 0",
            id="reruns -1",
        ),
        pytest.param(
            RUNS,
            make_run(onParentClose="Explode"),
            'spec.onParentClose: Unsupported value: "Explode": supported values: "Abandon", "Cancel"',
            id="an unknown onParentClose",
        ),
        *(
            pytest.param(
                RUNS,
                make_run(ttl=ttl),
                f"spec.ttl: Invalid value: {shown}: is not a duration; expected numbers with units, the largest first "
                '(d, h, m, s, ms), e.g. "90s", "24h" or "7d"',
                id=f"ttl {ttl!r}",
            )
            for ttl, shown in [
                *(("5 days", '"5 days"'), ("soon", '"soon"'), ("", '""'), ("-5s", '"-5s"'), (10, "10"), (-1, "-1")),
                *(("30m1h", '"30m1h"'), ("1d1d", '"1d1d"'), ("9" * 30 + "h", '"' + "9" * 30 + 'h"')),
            ]
        ),
        *(
            pytest.param(
                RUNS,
                make_run(ttl=ttl),
                f'spec.ttl: Invalid value: "{ttl}": is longer than ten years; expected at most "3650d"',
                id=f"a ttl of {ttl}",
            )
            for ttl in ("87601h", "3651d", "3650.001d", "3650d0.5s", "3649d25h", "99999d999999h")
        ),
        pytest.param(RUNS, make_run(ttl="1s" * 33), "spec.ttl: Too long: may not be more than 64", id="a long ttl"),
        pytest.param(RUNS, make_run(ttl=True), "spec.ttl in body must be of type integer,string", id="ttl true"),
        *(
            pytest.param(
                POOLS,
                make_pool(**{field: "a while"}),
                f'spec.{field}: Invalid value: "a while": is not a duration; expected',
                id=f"{field} in words",
            )
            for field in ("idleBeforeScaleIn", "drainTimeout")
        ),
        *(
            pytest.param(
                WORKFLOWS,
                make_workflow(scheduleTimeout=value),
                f"spec.scheduleTimeout: Invalid value: {want}",
                id=f"scheduleTimeout {value!r}",
            )
            for value, want in [
                *(
                    ("5x", '"5x": is not a duration'),
                    (300, "300: is not a duration"),
                    ("0s", '"0s": is zero; expected more'),
                ),
                *(("0d0h", '"0d0h": is zero; expected more than zero'), ("4000d", '"4000d": is longer than ten years')),
            ]
        ),
        pytest.param(RUNS, make_run(parent={"name": "p"}), "spec.parent.uid: Required value", id="half a parent"),
        pytest.param(
            RUNS,
            make_run(parent=PARENT | {"key": ""}),
            "spec.parent.key: Invalid value: parent.key is empty; give it at least one character, "
            "or leave it out for a child that its index names",
            id="an empty key",
        ),
        pytest.param(
            RUNS,
            make_run(rerunRequestedBy="x"),
            "spec.rerunRequestedBy: Invalid value: rerunRequestedBy is set on a run without parent, "
            "but it names an attempt of the parent; leave it out and raise reruns",
            id="a rerun requested by no parent",
        ),
        pytest.param(WORKFLOWS, make_workflow("x" * 64), "metadata.name: Too long", id="a workflow's name is a label"),
        pytest.param(POOLS, make_pool("x" * 64), "metadata.name: Too long", id="a pool's name is a label"),
        pytest.param(
            WORKFLOWS,
            make_workflow(scheduleTimeoutCounts="Both"),
            'spec.scheduleTimeoutCounts: Unsupported value: "Both": supported values: "Worker", "Queue"',
            id="an unknown scheduleTimeoutCounts",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(steps={"load": {"timeout": "soon"}}),
            'timeout: Invalid value: "soon": is not a duration; expected',
            id="a step's timeout that is not a duration",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(steps={"load": {"retries": 2**31}}),
            "spec.steps.load.retries in body should be less than or equal to 2147483647",
            id="more retries than the protocol can say",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(steps={f"s{n}": {} for n in range(257)}),
            "spec.steps: Too many: 257: must have at most 256 items",
            id="too many steps",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(crons=[{"schedule": "* * * * * *"}]),
            'spec.crons[0].schedule: Invalid value: "* * * * * *": has not five fields',
            id="a schedule with seconds",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(crons=[{"schedule": "CRON_TZ=UTC * * * *"}]),
            "the zone stands in timeZone",
            id="a schedule with a zone in it",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(execution="Node"),
            'spec.execution: Unsupported value: "Node": supported values: "Pool", "Pod"',
            id="an unknown execution",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(podOverrides={"resources": {"limits": {"memory": "much"}}}),
            'Invalid value: "much": is not a quantity; expected a number with or without a unit',
            id="an amount that is not a quantity",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(podOverrides={"tolerations": [{"effect": "Never"}]}),
            'spec.podOverrides.tolerations[0].effect: Unsupported value: "Never"',
            id="an effect that no taint has",
        ),
        pytest.param(
            POOLS,
            make_pool(template={"spec": {}}),
            "spec.template.spec.containers: Required value",
            id="a pod without containers",
        ),
        pytest.param(
            POOLS,
            make_pool(template={"spec": {"containers": []}}),
            "spec.template.spec.containers in body should have at least 1 items",
            id="a pod with an empty list of containers",
        ),
        pytest.param(
            POOLS, make_pool(slots=0), "spec.slots in body should be greater than or equal to 1", id="0 slots"
        ),
        pytest.param(
            POOLS,
            make_pool(minReplicas=1001),
            "spec.minReplicas in body should be less than or equal to 1000",
            id="a thousand and one pods",
        ),
    ],
)
async def test_nonsense_is_refused_with_words_that_help(api: Api, kind: Kind, body: Json, want: str) -> None:
    assert want in (await api.create(kind, body)).refused(422, "Invalid")["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(RUNS, make_run(input={"a": 1}, priority=3, ttl="87600h"), id="a run with an object as input"),
        *(
            pytest.param(RUNS, make_run(ttl=ttl), id=f"a ttl of {ttl}")
            for ttl in ("7d", "3650d", "1.5d", "1d12h", "3649d23h59m58s", "0s", "0d", "250ms", "1d2h3m4s5ms")
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(steps={"load": {"timeout": "2d"}}, scheduleTimeout="1d", ttl="30d"),
            id="a workflow whose times are days",
        ),
        pytest.param(POOLS, make_pool(idleBeforeScaleIn="1d", drainTimeout="0.5d"), id="a pool whose times are days"),
        pytest.param(RUNS, make_run(inputJson='{"a": 1}', ttl="1h30m"), id="a run with a text as input"),
        pytest.param(RUNS, make_run(parent=PARENT | {"index": -1}), id="a child with index -1"),
        pytest.param(RUNS, make_run(parent=PARENT | {"key": "\0" * 65536}), id="a child with a long key"),
        pytest.param(RUNS, make_run(parent=PARENT, rerunRequestedBy="x", reruns=1), id="a child run again"),
        pytest.param(RUNS, make_run("x" * 253, workflow="x" * 63), id="a run with the longest names"),
        pytest.param(
            WORKFLOWS,
            make_workflow("x" * 63, name="My Flow", pool="p", steps={"Load it": {"timeout": "1.5h", "retries": 3}}),
            id="a workflow with overrides",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(
                crons=[
                    {"schedule": "30 6 * * MON-FRI", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid"},
                    {"schedule": " */5  * * * * ", "catchUp": "All", "catchUpLimit": 100, "input": {"a": 1}},
                ]
            ),
            id="a workflow with crons",
        ),
        pytest.param(
            WORKFLOWS,
            make_workflow(
                steps={
                    "Load": {
                        "rateLimits": [
                            {"key": "api", "units": 0},
                            {"keyExpression": "input.user", "limitExpression": "10", "window": "1h"},
                        ]
                    },
                    "Free": {"rateLimits": []},
                }
            ),
            id="a workflow with rate limits",
        ),
        pytest.param(LIMITS, make_limit(key="Calls of api.example.com", limit=0), id="a limit of nothing"),
        pytest.param(POOLS, make_pool("x" * 63, slots=100, minReplicas=0), id="a pool without pods"),
    ],
)
async def test_sense_is_accepted(api: Api, kind: Kind, body: Json) -> None:
    (await api.create(kind, body)).ok(201)


async def test_a_workflow_that_no_run_could_name_is_refused(api: Api) -> None:
    answer = await api.create(WORKFLOWS, make_workflow("a.b"))
    assert answer.status == 422
    assert "metadata.name" in answer.body["message"]
    assert "is not a name that runs can refer to: a Workflow's has lower-case letters" in answer.body["message"]
    (await api.create(WORKFLOWS, make_workflow("a-b", name="a.b"))).ok(201)


# --- what is refused when an object changes ---


@pytest.mark.parametrize(("before", "patch", "want"), FORBIDDEN_CHANGES)
async def test_a_run_keeps_what_it_is(api: Api, before: Json, patch: Json, want: str) -> None:
    (await api.create(RUNS, make_run(**before))).ok(201)
    message = (await api.merge_patch(RUNS, "a", {"spec": patch})).refused(422, "Invalid")["message"]
    assert want in message


@pytest.mark.parametrize(
    ("kind", "body"),
    [(RUNS, make_run()), (WORKFLOWS, make_workflow()), (POOLS, make_pool()), (LIMITS, make_limit())],
    ids=["run", "workflow", "pool", "limit"],
)
async def test_what_the_operator_has_not_looked_at_is_not_ready(api: Api, kind: Kind, body: Json) -> None:
    (await api.create(kind, body)).ok(201)
    assert kstatus((await api.get(kind, "a")).ok()) == "InProgress"


async def test_a_run_may_be_cancelled_and_run_again(api: Api) -> None:
    (await api.create(RUNS, make_run(input={"a": None}, inputJson=None, parent=PARENT))).ok(201)
    for patch in (
        {"execution": 1, "executionRequestedBy": "x"},  # the earlier names
        {"reruns": 1, "rerunRequestedBy": "x"},
        {"reruns": 5},
        {"priority": 3, "ttl": "1h", "onParentClose": "Cancel"},
        {"cancelled": True},
        {"cancelled": True, "priority": None},
    ):
        (await api.merge_patch(RUNS, "a", {"spec": patch})).ok()


async def test_a_status_written_without_spec_is_not_taken_for_a_change(api: Api) -> None:
    run = (await api.create(RUNS, make_run(input={"a": 1}))).ok(201)
    status = {"phase": "Running", "steps": {"load": {"phase": "Running"}}}
    bare = RUNS.make("a", metadata=run["metadata"], status=status)
    written = (await api.put(RUNS, bare, "status")).ok()
    assert written["spec"] == run["spec"]
    answer = await api.put(RUNS, bare | {"spec": {"workflow": "other"}, "metadata": written["metadata"]}, "status")
    assert answer.ok()["spec"] == run["spec"], "a status write changes no spec, so no rule is needed there"
    assert written["status"]["steps"]["load"] == {
        "phase": "Running",
        "attempt": 0,
        "losses": 0,
        "disruptions": 0,
        "dispatch": 0,
    }


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param({"phase": "Happy"}, 'status.phase: Unsupported value: "Happy"', id="an unknown phase"),
        pytest.param(
            {"steps": {"a": {"output": "x" * 262145}}}, "status.steps.a.output: Too long", id="output above 256 KiB"
        ),
        pytest.param(
            {"conditions": [{"type": "A", "status": "True"}, {"type": "A", "status": "False"}]},
            'status.conditions[1]: Duplicate value: {"type":"A"}',
            id="a condition twice",
        ),
        pytest.param(
            {"conditions": [{"type": "A", "status": "Maybe"}]},
            'status.conditions[0].status: Unsupported value: "Maybe"',
            id="a condition that is neither true nor false",
        ),
    ],
)
async def test_a_status_that_makes_no_sense_is_refused(api: Api, status: Json, want: str) -> None:
    (await api.create(RUNS, make_run())).ok(201)
    refusal = (await api.merge_patch(RUNS, "a", {"status": status}, "status")).refused(422, "Invalid")
    assert want in refusal["message"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"name": "Etl"}, {"name": "ETL"}, id="changed"),
        pytest.param({}, {"name": "Etl"}, id="added"),
        pytest.param({"name": "Etl"}, {"name": None}, id="removed"),
    ],
)
async def test_the_exact_name_of_a_workflow_is_fixed(api: Api, before: Json, after: Json) -> None:
    (await api.create(WORKFLOWS, make_workflow(**before))).ok(201)
    message = (await api.merge_patch(WORKFLOWS, "a", {"spec": after})).refused(422, "Invalid")["message"]
    assert fixed("name", "to rename the workflow, create another Workflow and delete this one") in message


async def test_the_key_of_a_limit_is_fixed_and_the_rest_may_change(api: Api) -> None:
    (await api.create(LIMITS, make_limit())).ok(201)
    message = (await api.merge_patch(LIMITS, "a", {"spec": {"key": "b"}})).refused(422, "Invalid")["message"]
    assert fixed("key", "create another RateLimit and delete this one") in message
    (await api.merge_patch(LIMITS, "a", {"spec": {"limit": 7, "window": "1h"}})).ok()


async def test_kubectl_shows_what_is_used_of_a_limit(api: Api, kubectl: Kubectl) -> None:
    (await api.create(LIMITS, make_limit())).ok(201)
    status = {"used": 3, "waiting": 2, "refillsAt": "2026-01-01T00:00:00Z"}
    (await api.merge_patch(LIMITS, "a", {"status": status}, subresource="status")).ok()
    headings, row = (await kubectl("get", "rl")).table()
    assert headings == ["NAME", "LIMIT", "WINDOW", "USED", "WAITING", "AGE"]
    assert row[:5] == ["a", "5", "1m", "3", "2"]


async def test_the_rest_of_a_workflow_may_change(api: Api) -> None:
    (await api.create(WORKFLOWS, make_workflow(name="Etl"))).ok(201)
    (await api.merge_patch(WORKFLOWS, "a", {"spec": {"suspended": True, "ttl": "1h", "pool": "p"}})).ok()


# --- what people see ---


async def test_kubectl_shows_the_story_of_a_run(api: Api, kubectl: Kubectl) -> None:
    (await api.create(RUNS, make_run(parent=PARENT | {"key": "k"}))).ok(201)
    status = {"phase": "Failed", "reason": "StepFailed", "duration": "4.2s", "children": {"summary": "7/10"}}
    (await api.merge_patch(RUNS, "a", {"status": status}, "status")).ok()
    headings, row = (await kubectl("get", "wfr")).table()
    assert headings == ["NAME", "WORKFLOW", "PHASE", "CHILDREN", "PARENT", "KEY", "DURATION", "AGE"]
    assert row[:7] == ["a", "etl", "Failed", "7/10", "p", "k", "4.2s"]
    assert "StepFailed" in (await kubectl("get", "wfr", "-o", "wide")).ok()


async def test_one_category_holds_all_three_kinds(api: Api, kubectl: Kubectl) -> None:
    (await api.create(RUNS, make_run())).ok(201)
    (await api.create(POOLS, make_pool())).ok(201)
    (await api.create(WORKFLOWS, make_workflow())).ok(201)
    names = (await kubectl("get", "hatchet", "-o", "name")).ok().split()
    assert sorted(names) == [f"{kind}.hatchet-operator.dev/a" for kind in ("workerpool", "workflow", "workflowrun")]


async def test_kubectl_explains_a_field(kubectl: Kubectl) -> None:
    assert "What happens to this run when its parent" in (await kubectl("explain", "wfr.spec.onParentClose")).ok()
