"""The generated CRDs; whether servers take them and what they refuse is tested in tests/conformance/test_crds.py."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from hatchet_operator.resources import make_crds
from hatchet_operator.resources.base import ResourceModel
from hatchet_operator.resources.crd_kinds import KINDS, Kind
from hatchet_operator.resources.crds import MADE, load_crds, render_crd
from hatchet_operator.resources.make_crds import write_crds
from hatchet_operator.resources.structural_schema import structural_schema

COMMITTED = Path(__file__).parents[4] / "crds"

every_crd = pytest.mark.parametrize("crd", load_crds(), ids=lambda crd: crd["spec"]["names"]["kind"])


def root_schema(crd: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema within a schema, with the path of the field."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in schema:
            yield from nodes(schema[keyword], path + suffix)


def test_the_committed_files_are_fresh(tmp_path: Path) -> None:
    packaged = tmp_path / "packaged.json"
    write_crds(tmp_path / "crds", packaged)
    assert MADE.read_text() == packaged.read_text(), "make generate writes it"
    fresh = {file.name: file.read_text() for file in (tmp_path / "crds").iterdir()}
    assert {file.name: file.read_text() for file in COMMITTED.iterdir()} == fresh
    assert set(fresh) == {
        "workflows.yaml",
        "workflowruns.yaml",
        "workerpools.yaml",
        "webhooksources.yaml",
        "ratelimits.yaml",
    }


def test_the_command_writes_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged.json"
    monkeypatch.setattr(sys, "argv", ["make_crds", str(tmp_path / "new"), "--packaged", str(packaged)])
    make_crds.main()
    assert packaged.exists()
    assert len(list((tmp_path / "new").iterdir())) == len(load_crds())


@every_crd
def test_a_file_says_that_it_is_generated_and_holds_the_crd(crd: dict[str, Any]) -> None:
    text = render_crd(crd)
    assert text.startswith("# Generated")
    assert "do not edit" in text.splitlines()[0]
    assert yaml.safe_load(text) == crd
    assert not re.search(r"[&*]id\d", text), "an alias is hard to read"


@pytest.mark.parametrize("light_runs", [False, True], ids=["full", "with light runs"])
def test_one_version_is_stored_and_all_are_served(light_runs: bool) -> None:
    """Another stored one would be unreadable for the release before: docs/upgrades.md says when that may change."""
    for crd in load_crds(light_runs=light_runs):
        versions = crd["spec"]["versions"]
        assert [version["name"] for version in versions if version["storage"]] == ["v1alpha1"]
        assert all(version["served"] for version in versions)


def test_callers_cannot_spoil_the_crds_of_others() -> None:
    load_crds()[0]["spec"].clear()
    assert load_crds()[0]["spec"]


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("Workflow", ("workflows", "workflow", ["wf"])),
        ("WorkflowRun", ("workflowruns", "workflowrun", ["wfr"])),
        ("WorkerPool", ("workerpools", "workerpool", ["wp"])),
        ("RateLimit", ("ratelimits", "ratelimit", ["rl"])),
        ("WebhookSource", ("webhooksources", "webhooksource", ["whs"])),
    ],
)
def test_names(kind: str, want: tuple[str, str, list[str]]) -> None:
    [crd] = [crd for crd in load_crds() if crd["spec"]["names"]["kind"] == kind]
    names = crd["spec"]["names"]
    assert (names["plural"], names["singular"], names["shortNames"]) == want
    assert names["listKind"] == f"{kind}List"
    assert names["categories"] == ["hatchet"]
    assert crd["metadata"]["name"] == f"{want[0]}.hatchet-operator.dev"
    assert crd["spec"]["scope"] == "Namespaced"
    assert "status" in crd["spec"]["versions"][0]["subresources"]


@every_crd
def test_every_field_has_a_description(crd: dict[str, Any]) -> None:
    for path, schema in nodes(root_schema(crd)):
        if path.startswith(".metadata") or path.endswith(("[]", "{}")):
            continue
        assert re.search(r"\.$", schema.get("description", "")), f"{path or 'the object'} has no description"


@every_crd
def test_the_schema_is_structural(crd: dict[str, Any]) -> None:
    for path, schema in nodes(root_schema(crd)):
        is_open = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
        assert "type" in schema or is_open, path
        assert not {"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const"} & schema.keys(), path
        assert "nullable" not in schema or "type" not in schema, f"{path}: absent is the one way to say nothing"
        assert not {"properties", "additionalProperties"} <= schema.keys(), path


@every_crd
def test_no_field_but_metadata_has_snake_case(crd: dict[str, Any]) -> None:
    for path, _ in nodes(root_schema(crd)):
        assert "_" not in path


@every_crd
def test_everything_that_a_rule_on_a_single_field_sees_is_bounded(crd: dict[str, Any]) -> None:
    """Else the API server estimates the rule's cost from the largest object there can be, and refuses the CRD."""
    for path, schema in nodes(root_schema(crd)):
        if "x-kubernetes-validations" in schema and schema.get("type", "string") == "string":
            assert "maxLength" in schema, path


@every_crd
def test_every_rule_explains_itself_and_points_at_a_field(crd: dict[str, Any]) -> None:
    spec = root_schema(crd)["properties"]["spec"]
    for rule in spec.get("x-kubernetes-validations", ()):
        assert len(rule["message"]) > 30
        schema = spec
        for name in rule["fieldPath"].removeprefix(".").split("."):
            schema = schema["properties"][name]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model.__name__)
def test_paths_of_columns_lead_somewhere(kind: Kind) -> None:
    paths = {path for path, _ in nodes(structural_schema(kind.model))}
    for path in [column.path for column in kind.columns] + list(kind.selectable):
        assert path in paths or path.startswith((".status.conditions[?", ".metadata.")), path


# --- the conversion, on models made for it ---


ANYTHING = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


class Inner(ResourceModel):
    """A part."""

    size: Annotated[int, Field(description="How large.")] = 3


@pytest.mark.parametrize(
    ("annotation", "want"),
    [
        pytest.param(str, {"type": "string"}, id="text"),
        pytest.param(int | None, {"type": "integer"}, id="an optional field is one that may be absent"),
        pytest.param(Literal["a"], {"type": "string", "enum": ["a"]}, id="a constant is an enum of one"),
        pytest.param(
            Annotated[float, Field(gt=0)],
            {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            id="an exclusive bound is a flag",
        ),
        pytest.param(int | str, {"x-kubernetes-int-or-string": True}, id="int or text"),
        pytest.param(
            dict[str, Any],
            {"type": "object", "additionalProperties": ANYTHING},
            id="a map of anything",
        ),
        pytest.param(Any, ANYTHING, id="anything"),
        pytest.param(tuple[int, ...], {"type": "array", "items": {"type": "integer"}}, id="a list"),
        pytest.param(
            dict[str, Inner],
            {
                "type": "object",
                "additionalProperties": {
                    "description": "A part.",
                    "type": "object",
                    "properties": {"size": {"description": "How large.", "type": "integer", "default": 3}},
                },
            },
            id="a map of models, in place",
        ),
    ],
)
def test_types(annotation: Any, want: dict[str, Any]) -> None:
    model = type("Outer", (ResourceModel,), {"__annotations__": {"field": annotation}})
    assert structural_schema(model)["properties"]["field"] == want


@pytest.mark.parametrize(
    ("annotation", "default", "want"),
    [
        pytest.param(bool, False, {"type": "boolean", "default": False}, id="false is a default"),
        pytest.param(int, 0, {"type": "integer", "default": 0}, id="so is zero"),
        pytest.param(str, "", {"type": "string"}, id="no text is not"),
        pytest.param(str | None, None, {"type": "string"}, id="nor is nothing"),
        pytest.param(tuple[int, ...], (), {"type": "array", "items": {"type": "integer"}}, id="nor is an empty list"),
    ],
)
def test_defaults(annotation: Any, default: Any, want: dict[str, Any]) -> None:
    model = type("Outer", (ResourceModel,), {"__annotations__": {"field": annotation}, "field": default})
    assert structural_schema(model)["properties"]["field"] == want


def test_a_part_with_defaults_is_filled_in_when_it_is_absent() -> None:
    model = type("Outer", (ResourceModel,), {"__annotations__": {"field": Inner}, "field": Inner()})
    assert structural_schema(model)["properties"]["field"]["default"] == {}


@pytest.mark.parametrize(
    "annotation",
    [
        pytest.param(Inner | str, id="a union"),
        pytest.param(tuple[int, str], id="a tuple of different things"),
        pytest.param(set[int], id="a set"),
    ],
)
def test_what_no_structural_schema_can_say_is_refused_with_its_path(annotation: Any) -> None:
    model = type("Outer", (ResourceModel,), {"__annotations__": {"field": annotation}})
    with pytest.raises(TypeError, match=r"Outer\.field"):
        structural_schema(model)
