"""JSON schemas of the kinds, made from the CRDs: ``python -m hatchet_operator.resources.schemas schemas/``.

Editors complete and check manifests with them (yaml-language-server), and so do linters (kubeconform), which both know
nothing of a cluster. Rules in CEL are not in them: those the API server checks.

The layout of the files is the one that kubeconform's ``-schema-location`` expects:
``GROUP/KIND_VERSION.json``, in lower case.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from hatchet_operator.resources.base import GROUP, VERSION, Json
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.durations import text_of_duration

_DRAFT = "http://json-schema.org/draft-07/schema#"  # what yaml-language-server reads best
_METADATA: Json = {
    "type": "object",
    "description": "Standard object metadata: name, namespace, labels, annotations.",
    "properties": {
        "name": {"type": "string"},
        "generateName": {"type": "string", "description": "Prefix of a name that the API server chooses."},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def json_schemas() -> dict[str, Json]:
    """Return the schema of each kind by the path of its file, and ``all.json``: any of them, told by ``kind``."""
    crds = {crd["spec"]["names"]["kind"]: crd for crd in load_crds()}
    paths = {kind: f"{GROUP}/{kind.lower()}_{VERSION}.json" for kind in crds}
    any_of_them: Json = {
        "$schema": _DRAFT,
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": list(crds)}},
        # Not "oneOf": of an object with a fault that would say only that it is none of five.
        "allOf": [{"if": {"properties": {"kind": {"const": kind}}}, "then": {"$ref": paths[kind]}} for kind in crds],
    }
    return {paths[kind]: _schema_of(crd) for kind, crd in crds.items()} | {"all.json": any_of_them}


def write_schemas(directory: Path) -> None:
    """Write one JSON file for each kind and ``all.json``, the same bytes for the same models."""
    for name, schema in json_schemas().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _schema_of(crd: Json) -> Json:
    kind = crd["spec"]["names"]["kind"]
    own = _convert(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    properties = own["properties"]
    name = properties["metadata"].get("properties", {}).get("name", {})
    metadata_properties = _METADATA["properties"] | {"name": _METADATA["properties"]["name"] | name}
    properties |= {
        "apiVersion": {"type": "string", "enum": [f"{GROUP}/{VERSION}"]},
        "kind": {"type": "string", "enum": [kind]},
        "metadata": _METADATA | {"properties": metadata_properties},
    }
    required = ["apiVersion", "kind", "metadata", *(field for field in own.get("required", []))]
    return {"$schema": _DRAFT, "title": kind} | own | {"required": list(dict.fromkeys(required))}


def _convert(schema: Json) -> Json:
    """Turn a structural schema into JSON schema: a field that it doesn't name is a typing error, as for kubectl."""
    result: Json = {}
    for keyword, value in schema.items():
        match keyword:
            case "properties":
                result[keyword] = {name: _convert(sub) for name, sub in value.items()}
            case "items" | "additionalProperties":
                result[keyword] = _convert(value)
            case "x-kubernetes-int-or-string":
                result |= text_of_duration(schema) or {"type": ["integer", "string"]}
            case "minimum" | "maximum" if schema.get(f"exclusiveM{keyword[1:]}"):
                result[f"exclusiveM{keyword[1:]}"] = value
            case "exclusiveMinimum" | "exclusiveMaximum" | "nullable":
                pass  # the former is said with its bound, the latter below
            case _ if keyword.startswith("x-kubernetes-"):
                pass
            case _:
                result[keyword] = value
    return result | _strictness(schema) | _nullability(schema, result)


def _strictness(schema: Json) -> Json:
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    return {} if is_open or "properties" not in schema else {"additionalProperties": False}


def _nullability(schema: Json, converted: Json) -> dict[str, Any]:
    if not schema.get("nullable") or "type" not in converted:
        return {}
    return {"type": [converted["type"], "null"]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write JSON schemas of the kinds, for editors and linters.")
    parser.add_argument("directory", type=Path, help="where to write them")
    write_schemas(parser.parse_args().directory)


if __name__ == "__main__":
    main()
