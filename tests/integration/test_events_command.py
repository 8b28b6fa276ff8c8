"""``hatchet-operator events push``: what a person's kubeconfig starts, and what the operator makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.cluster.kinds import WORKFLOWS
from hatchet_operator.engine.triggers.events import read_event
from hatchet_operator.resources.names import event_run_name
from tests.integration.commands import ENDS_WITHIN_SECONDS, running
from tests.integration.engine.world import MAIN
from tests.integration.inprocess import NAMESPACE, Instance, running_operator


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with running_operator() as instance:
        yield instance


@pytest.fixture
def kubeconfig(instance: Instance, tmp_path: Path) -> Path:
    cluster = {"name": "c", "cluster": {"server": instance.url}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}
    text = {"kind": "Config", "clusters": [cluster], "contexts": [context], "current-context": "x"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(text | {"users": [{"name": "u", "user": {}}]}))
    return path


async def push(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Call the command as a person does; return exit code, stdout and stderr."""
    command = ("hatchet_operator", "events", "push", *arguments)
    async with running(*command, "--kubeconfig", kubeconfig, stdin=stdin is not None) as process:
        given = stdin.encode() if stdin is not None else None
        stdout, stderr = await asyncio.wait_for(process.communicate(given), ENDS_WITHIN_SECONDS)
        assert process.returncode is not None
        return process.returncode, stdout.decode(), stderr.decode()


async def test_a_person_pushes_an_event_and_sees_what_it_started(
    instance: Instance, kubeconfig: Path, tmp_path: Path
) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("Etl", event_triggers=("user:create",))
    await worker.start()
    payload = tmp_path / "payload.json"
    payload.write_text('{"user": "ada"}')
    options = ("--payload", f"@{payload}", "--id", "signup-ada", "--metadata", '{"by": "me"}', "--priority", "3")
    code, stdout, stderr = await push(kubeconfig, "user:create", *options)
    (run,) = await instance.runs("hatchet-operator.dev/event=signup-ada")
    name = run["metadata"]["name"]
    assert (code, stdout, stderr) == (0, f"run {name} of workflow Etl started\n", "")
    action = await worker.next()
    assert '"input":{"user": "ada"},"triggered_by":"event"' in action.action_payload
    assert (json.loads(action.additional_metadata), action.priority) == ({"by": "me"}, 3)
    event = read_event(MAIN, "user:create", "{}", event_id="signup-ada")
    (again,) = await instance.engine.triggering.push(event)
    assert (again.name, again.created) == (name, False), "the operator means the same run by the event"
    assert (await push(kubeconfig, "user:create", *options))[1] == f"run {name} of workflow Etl was there\n"


async def test_what_was_started_is_told_as_json(instance: Instance, kubeconfig: Path) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("etl", event_triggers=("user:*",))
    code, stdout, _ = await push(
        kubeconfig, "user:create", "--payload", "-", "-o", "json", "--id", "1", stdin='{"a":1}'
    )
    answer = json.loads(stdout)
    assert (code, answer["id"], answer["key"]) == (0, "1", "user:create")
    assert [(run["workflow"], run["created"]) for run in answer["runs"]] == [("etl", True)]


async def test_an_event_that_nothing_wants_says_what_is_wanted(instance: Instance, kubeconfig: Path) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("etl", event_triggers=("user:*",))
    await instance.api.patch(
        WORKFLOWS, NAMESPACE, "etl", {"spec": {"events": [{"key": "a", "filter": "input.b == 1"}]}}
    )
    code, stdout, stderr = await push(kubeconfig, "a")
    assert (code, stdout) == (0, "")
    warning, nothing = stderr.splitlines()
    assert warning.startswith("warning: the filter 'input.b == 1' can't be evaluated for this event: there is no 'b'")
    assert nothing == 'no workflow in namespace "default" wants event "a" (keys that workflows name: "a", "user:*")'


@pytest.mark.parametrize(
    ("arguments", "want", "words"),
    [
        (["a", "--payload", "[1]"], 1, 'payload of event "a" is a JSON list; expected an object'),
        (["a", "--payload", "@/nowhere"], 2, "Invalid value for --payload: /nowhere can't be read"),
        (["a", "--metadata", "x"], 1, 'metadata of event "a" is not JSON'),
        (["a", "--priority", "4"], 2, "Invalid value for '--priority'"),
        ([], 2, "Missing argument 'KEY'"),
    ],
)
async def test_what_makes_no_sense_is_told(kubeconfig: Path, arguments: list[Any], want: int, words: str) -> None:
    code, stdout, stderr = await push(kubeconfig, *arguments)
    assert (code, stdout, words in stderr) == (want, "", True), stderr


async def test_a_run_of_another_is_not_taken_for_that_of_the_event(instance: Instance, kubeconfig: Path) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("etl", event_triggers=("a",))
    name = event_run_name("etl", "1")
    await instance.create_run(name, "etl")
    code, _, stderr = await push(kubeconfig, "a", "--id", "1")
    assert (code, stderr) == (
        1,
        f"error: run {name} is there, but it is not that of this event (a person or a program started it): delete it, "
        "and push the event again with its id\n",
    )


async def test_a_run_that_is_refused_is_told_with_the_servers_words(instance: Instance, kubeconfig: Path) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("etl", event_triggers=("a",))
    match = {"verb": "create", "resource": "workflowruns"}
    fault = {"match": match, "action": "status", "code": 403, "message": "you may not create workflowruns"}
    instance.server.faults.install([fault])
    code, _, stderr = await push(kubeconfig, "a")
    assert code == 1
    assert stderr.startswith("error: you may not create workflowruns (the cluster's role ")
