"""The JSON schemas for editors and linters: they take what the API server takes, and show what it would refuse."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError
from referencing import Registry, Resource

from hatchet_operator.resources.schemas import json_schemas

ROOT = Path(__file__).parents[4]
SCHEMAS = json_schemas()
REGISTRY: Registry[Any] = Registry().with_resources(
    [(path, Resource.from_contents(schema)) for path, schema in SCHEMAS.items()]
)
ANY_KIND = Draft7Validator(SCHEMAS["all.json"], registry=REGISTRY)
MANIFESTS = sorted(ROOT.glob("examples/*/*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return [
        each for each in yaml.safe_load_all(path.read_text()) if each and "hatchet-operator.dev" in each["apiVersion"]
    ]


def run(**fields: object) -> dict[str, Any]:
    return {"apiVersion": "hatchet-operator.dev/v1alpha1", "kind": "WorkflowRun", "metadata": {"name": "a"}, **fields}


def faults(manifest: dict[str, Any]) -> list[str]:
    return sorted(error.message for error in ANY_KIND.iter_errors(manifest))


@pytest.mark.parametrize("path", SCHEMAS)
def test_each_is_a_json_schema(path: str) -> None:
    Draft7Validator.check_schema(SCHEMAS[path])


def test_the_files_of_the_repository_are_these() -> None:
    written = {str(path.relative_to(ROOT / "schemas")) for path in (ROOT / "schemas").rglob("*.json")}
    assert written == set(SCHEMAS)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_the_examples_apply_has_no_fault(path: Path) -> None:
    assert [faults(document) for document in documents(path)] == [[] for _ in documents(path)]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (run(), "'spec' is a required property"),
        (run(spec={"workflow": "a", "inptu": {}}), "'inptu' was unexpected"),
        (run(spec={"workflow": 1}), "1 is not of type 'string'"),
        (run(spec={"workflow": "a", "priority": 4}), "4 is greater than the maximum of 3"),
        (run(spec={"workflow": "a", "ttl": "5 days"}), "'5 days' does not match"),
        (run(spec={"workflow": "a"}) | {"kind": "WorkflowRuns"}, "'WorkflowRuns' is not one of"),
        (run(spec={"workflow": "a"}) | {"apiVersion": "hatchet-operator.dev/v1"}, "v1' is not one of"),
    ],
)
def test_a_fault_is_said_where_it_is(manifest: dict[str, Any], said: str) -> None:
    found = faults(manifest)
    assert len(found) == 1
    assert said in found[0]


def test_input_is_anything() -> None:
    ANY_KIND.validate(run(spec={"workflow": "a", "input": {"x": [1, None, {"y": "z"}]}}))
    with pytest.raises(ValidationError):
        ANY_KIND.validate(run(spec={"workflow": "a", "input": "text"}))
