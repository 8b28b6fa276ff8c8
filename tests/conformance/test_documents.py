"""The manifests and patches in README and docs/: the API server takes each, and knows every field of it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.resources.base import API_VERSION
from tests.conformance.test_bad_values import KINDS, VALID
from tests.kube.client import Answer, Api, Json

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
FENCED = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^    (?:apiVersion|spec): ?.*\n(?:    .+\n)*", re.MULTILINE)
PATCH = re.compile(r"kubectl patch (wfr|wf|wp) \S+ --type[= ]merge -p '(.*?)'")
SELECTOR = re.compile(r"kubectl get (wfr|wf|wp)\b[^`\n]*?--field-selector[ =]([^\s`]+)")
SHORT = {"wfr": "WorkflowRun", "wf": "Workflow", "wp": "WorkerPool"}


def manifests() -> Iterator[tuple[str, Json]]:
    for page in PAGES:
        text = page.read_text()
        blocks = [
            *FENCED.findall(text),
            *(textwrap.dedent(found) for found in INDENTED.findall(ANY_FENCE.sub("", text))),
        ]
        for number, block in enumerate(blocks, 1):
            for document in yaml.safe_load_all(block):
                if "spec" in document and document.get("apiVersion", API_VERSION) == API_VERSION:
                    yield f"{page.relative_to(ROOT)}, block {number}", document


def patches() -> Iterator[tuple[str, str, Json]]:
    for page in PAGES:
        for kind, patch in PATCH.findall(page.read_text()):
            yield f"{page.relative_to(ROOT)}: {patch}", SHORT[kind], json.loads(patch)


MANIFESTS, PATCHES = list(manifests()), list(patches())
SELECTORS = sorted({found for page in PAGES for found in SELECTOR.findall(page.read_text())})


async def created(api: Api, kind: str, name: str, spec: Any) -> Answer:
    return await api.create(KINDS[kind], KINDS[kind].make(name, spec=spec), fieldValidation="Strict")


async def test_every_manifest_is_taken(api: Api) -> None:
    assert len(MANIFESTS) > 9
    wrong = []
    for number, (place, document) in enumerate(MANIFESTS):
        # A page may show a part of a spec, without the rest: it is of one of the kinds then.
        kinds = [document["kind"]] if "kind" in document else list(KINDS)
        rest = {} if "apiVersion" in document else VALID
        specs = [(kind, rest.get(kind, {}) | document["spec"]) for kind in kinds]
        answers = [await created(api, kind, f"doc-{number}", spec) for kind, spec in specs]
        if not any(answer.status == 201 for answer in answers):
            wrong.append((place, [answer.body["message"] for answer in answers]))
    assert wrong == []


@pytest.mark.parametrize(("place", "kind", "patch"), PATCHES, ids=[place for place, _, _ in PATCHES])
async def test_every_patch_is_taken(api: Api, place: str, kind: str, patch: Json) -> None:
    (await created(api, kind, "patched", VALID[kind])).ok(201)
    answer = (await api.merge_patch(KINDS[kind], "patched", patch)).ok()
    for field, value in patch["spec"].items():
        assert answer["spec"].get(field) == value or isinstance(value, dict), "the field is not known, and was dropped"
        if isinstance(value, dict):
            assert value.keys() <= answer["spec"][field].keys()


@pytest.mark.parametrize(("kind", "selector"), SELECTORS)
async def test_every_field_can_be_selected_by(api: Api, kind: str, selector: str) -> None:
    (await api.list_all(KINDS[SHORT[kind]], fieldSelector=selector)).ok()
