"""What the chart says of itself, and what pages tell people to set in it; only the latter needs Helm."""

from __future__ import annotations

import json
import operator
import re
import shlex
from functools import reduce
from typing import Any

import pytest
import yaml

from charts.readme import CHART, read_values, render_readme
from tests.kube.helm import Helm

ROOT = CHART.parents[1]
VALUES = (CHART / "values.yaml").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "charts").glob("*/README.md"))]
TYPED = re.compile(r"^ +(helm (?:install|upgrade|test|get|rollback|uninstall) (?:.*\\\n)*.*)$", re.MULTILINE)
SET = re.compile(r"--set(?:-string)? ([^\s`\\]+)")


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return path -> default; an empty map is a leaf."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and not path.endswith(("resources.requests", "resources.limits")):
            found |= leaves(value, f"{path}.")
        else:
            found[path] = value
    return found


def test_every_value_has_a_comment() -> None:
    read = {value.path: value for value in read_values(VALUES)}
    want = leaves(yaml.safe_load(VALUES))
    assert {path: yaml.safe_load(value.default) for path, value in read.items()} == want
    assert [path for path, value in read.items() if not value.comment.strip()] == []


def test_the_readme_has_every_value() -> None:
    readme = (CHART / "README.md").read_text()
    assert readme == render_readme(readme, VALUES), 'stale; run "make generate"'


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def of(path: str) -> Any:
        return reduce(operator.getitem, (step for key in path.split(".") for step in ("properties", key)), schema)

    for path in leaves(yaml.safe_load(VALUES)):
        assert of(path), path

    def closed(part: dict[str, Any], values: dict[str, Any]) -> None:
        assert set(part["properties"]) - {"global", "claims"} == set(values)
        assert part["additionalProperties"] is False
        for key, value in values.items():
            if isinstance(value, dict) and "additionalProperties" in part["properties"][key]:
                closed(part["properties"][key], value)

    values = yaml.safe_load(VALUES)
    free = (
        ("metrics", "serviceMonitor", "labels"),
        ("metrics", "podMonitor", "labels"),
        ("metrics", "prometheusRule", "labels"),
        ("metrics", "dashboard", "labels"),
        ("grpc", "service", "annotations"),
    )
    for section, part, name in free:
        del values[section][part][name]
        del schema["properties"][section]["properties"][part]["properties"][name]
    for name in ("variables", "volume"):
        del values["payloads"][name], schema["properties"]["payloads"]["properties"][name]
    closed(schema, values)


COMMANDS = {
    f"{page.relative_to(ROOT)}: {found}": found.replace("\\\n", "")
    for page in PAGES
    for found in TYPED.findall(page.read_text())
}
SETTINGS = sorted({found for page in PAGES for found in SET.findall(page.read_text())})


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_can_be_typed_as_it_is(command: str) -> None:
    """It says which namespace it is for, as the release is not in the current one, and leaves out nothing."""
    assert "--namespace" in shlex.split(command, comments=True)
    assert "…" not in command


@pytest.mark.parametrize("values", SETTINGS)
def test_values_that_pages_set_are_the_charts(values: str, helm: Helm) -> None:
    store = ["payloads.store=s3://bucket/runs"] if values.startswith("payloads.") else []  # the others ask for it
    assert helm.render(values, *store)
