"""Helm, Flux and Argo CD judge each of our objects rightly, by the rules that they have for all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.decisions.pool_status import Refusal, pool_status
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.decisions.scaling import PoolPlan
from hatchet_operator.decisions.waiting import NO_LOAD
from hatchet_operator.decisions.workflow_status import Offer, with_conditions
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.reasons import Phase, Reason
from hatchet_operator.resources.run import RunStatus
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow, WorkflowSpec, WorkflowStatus
from tests.kube.kstatus import kstatus
from tests.unit.operator.decisions.builders import NOW, make_live, make_observed_run, make_report


def judge(status: RunStatus | WorkflowStatus | Any, *, generation: int = 1) -> str:
    return kstatus({"metadata": {"generation": generation}, "status": status.to_wire()})


@pytest.mark.parametrize("kind", ["Workflow", "WorkflowRun", "WorkerPool"])
def test_what_nobody_looked_at_is_not_ready(kind: str) -> None:
    crd = next(crd for crd in load_crds() if crd["spec"]["names"]["kind"] == kind)
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert kstatus({"metadata": {"generation": 1}, "status": schema["properties"]["status"]["default"]}) == "InProgress"


@pytest.mark.parametrize(
    ("seen", "want"),
    [
        pytest.param(make_observed_run(without_workflow=True), "InProgress", id="its workflow is missing"),
        pytest.param(make_observed_run(live={"work": make_live()}), "InProgress", id="running"),
        pytest.param(
            make_observed_run(live={"work": make_live()}, reports={"work": make_report(output="{}")}),
            "Current",
            id="succeeded",
        ),
        pytest.param(make_observed_run(input_json="["), "Failed", id="failed"),
        pytest.param(make_observed_run(cancelled=True), "Failed", id="cancelled"),
    ],
)
def test_runs(seen: Any, want: str) -> None:
    status = plan_run(seen, NOW + timedelta(seconds=2)).status
    assert status is not None
    assert judge(status) == want


def test_a_finished_run_whose_spec_was_touched_is_finished_still() -> None:
    done = plan_run(make_observed_run(cancelled=True), NOW).status
    assert done is not None
    seen = make_observed_run(cancelled=True, status=done.model_dump(), ttl=timedelta(hours=1))
    touched = seen.run.model_copy(update={"metadata": seen.run.metadata.model_copy(update={"generation": 2})})
    plan = plan_run(type(seen)(run=touched, graph=seen.graph, policy=seen.policy), NOW)
    assert plan.status is not None
    assert judge(plan.status, generation=2) == "Failed"
    assert plan.status.phase is Phase.CANCELLED


def make_pool() -> WorkerPool:
    return WorkerPool.model_validate(
        {
            "metadata": {"name": "etl", "namespace": "default", "uid": "u", "generation": 1},
            "spec": {"template": {"spec": {"containers": [{"name": "worker"}]}}},
        }
    )


def make_plan(*, reason: Reason = Reason.AVAILABLE, rollout: Reason = Reason.ROLLED_OUT) -> PoolPlan:
    return PoolPlan(
        create=0,
        drain=(),
        delete=(),
        desired=1,
        replicas=1,
        ready=1,
        reason=reason,
        message="told",
        rollout=rollout,
        rollout_message="told",
    )


def make_refusal(*, is_of_spec: bool) -> Refusal:
    return Refusal(message="quota", is_of_spec=is_of_spec, generation=1, until=0)


@pytest.mark.parametrize(
    ("plan", "refusal", "want"),
    [
        pytest.param(make_plan(), None, "Current", id="all there"),
        pytest.param(make_plan(reason=Reason.PODS_MISSING), None, "InProgress", id="pods to come"),
        pytest.param(make_plan(reason=Reason.PODS_FAILING), None, "InProgress", id="an image that is not there"),
        pytest.param(make_plan(rollout=Reason.ROLLING_OUT), None, "InProgress", id="old pods beside the new ones"),
        pytest.param(
            make_plan(rollout=Reason.PODS_FAILING), None, "InProgress", id="old pods work, the new ones do not start"
        ),
        pytest.param(make_plan(reason=Reason.PODS_MISSING), make_refusal(is_of_spec=False), "InProgress", id="a quota"),
        pytest.param(
            make_plan(reason=Reason.PODS_MISSING),
            make_refusal(is_of_spec=True),
            "Failed",
            id="a template without sense",
        ),
    ],
)
def test_pools(plan: PoolPlan, refusal: Refusal | None, want: str) -> None:
    assert judge(pool_status(make_pool(), plan, refusal, NO_LOAD, NOW)) == want


DEFINITION = {
    "name": "etl",
    "steps": [{"name": "work", "action": "etl:work", "timeout": "1m"}],
    "scheduleTimeout": "5m",
}
REGISTERED = {"definition": DEFINITION, "pool": "main"}


@pytest.mark.parametrize(
    ("spec", "status", "offer", "want"),
    [
        pytest.param({}, {}, None, "InProgress", id="nobody registered it"),
        pytest.param({}, REGISTERED, None, "Current", id="registered"),
        pytest.param({}, REGISTERED, Offer(workers=2, connected=3), "Current", id="offered"),
        pytest.param({}, REGISTERED, Offer(workers=0, connected=0), "Current", id="a pool at zero: a run brings one"),
        pytest.param({}, REGISTERED, Offer(workers=0, connected=3), "InProgress", id="gone from the workers' code"),
        pytest.param(
            {"steps": {"wrok": {"retries": 1}}}, REGISTERED, None, "Failed", id="overrides of a step that it has not"
        ),
    ],
)
def test_workflows(spec: dict[str, Any], status: dict[str, Any], offer: Offer | None, want: str) -> None:
    workflow = Workflow(
        metadata=ObjectMeta(name="etl", namespace="default", generation=1),
        spec=WorkflowSpec.model_validate(spec),
        status=WorkflowStatus.model_validate(status),
    )
    told = with_conditions(workflow, workflow.status, NOW, offer=offer)
    assert judge(told) == want
    assert told.workers == (offer.workers if offer else None)
    # nothing is forgotten when nobody has looked since, as after a registration
    assert with_conditions(workflow, told, NOW) == told
