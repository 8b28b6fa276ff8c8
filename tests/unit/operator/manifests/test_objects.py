"""From what workers would register to the objects that a person keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import yaml

from hatchet_operator.errors import ConfigurationError
from hatchet_operator.manifests.objects import Replicas, make_pool, make_workflows, parse_replicas, pool_name, render
from hatchet_operator.manifests.program import WorkerDescription
from hatchet_operator.resources.workflow import StepDefinition, WorkflowDefinition


def make_step(name: str = "run", *parents: str) -> StepDefinition:
    return StepDefinition(name=name, action=f"w:{name}", parents=parents, timeout=timedelta(minutes=1))


def make_worker(
    *workflows: str, name: str = "worker", slots: int | None = None, steps: tuple[StepDefinition, ...] = (make_step(),)
) -> WorkerDescription:
    definitions = tuple(
        WorkflowDefinition(name=each, steps=steps, schedule_timeout=timedelta(minutes=5)) for each in workflows
    )
    return WorkerDescription(name=name, slots=slots, workflows=definitions)


def pool_spec(*workers: WorkerDescription, replicas: Replicas | None = None) -> dict[str, Any]:
    pool = make_pool(workers, pool="p", namespace=None, image="i:1", program="app.py", replicas=replicas)
    spec: dict[str, Any] = pool["spec"]
    return spec


@pytest.mark.parametrize(
    ("exact", "want_name", "want_spec"),
    [
        pytest.param("etl", "etl", {"pool": "p"}, id="a name that an object can have is said once"),
        pytest.param("Etl", "etl", {"name": "Etl", "pool": "p"}, id="another one is said exactly"),
        pytest.param("a_b.c", "a-b-c", {"name": "a_b.c", "pool": "p"}, id="whatever it holds"),
    ],
)
def test_workflow(exact: str, want_name: str, want_spec: dict[str, str]) -> None:
    (workflow,) = make_workflows([make_worker(exact)], pool="p", namespace=None)
    assert workflow == {
        "apiVersion": "hatchet-operator.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": want_name},
        "spec": want_spec,
    }


def test_a_namespace_is_said_when_it_was_asked_for() -> None:
    worker = make_worker("w")
    (workflow,) = make_workflows([worker], pool="p", namespace="team")
    pool = make_pool([worker], pool="p", namespace="team", image="i", program="app.py", replicas=None)
    assert workflow["metadata"] == {"name": "w", "namespace": "team"}
    assert pool["metadata"] == {"name": "p", "namespace": "team"}


def test_a_workflow_of_two_workers_is_one_object() -> None:
    workers = [make_worker("A", "B", name="one"), make_worker("B", name="two")]
    assert [each["metadata"]["name"] for each in make_workflows(workers, pool="p", namespace=None)] == ["a", "b"]


@pytest.mark.parametrize(
    ("worker", "want"),
    [
        pytest.param(
            make_worker("A_b", "a-b"),
            'workflows "A_b" and "a-b" would both be the Workflow object "a-b"; rename one of them',
            id="two names of one object",
        ),
        pytest.param(make_worker("???"), 'workflow name "???" has no letter', id="a name of no object"),
        pytest.param(
            make_worker("w", steps=(make_step("a", "b"),)),
            'workflow "w": step "a" names parent "b", which is not defined',
            id="an unknown parent",
        ),
        pytest.param(make_worker("w", steps=()), 'workflow "w" has no steps', id="no steps"),
    ],
)
def test_what_a_registration_would_be_refused_for(worker: WorkerDescription, want: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_workflows([worker], pool="p", namespace=None)
    assert want in str(refused.value)


def test_pool_runs_the_program_as_a_restricted_namespace_allows() -> None:
    assert pool_spec(make_worker("w")) == {
        "template": {
            "spec": {
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        "name": "worker",
                        "image": "i:1",
                        "command": ["python", "app.py"],
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            }
        }
    }


@pytest.mark.parametrize(
    ("workers", "want"),
    [
        pytest.param([make_worker("w", slots=40)], 40, id="those of the worker"),
        pytest.param([make_worker("w")], None, id="left out when the worker leaves them out"),
        pytest.param([make_worker("v", slots=1), make_worker("w", slots=2)], None, id="each worker has its own"),
    ],
)
def test_slots(workers: list[WorkerDescription], want: int | None) -> None:
    assert pool_spec(*workers).get("slots") == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("3", {"minReplicas": 3}, id="a number"),
        pytest.param("0:10", {"minReplicas": 0, "maxReplicas": 10}, id="a range"),
        pytest.param("2:2", {"minReplicas": 2, "maxReplicas": 2}, id="a range of one"),
    ],
)
def test_replicas(text: str, want: dict[str, int]) -> None:
    spec = pool_spec(make_worker("w"), replicas=parse_replicas(text))
    assert {name: value for name, value in spec.items() if name.endswith("Replicas")} == want


@pytest.mark.parametrize("text", ["", "a", "-1", "1:", ":1", "3:2", "1:2:3", "1.5"])
def test_nonsense_for_replicas_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--replicas"):
        parse_replicas(text)


def test_more_replicas_than_the_api_server_takes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'WorkerPool "p" would be refused: spec.minReplicas: .* 1000'):
        pool_spec(make_worker("w"), replicas=parse_replicas("1001"))


@pytest.mark.parametrize(
    ("workers", "asked", "want"),
    [
        pytest.param([make_worker("w", name="My_Worker")], None, "my-worker", id="after the worker"),
        pytest.param([make_worker("w"), make_worker("v")], None, "worker", id="after two of one name"),
        pytest.param([make_worker("w", name="a"), make_worker("v", name="b")], "c", "c", id="as asked"),
    ],
)
def test_name_of_the_pool(workers: list[WorkerDescription], asked: str | None, want: str) -> None:
    assert pool_name(workers, asked) == want


@pytest.mark.parametrize(
    ("workers", "asked", "want"),
    [
        pytest.param(
            [make_worker("w", name="a"), make_worker("v", name="b")], None, '2 workers, "a", "b"', id="several"
        ),
        pytest.param([make_worker("w", name="…")], None, "give --pool", id="a worker that nothing can be named after"),
        pytest.param([make_worker("w")], "My_Pool", '--pool is "My_Pool"', id="no object's name"),
        pytest.param([make_worker("w")], "p" * 64, "at most 63", id="too long"),
    ],
)
def test_a_pool_without_a_name_is_refused(workers: list[WorkerDescription], asked: str | None, want: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        pool_name(workers, asked)
    assert want in str(refused.value)


@pytest.mark.parametrize("name", ["Y", "n", "on", "1e3", "0x1f", "1:30", "null", "~", "a b", 'a"b', "ä", "=", "12"])
def test_text_stays_text_for_every_yaml_parser(name: str) -> None:
    text = render([{"name": name}])
    assert text == f"name: {text[6]}{name.replace(chr(34), chr(92) + chr(34))}{text[6]}\n"
    assert text[6] in "'\""
    assert yaml.safe_load(text) == {"name": name}


def test_objects_are_separate_documents() -> None:
    objects = [{"kind": "Workflow"}, {"kind": "WorkerPool"}]
    assert list(yaml.safe_load_all(render(objects))) == objects
