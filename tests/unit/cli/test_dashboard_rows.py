"""What the page is sent of an object."""

import json
from typing import Any

from hatchet_cli.dashboard.rows import run_row
from hatchet_operator.resources.run import WorkflowRun

AT = "2026-01-02T03:04:05.250000Z"


def run(**spec: Any) -> WorkflowRun:
    return WorkflowRun.model_validate(
        {
            "metadata": {
                "name": "a-1",
                "namespace": "default",
                "uid": "u",
                "resourceVersion": "7",
                "creationTimestamp": AT,
            },
            "spec": {"workflow": "child", "inputJson": json.dumps({"large": "x" * 100_000}), **spec},
            "status": {"phase": "Running", "startedAt": AT, "steps": {}},
        }
    )


def test_a_row_has_no_input_and_no_empty_fields() -> None:
    assert run_row(run()) == {
        "uid": "u",
        "version": "7",
        "name": "a-1",
        "workflow": "child",
        "phase": "Running",
        "created": 1767323045250,
        "started": 1767323045250,
    }


def test_a_child_has_its_place_and_its_metadata_as_text() -> None:
    parent = {"name": "a", "uid": "p", "step": "spawn", "key": "k", "index": 3}
    row = run_row(run(parent=parent, additionalMetadata={"n": 1}, suspended=True))
    assert {name: row[name] for name in ("parent", "parentName", "step", "key", "index")} == {
        "parent": "p",
        "parentName": "a",
        "step": "spawn",
        "key": "k",
        "index": 5,
    }
    assert (row["metadata"], row["suspended"]) == ({"n": "1"}, True)
