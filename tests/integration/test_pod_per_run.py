"""``execution: Pod``: a pod for each run, which takes only that run, and is gone after it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import yaml

from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, WORKFLOWS
from hatchet_operator.resources.base import API_VERSION, Json
from tests.integration.harness import Cluster
from tests.integration.inprocess import NAMESPACE, step_of
from tests.integration.pods import NODE_SECONDS, make_pool, output_of, running_pods
from tests.kube.eventually import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "pod_per_run"


async def test_a_run_has_a_pod_of_its_own_and_no_other(tmp_path: Path) -> None:
    overrides = {"resources": {"requests": {"memory": "1Gi", "cpu": 2}}, "nodeSelector": {"disk": "ssd"}}
    async with running_pods(tmp_path, "solo", podOverrides=overrides) as pods:
        await pods.instance.create_run("one", "solo", {"gate": "go"})
        await pods.instance.create_run("two", "solo", {"gate": "go"})
        assert (await pods.began("one"), await pods.began("two")) == ("one", "two")
        (pod,) = await pods.pods("one")
        assert pod["spec"]["restartPolicy"] == "Never"
        assert pod["spec"]["containers"][0]["resources"] == {"requests": {"memory": "1Gi", "cpu": 2}}
        assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}
        pool = await pods.api.get(POOLS, NAMESPACE, "main")
        assert pool["status"]["replicas"] == 1, "a run's pod is none of the pool's"
        pods.open("go")
        first, second = await pods.finished("one"), await pods.finished("two")
        assert output_of(first) == output_of(first, "more")
        assert output_of(first)["pid"] != output_of(second)["pid"]
        assert step_of(first)["worker"] == "one"
        await pods.until_pods("one")
        await pods.until_pods("two")


async def test_children_in_pods_of_a_parent_in_the_pool(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("family", "family", {})
        output = output_of(await pods.finished("family"), "spawn")
        assert output["pod"].startswith("main-")
        assert len(set(output["children"])) == 2
        assert all(child.startswith("family-") for child in output["children"])


async def test_a_parent_in_a_pod_of_children_in_the_pool(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "family") as pods:
        await pods.instance.create_run("family", "family", {})
        output = output_of(await pods.finished("family"), "spawn")
        assert output["pod"] == "family"
        assert all(child.startswith("main-") for child in output["children"])
        await pods.until_pods("family")


async def test_a_step_that_does_not_hear_of_its_timeout_is_killed_and_tried_again(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo", steps={"work": {"timeout": "1s", "retries": 1}}) as pods:
        await pods.instance.create_run("deaf", "solo", {"deaf": True})
        assert await pods.began("deaf") == "deaf"
        status = await pods.finished("deaf")
        assert output_of(status)["pod"] == "deaf-1"
        assert step_of(status)["attempt"] == 1
        assert step_of(status).get("losses", 0) == 0
        await pods.until_no_process("deaf")
        assert "was killed: a step went on" in await pods.instance.event("deaf", "PodKilled")
        await pods.until_pods("deaf")


def make_pool_of_slow_ends(directory: Path) -> Json:
    """Return a pool whose pods have more time to end than a test waits for it."""
    pool = make_pool(directory)
    pool["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 600
    return pool


async def test_a_cancelled_run_is_killed_within_the_grace(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo", pool=make_pool_of_slow_ends(tmp_path)) as pods:
        await pods.instance.create_run("deaf", "solo", {"deaf": True})
        await pods.began("deaf")
        assert pods.processes("deaf")
        await pods.instance.patch_run("deaf", cancelled=True)

        async def is_dead() -> bool:
            return not pods.processes("deaf") and not await pods.pods("deaf")

        await eventually(is_dead, within_seconds=NODE_SECONDS)  # the pod's own grace period is longer
        assert await pods.instance.phase("deaf") == "Cancelled"


async def test_deleting_a_run_deletes_its_pod(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo", pool=make_pool_of_slow_ends(tmp_path)) as pods:
        await pods.instance.create_run("deaf", "solo", {"deaf": True})
        await pods.began("deaf")
        await pods.instance.delete_run("deaf")

        async def is_dead() -> bool:
            return not pods.processes("deaf") and not await pods.pods()

        await eventually(is_dead, within_seconds=NODE_SECONDS)  # the pod's own grace period is longer


async def test_a_run_says_that_somebody_deletes_its_pod_while_its_step_goes_on(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("drained", "solo", {"gate": "go"})
        await pods.began("drained")
        await pods.instance.api.delete(PODS, NAMESPACE, "drained", grace_seconds=100)

        async def is_told() -> bool:
            status = (await pods.instance.run("drained"))["status"]
            told = "pod drained is being deleted, and what runs in it has until " in (status.get("message") or "")
            return told and (status["phase"], status["reason"]) == ("Running", "PodEnding")

        await eventually(is_told)
        pods.open("go")
        status = await pods.finished("drained")
        assert (status["phase"], status["reason"], status.get("message")) == ("Succeeded", "Completed", None)


async def test_a_crash_leads_to_another_pod_and_leaves_the_log(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("crashes", "solo", {"crash": True, "gate": "go"})
        first, second = await pods.until_pods("crashes", "crashes", "crashes-1")
        assert (first["status"]["phase"], second["metadata"]["name"]) == ("Failed", "crashes-1")
        pods.open("go")
        status = await pods.finished("crashes")
        assert output_of(status)["pod"] == "crashes-1"
        assert (step_of(status).get("attempt", 0), step_of(status)["losses"]) == (0, 1)
        await pods.until_pods("crashes")


async def test_a_run_whose_pod_is_evicted_again_and_again_fails_for_none_of_it(tmp_path: Path) -> None:
    named = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("evicted", "solo", {"gate": "go"})
        for pod in ("evicted", "evicted-1", "evicted-2"):
            file = tmp_path / "began-evicted-0"
            assert await pods.began("evicted") == pod
            file.unlink()
            status = (await pods.api.get(PODS, NAMESPACE, pod))["status"]
            conditions = [*status.get("conditions", ()), named]
            await pods.api.patch(PODS, NAMESPACE, pod, {"status": {"conditions": conditions}}, subresource="status")
            await pods.api.delete(PODS, NAMESPACE, pod, grace_seconds=0)
        assert await pods.began("evicted") == "evicted-3"
        pods.open("go")
        step = step_of(await pods.finished("evicted"))
        assert (step.get("losses", 0), step["disruptions"]) == (0, 3)
        assert [(each["worker"], each["kind"]) for each in step["lostWorkers"]] == [
            (pod, "Disruption") for pod in ("evicted", "evicted-1", "evicted-2")
        ]
        assert all("EvictionByEvictionAPI" in each["why"] for each in step["lostWorkers"])


async def test_somebody_elses_pod_of_that_name_stays(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        container = {"name": "x", "image": "x", "command": ["sleep", "600"]}
        other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"}, "spec": {"containers": [container]}}
        await pods.api.create(PODS, NAMESPACE, other)
        await pods.instance.create_run("mine", "solo", {})
        assert output_of(await pods.finished("mine"))["pod"] == "mine-1"
        assert "deletionTimestamp" not in (await pods.api.get(PODS, NAMESPACE, "mine"))["metadata"]


async def test_a_finished_run_that_is_executed_again_gets_another_pod(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("again", "solo", {})
        first = output_of(await pods.finished("again"))
        await pods.instance.patch_run("again", reruns=1)
        second = output_of(await pods.finished("again", reruns=1))
        assert first["pid"] != second["pid"]


async def test_a_pod_whose_worker_falls_silent_is_replaced(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo", settings={"worker_silent": 6}) as pods:
        await pods.instance.create_run("silent", "solo", {"gate": "go"})
        await pods.began("silent")
        *_, worker = pods.processes("silent")  # before it: what the node starts it under
        os.kill(worker, signal.SIGSTOP)
        pods.open("go")
        status = await pods.finished("silent")
        assert output_of(status)["pod"] == "silent-1"
        assert step_of(status)["losses"] == 1
        await pods.until_no_process("silent")


async def test_a_new_operator_finds_the_pods_of_runs(cluster: Cluster) -> None:
    workflow = {"apiVersion": API_VERSION, "kind": "Workflow", "metadata": {"name": "child"}}
    await cluster.api.create(WORKFLOWS, NAMESPACE, workflow | {"spec": {"name": "Child", "execution": "Pod"}})
    await cluster.start_operator()
    await cluster.start_pool(replicas=1)
    await cluster.create_run("goes-on", "child", a="1", gate="go")
    await cluster.create_run("ends", "child", a="2", gate="end")
    await cluster.until_executing("process", 2)
    await cluster.crash_operator()
    cluster.open_gate("end")
    await cluster.start_operator()
    assert output_of((await cluster.finished("ends"))["status"], "process") == {"status": "success 2"}
    cluster.open_gate("go")
    goes_on = (await cluster.finished("goes-on"))["status"]
    assert (output_of(goes_on, "process"), goes_on["steps"]["process"]["worker"]) == (
        {"status": "success 1"},
        "goes-on",
    )
    assert len(cluster.executions("process")) == 2

    async def only_the_pool_is_left() -> bool:
        return len(await cluster.pods()) == 1

    await eventually(only_the_pool_is_left)


async def test_the_example(tmp_path: Path) -> None:
    def load(name: str) -> Json:
        body: Json = yaml.safe_load((EXAMPLE / name).read_text())
        return body

    pool = load("pool.yaml")
    pool["spec"]["template"]["spec"]["containers"][0]["command"] = [sys.executable, "-u", str(EXAMPLE / "worker.py")]
    async with running_pods(tmp_path, pool=pool, workflow=load("workflow.yaml")) as pods:
        run = await pods.api.create(RUNS, NAMESPACE, load("run.yaml"))
        name = run["metadata"]["name"]
        assert output_of(await pods.finished(name), "collect") == {"lines": 20_000}
        crunched = [run for run in await pods.instance.runs() if run["spec"]["workflow"] == "crunch"]
        assert sorted(run["status"]["steps"]["count"]["worker"] for run in crunched) == sorted(
            run["metadata"]["name"] for run in crunched
        )
