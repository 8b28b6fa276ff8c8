"""What is asked about the workflows of a namespace costs nothing for those of others."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from tests.unit.operator.decisions.builders import make_definition, make_step

NOTHING = cast("Any", None)


@pytest.fixture
def workflows() -> Workflows:
    return Workflows(
        NOTHING,
        events=NOTHING,
        clock=Clock(),
        on_change=lambda ref: None,
        template_of=lambda pool: None,
        pool_exists=lambda pool: True,
        revisions_in_use=lambda ref: set(),
        is_offered=lambda pool, action: False,
    )


def make_object(namespace: str, name: str, *, uid: str = "", registered: bool = True, version: int = 1) -> Json:
    definition = make_definition(make_step(action=f"{name}:work"), name=name)
    status = {"definition": definition.to_wire(), "revision": "r", "pool": "main"} if registered else {}
    metadata = {"name": name, "namespace": namespace, "uid": uid or name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {}, "status": status}


def names(workflows: Workflows, namespace: str) -> tuple[list[str], list[str]]:
    """Return those of a namespace, and those of them that can be run."""
    there, in_effect = workflows.in_namespace(namespace), workflows.in_effect(namespace)
    assert tuple(ref.name for ref, _ in there) == workflows.names_in(namespace)
    assert all(ref == ObjectRef(namespace, workflow.metadata.name) for ref, workflow in (*there, *in_effect))
    return [ref.name for ref, _ in there], [ref.name for ref, _ in in_effect]


def test_workflows_come_and_go_in_their_namespace(workflows: Workflows) -> None:
    workflows.observe("ADDED", make_object("shop", "etl"))
    workflows.observe("ADDED", make_object("shop", "written", registered=False))
    workflows.observe("ADDED", make_object("bank", "etl"))
    assert names(workflows, "shop") == (["etl", "written"], ["etl"])
    assert names(workflows, "bank") == (["etl"], ["etl"])
    workflows.observe("MODIFIED", make_object("shop", "written", version=2))
    assert names(workflows, "shop") == (["etl", "written"], ["etl", "written"])
    workflows.observe("DELETED", make_object("shop", "etl"))
    workflows.forget(ObjectRef("bank", "etl"))
    assert names(workflows, "shop") == (["written"], ["written"])
    assert names(workflows, "bank") == ([], [])


def test_the_end_of_an_earlier_one_of_its_name_takes_none_away(workflows: Workflows) -> None:
    workflows.observe("ADDED", make_object("shop", "etl", uid="old"))
    workflows.observe("ADDED", make_object("shop", "etl", uid="new", version=2))
    workflows.observe("DELETED", make_object("shop", "etl", uid="old"))
    assert names(workflows, "shop") == (["etl"], ["etl"])


def test_what_a_worker_or_pool_could_run_is_of_its_namespace(workflows: Workflows) -> None:
    workflows.observe("ADDED", make_object("shop", "etl"))
    workflows.observe("ADDED", make_object("bank", "report"))
    actions = {"etl:work", "report:work"}
    assert workflows.offered_by("shop", actions) == ["etl"]
    assert [ref.name for ref, _ in workflows.graphs_of_pool(ObjectRef("bank", "main"))] == ["report"]
