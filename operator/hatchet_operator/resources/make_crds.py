"""Makes the CustomResourceDefinitions from the models: ``python -m hatchet_operator.resources.make_crds crds/``."""

import argparse
import json
from pathlib import Path

from hatchet_operator.resources.base import GROUP, VERSION, Json
from hatchet_operator.resources.crd_kinds import KINDS, Kind
from hatchet_operator.resources.crds import MADE, recorded_version, render_crd
from hatchet_operator.resources.reasons import ConditionType
from hatchet_operator.resources.structural_schema import structural_schema

_NOBODY_LOOKED = {
    "conditions": [
        {
            "type": ConditionType.READY.value,
            "status": "Unknown",
            "reason": "Pending",
            "message": "the operator has not looked at it yet",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]
}
"""Status of a new object: otherwise whoever waits for it (Helm, Flux, Argo CD) would take it for ready."""


def write_crds(directory: Path, packaged: Path) -> None:
    """Write one YAML file for each kind, and all in one of JSON: the same bytes for the same models."""
    directory.mkdir(parents=True, exist_ok=True)
    crds = [_make_crd(kind) for kind in KINDS]
    for crd in crds:
        path = directory / f"{crd['spec']['names']['plural']}.yaml"
        path.write_text(render_crd(crd), encoding="utf-8")
    one_a_line = ",\n".join(json.dumps(crd, ensure_ascii=False) for crd in crds)
    packaged.write_text(f"[{one_a_line}]\n", encoding="utf-8")


def _make_crd(kind: Kind) -> Json:
    name = kind.model.__name__
    singular = name.lower()
    plural = f"{singular}s"
    version: Json = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}} | ({"scale": dict(kind.scale)} if kind.scale else {}),
        "additionalPrinterColumns": [column.to_wire() for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    version["schema"] = {"openAPIV3Schema": _object_schema(kind)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": plural,
                "singular": singular,
                "shortNames": [kind.short_name],
                "categories": ["hatchet"],
            },
            "versions": [version],
        },
    }


def _object_schema(kind: Kind) -> Json:
    schema = structural_schema(kind.model)
    metadata: Json = {"type": "object"}  # the API server has its own idea of the rest, and refuses another
    schema["properties"]["status"]["default"] = _NOBODY_LOOKED
    if kind.max_name:
        metadata["properties"] = {"name": {"type": "string", "maxLength": kind.max_name}}
    schema["properties"]["metadata"] = metadata
    schema["required"] = [field for field in schema.get("required", []) if field != "metadata"]
    if not schema["required"]:
        del schema["required"]
    if kind.object_rules:
        schema["x-kubernetes-validations"] = [rule.to_wire() for rule in kind.object_rules]
    for rule in kind.rules:
        spec = schema["properties"]["spec"]
        place = spec["properties"][rule.at] if rule.at else spec
        place["x-kubernetes-validations"] = [*place.get("x-kubernetes-validations", ()), rule.to_wire()]
    # Only the operator writes a status, and always the whole of it: so it has one owner, and the API server need not
    # note of each field in it who wrote that, which was a third of a run's bytes.
    schema["properties"]["status"]["x-kubernetes-map-type"] = "atomic"
    return schema


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the CustomResourceDefinitions, one file for each kind.")
    parser.add_argument("directory", type=Path, help="where to write them")
    parser.add_argument("--packaged", type=Path, default=MADE, help="where to write what the program itself reads")
    parser.add_argument("--recorded-version", type=Path, help="where to write that version of WorkflowRun")
    args = parser.parse_args()
    write_crds(args.directory, args.packaged)
    if args.recorded_version is not None:
        args.recorded_version.write_text(render_crd(recorded_version()), encoding="utf-8")


if __name__ == "__main__":
    main()
