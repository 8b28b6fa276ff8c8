"""The CustomResourceDefinitions, generated from the models: ``python -m hatchet_operator.resources.crds crds/``."""

import argparse
from pathlib import Path

import yaml

from hatchet_operator.resources.base import GROUP, RECORDED_VERSION, VERSION, Json
from hatchet_operator.resources.crd_kinds import KINDS, RUN, Kind
from hatchet_operator.resources.reasons import ConditionType
from hatchet_operator.resources.structural_schema import ANYTHING, structural_schema

_HEADER = "# Generated from hatchet_operator.resources; do not edit. `make generate` writes it.\n"

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


def load_crds(*, light_runs: bool = False) -> list[Json]:
    """Return the CRDs as the API server takes them.

    Args:
        light_runs: Whether runs may be made together with their status, which costs others something: see
            `recorded_version`.
    """
    crds = [_make_crd(kind) for kind in KINDS]
    if light_runs:
        next(crd for crd in crds if crd["spec"]["names"]["kind"] == RUN.model.__name__)["spec"]["versions"].append(
            recorded_version()
        )
    return crds


def recorded_version() -> Json:
    """Return the version of WorkflowRun in which a run is made together with its status.

    A version with the status subresource drops the status of a new object; this one has none, so it keeps it. All
    versions share what is stored, so the object is read in the other one as any. It describes nothing, since only the
    operator may use it, which the admission policy says: a schema would cost each create as much as both writes of
    a full record. The API server keeps a cache of all runs for each version, so it is there only where it is asked for.
    """
    rule = "!has(oldSelf.kind)"
    message = f"in version {RECORDED_VERSION} runs are made, by the operator, but not changed; use {VERSION}"
    return {
        "name": RECORDED_VERSION,
        "served": True,
        "storage": False,
        "schema": {
            "openAPIV3Schema": {
                "description": f"In this version the operator makes runs that have ended. Use {VERSION}.",
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "x-kubernetes-validations": [{"rule": rule, "message": message, "reason": "FieldValueForbidden"}],
                "properties": {"spec": dict(ANYTHING), "status": dict(ANYTHING)},
            }
        },
    }


def write_crds(directory: Path) -> None:
    """Write one YAML file for each kind, the same bytes for the same models."""
    directory.mkdir(parents=True, exist_ok=True)
    for crd in load_crds():
        path = directory / f"{crd['spec']['names']['plural']}.yaml"
        path.write_text(render_crd(crd), encoding="utf-8")


def render_crd(crd: Json) -> str:
    """Return the text of a CRD's file."""
    return _HEADER + yaml.dump(crd, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=110)


class _NoAliases(yaml.SafeDumper):
    """Writes what appears twice twice: ``*id001`` is valid YAML that nobody reads."""

    def ignore_aliases(self, data: object) -> bool:
        return True


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
    parser.add_argument("--recorded-version", type=Path, help="where to write that version of WorkflowRun")
    args = parser.parse_args()
    write_crds(args.directory)
    if args.recorded_version is not None:
        args.recorded_version.write_text(render_crd(recorded_version()), encoding="utf-8")


if __name__ == "__main__":
    main()
