"""``hatchet-operator logs``: a run's lines and no other's, while it runs and after its end."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
import yaml

from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.errors import UnknownObject
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.run_logs.reader import RunLogs
from tests.integration.inprocess import NAMESPACE, running_operator
from tests.integration.pods import Pods, running_pods
from tests.kube.eventually import eventually


def logs_of(pods: Pods, run: str, *, children: bool = False) -> tuple[RunLogs, list[str]]:
    lines: list[str] = []
    return RunLogs(pods.api, ObjectRef(NAMESPACE, run), write=lines.append, children=children), lines


def said(attempt: int) -> list[str]:
    """Return what an attempt of the step "say" says."""
    texts = [
        f"printed {attempt - 1}",
        '{"level": "WARNING", "message": "logged"}',
        "100%",
        "first line",
        "second line",
        *(["no newline"] if attempt == 2 else []),
    ]
    return [f"say#{attempt} | {text}" for text in texts]


async def run_cli(pods: Pods, *arguments: str) -> tuple[int, str, str]:
    """Call the command as a person does; return exit code, stdout and stderr."""
    kubeconfig = pods.directory / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": pods.instance.url}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}
    text = {"kind": "Config", "clusters": [cluster], "contexts": [context], "current-context": "x"}
    kubeconfig.write_text(yaml.safe_dump(text | {"users": [{"name": "u", "user": {}}]}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hatchet_operator", "logs", *arguments, "--kubeconfig", str(kubeconfig)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_of_a_shared_pod_only_the_runs_lines_are_shown(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        trace = "0af7651916cd43dd8448eb211c80319c"
        traced = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        await pods.instance.create_run("one", "solo", {}, additionalMetadata=traced)
        await pods.instance.create_run("one-more", "solo", {})
        await pods.finished("one-more")
        await pods.finished("one")
        exit_code, stdout, stderr = await run_cli(pods, "one")
        assert (exit_code, stderr) == (0, "")
        assert stdout == "work#1 | at work\n"
        (line,) = (await run_cli(pods, "one", "--output", "json"))[1].splitlines()
        assert (json.loads(line)["message"], json.loads(line)["trace_id"]) == ("at work", trace)


async def test_all_that_a_step_says_is_found_with_its_attempt_and_its_error(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        await pods.instance.create_run("good", "talk", {})
        await pods.instance.create_run("bad", "talk", {"fail": True})
        assert (await pods.finished("good"))["phase"] == "Succeeded"
        assert (await pods.finished("bad"))["phase"] == "Failed"
        assert await run_cli(pods, "good") == (0, "\n".join([*said(1), *said(2), ""]), "")
        assert await run_cli(pods, "good", "--attempt", "2", "--step", "SAY") == (0, "\n".join([*said(2), ""]), "")
        _, stdout, _ = await run_cli(pods, "bad", "-f")
        lines = stdout.splitlines()
        assert lines[:10] == [*said(1), *said(2)[:-1]]
        assert lines[10] == "say#2 ! Traceback (most recent call last):"
        assert lines[-1] == "say#2 ! ValueError: that was all"
        (worker,) = await pods.of_pool()
        log = pods.directory / "logs" / f"{NAMESPACE}_{worker['metadata']['name']}_{worker['metadata']['uid']}.log"
        assert "of a subprocess" in log.read_text(), "it is in the pod's log, and of no run"


async def test_a_whole_tree_is_shown_while_it_runs_and_after(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        await pods.instance.create_run("top", "family", {"gate": "go"})
        logs, lines = logs_of(pods, "top", children=True)
        following = asyncio.create_task(logs.follow())

        async def both_are_at_work() -> bool:
            return len(lines) == 2

        await eventually(both_are_at_work)
        pods.open("go")
        await asyncio.wait_for(following, 60)
        assert {line.rpartition(" work#1 | ")[0].rpartition("-")[0] for line in lines} == {"top"}
        assert [line.rpartition(" | ")[2] for line in lines] == ["at work", "at work"]
        again, shown = logs_of(pods, "top", children=True)
        await again.show()
        assert sorted(shown) == sorted(lines)
        assert again.problems == []


async def test_an_attempt_whose_pod_is_gone_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        await pods.instance.create_run("moved", "solo", {"gate": "go"})
        first = await pods.began("moved")
        await pods.instance.until_phase("moved", "Running")
        await pods.api.delete(PODS, NAMESPACE, first, grace_seconds=0)

        async def has_another() -> bool:
            return bool(names := [pod["metadata"]["name"] for pod in await pods.of_pool()]) and first not in names

        await eventually(has_another, within_seconds=60)
        pods.open("go")
        status = await pods.finished("moved")
        assert status["steps"]["work"]["earlier"] == [{"attempt": 0, "worker": first}]
        exit_code, stdout, stderr = await run_cli(pods, "moved")
        assert (exit_code, stdout) == (1, "work#1 | at work\n")
        assert stderr.startswith(f'error: pod "{first}" is gone, and its log with it (attempt 1 of step "work"): ')


async def test_nothing_is_claimed_of_a_run_that_said_nothing(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        uid = (await pods.instance.create_run("quiet", "family", {}))["metadata"]["uid"]
        (worker,) = {step["worker"] for step in (await pods.finished("quiet"))["steps"].values()}
        for arguments in (["quiet"], ["quiet", "-f"], [uid]):
            assert await run_cli(pods, *arguments) == (
                0,
                "",
                f"no line is known to be of run {NAMESPACE}/quiet. What subprocesses, C code or the published SDK "
                "print names no run; to see all that its workers printed: "
                f"kubectl logs -n {NAMESPACE} {worker}\n",
            )


async def test_of_the_runs_own_pod_everything_is_shown_as_it_comes(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("own", "solo", {"gate": "go"})
        logs, lines = logs_of(pods, "own")
        following = asyncio.create_task(logs.follow())

        async def is_at_work() -> bool:
            return "work#1 | at work" in lines

        await eventually(is_at_work)
        assert not following.done()
        pods.open("go")
        await asyncio.wait_for(following, 60)
        assert (await pods.finished("own"))["phase"] == "Succeeded"
        assert any(line.startswith("own | ") and "worker pods registered" in line for line in lines)
        assert len(lines) == len(set(lines)), "a line was shown twice"
        assert logs.problems == []


async def test_following_a_run_in_a_shared_pod_ends_with_the_run(tmp_path: Path) -> None:
    async with running_pods(tmp_path) as pods:
        await pods.instance.create_run("shared", "solo", {"gate": "go"})
        await pods.began("shared")
        logs, lines = logs_of(pods, "shared")
        following = asyncio.create_task(logs.follow())
        await pods.instance.until_phase("shared", "Running")
        pods.open("go")
        await asyncio.wait_for(following, 60)
        assert lines == ["work#1 | at work"]


async def test_a_pod_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    async with running_pods(tmp_path, "solo") as pods:
        await pods.instance.create_run("own", "solo", {})
        await pods.finished("own")
        await pods.until_pods("own")
        exit_code, stdout, stderr = await run_cli(pods, "own")
        assert (exit_code, stdout) == (1, "")
        assert stderr.startswith('error: pod "own" is gone, and its log with it')


async def test_a_run_that_is_not_there_or_has_not_begun(tmp_path: Path) -> None:
    async with running_operator() as instance:
        pods = Pods(instance, tmp_path)
        logs, _ = logs_of(pods, "nothing")
        with pytest.raises(UnknownObject, match='there is no run "nothing" in namespace "default"'):
            await logs.show()
        await instance.create_run("waits", "unknown")
        await instance.condition("waits", "WorkflowMissing")
        logs, _ = logs_of(pods, "waits")
        await logs.show()
        assert "no pod is known to have a step of run default/waits (Pending): no worker has" in logs.problems[0]
        assert (await instance.api.list_all(PODS, NAMESPACE))[0] == []
