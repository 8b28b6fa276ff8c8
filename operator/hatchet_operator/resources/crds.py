"""The CustomResourceDefinitions, generated from the models: ``python -m hatchet_operator.resources.crds crds/``.

The schema pydantic writes is turned into what Kubernetes calls structural: no references, no alternatives, no nulls.
What cannot be said that way raises here, when the CRDs are made, not in a cluster.

The trap: the API server must never accept what the model refuses, or etcd holds an object that nobody can read. So a
limit goes into the model, which also puts it here; only rules about several fields or about a change are written here,
in CEL.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema

from hatchet_operator.durations import format_duration
from hatchet_operator.resources.base import GROUP, VERSION, ResourceModel
from hatchet_operator.resources.reasons import ConditionType
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow

Json = dict[str, Any]

_HEADER = "# Generated from hatchet_operator.resources; do not edit. `make generate` writes it anew.\n"
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
"""Status of an object that was just made: else whoever waits for it (Helm, Flux, Argo CD) would take it for ready."""
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def load_crds() -> list[Json]:
    """Return the CRDs as the API server takes them: workflows, workflowruns, workerpools."""
    return [_make_crd(kind) for kind in KINDS]


def write_crds(directory: Path) -> None:
    """Write one YAML file for each kind, the same bytes for the same models."""
    directory.mkdir(parents=True, exist_ok=True)
    for crd in load_crds():
        path = directory / f"{crd['spec']['names']['plural']}.yaml"
        path.write_text(render_crd(crd), encoding="utf-8")


def render_crd(crd: Json) -> str:
    """Return the text of a CRD's file."""
    return _HEADER + yaml.dump(crd, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=110)


class _Schema(GenerateJsonSchema):
    """pydantic's own schemas, with the defaults of durations in the form that the API server checks them in."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


class _NoAliases(yaml.SafeDumper):
    """Writes what appears twice twice: ``*id001`` is valid YAML that nobody reads."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A CEL rule on ``spec``, and what a person reads who breaks it."""

    rule: str
    message: str
    field: str | None = None
    reason: str = "FieldValueInvalid"

    def to_wire(self) -> Json:
        path = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.rule, "message": self.message, "reason": self.reason} | path


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of ``kubectl get``; one with priority 1 is shown by ``-o wide`` alone."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_wire(self) -> Json:
        priority = {"priority": self.priority} if self.priority else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path} | priority


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a CRD says beside the schema of its model."""

    model: type[ResourceModel]
    short_name: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None
    max_name: int | None = None


def _immutable(field: str, instead: str, *, this: str = "self", old: str = "oldSelf") -> Rule:
    same = f"(!has({this}.{field}) || {this}.{field} == {old}.{field})"
    return Rule(
        rule=f"has({this}.{field}) == has({old}.{field}) && {same}",
        message=f"{field} is fixed once the object exists: it can be neither changed, added nor removed; {instead}",
        field=field,
        reason="FieldValueForbidden",
    )


def _condition(condition_type: str, *, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{condition_type}")].{field}'


_AGE = Column(name="Age", type="date", path=".metadata.creationTimestamp")
_ANOTHER_RUN = "create another WorkflowRun instead"

WORKFLOW = Kind(
    model=Workflow,
    short_name="wf",
    max_name=63,  # it is the value of a label on every run
    columns=(
        Column(name="Registered", path=_condition("Registered")),
        Column(name="Workers", type="integer", path=".status.workers"),
        Column(name="Version", path=".status.definition.version"),
        Column(name="Pool", path=".status.pool"),
        Column(name="Suspended", type="boolean", path=".spec.suspended"),
        Column(name="Exact name", path=".status.definition.name", priority=1),
        Column(name="Revision", path=".status.revision", priority=1),
        _AGE,
    ),
    rules=(_immutable("name", "to rename the workflow, create another Workflow and delete this one"),),
)

RUN = Kind(
    model=WorkflowRun,
    short_name="wfr",
    columns=(
        Column(name="Workflow", path=".spec.workflow"),
        Column(name="Phase", path=".status.phase"),
        Column(name="Reason", path=".status.reason", priority=1),
        Column(name="Children", path=".status.children.summary"),
        Column(name="Parent", path=".spec.parent.name"),
        Column(name="Key", path=".spec.parent.key"),
        Column(name="Duration", path=".status.duration"),
        _AGE,
        Column(name="UID", path=".metadata.uid", priority=1),
    ),
    selectable=(".status.phase", ".spec.workflow"),
    rules=(
        _immutable("workflow", _ANOTHER_RUN),
        # CEL sees a map of anything through dyn() alone. As an object that preserves unknown fields it needs none,
        # but there kube-apiserver 1.37 compares only the keys that both have: {a: 1} equals {b: 1}.
        _immutable("input", _ANOTHER_RUN, this="dyn(self)", old="dyn(oldSelf)"),
        _immutable("inputJson", _ANOTHER_RUN),
        _immutable("parent", "only the operator sets it, when a step spawns the run"),
        Rule(
            rule="!(has(dyn(self).input) && has(self.inputJson))",
            message="input and inputJson are both set, but a run has one input; "
            "keep input (an object) or inputJson (the text of one)",
            field="inputJson",
        ),
        Rule(
            rule="self.cancelled || !oldSelf.cancelled",
            message=f"cancelled cannot go back to false: a cancelled run stays cancelled; {_ANOTHER_RUN}",
            field="cancelled",
            reason="FieldValueForbidden",
        ),
        Rule(
            rule=f"!has(self.propagateLabels) || !self.propagateLabels.exists(key, key.startsWith('{GROUP}/'))",
            message=f"propagateLabels has a label of {GROUP}, but those say which run it is, and children have their "
            "own; name labels that you chose",
            field="propagateLabels",
        ),
        Rule(
            rule="self.reruns >= oldSelf.reruns",
            message="reruns is lower than it was, but it counts reruns and only goes up; "
            "to run the run once more, raise it by one",
            field="reruns",
        ),
        Rule(
            rule="!has(oldSelf.execution) || (has(self.execution) && self.execution >= oldSelf.execution)",
            message="execution (the earlier name of reruns) is lower than it was, but it only goes up; "
            "leave it as it is, and raise reruns above it to run the run once more",
            field="execution",
        ),
        Rule(
            rule="!has(self.parent) || !has(self.parent.key) || self.parent.key != ''",
            message="parent.key is empty; give it at least one character, "
            "or leave it out for a child that its index names",
            field="parent.key",
        ),
        Rule(
            rule="!has(self.rerunRequestedBy) || has(self.parent)",
            message="rerunRequestedBy is set on a run without parent, but it names an attempt of the parent; "
            "leave it out and raise reruns",
            field="rerunRequestedBy",
        ),
    ),
)

POOL = Kind(
    model=WorkerPool,
    short_name="wp",
    max_name=63,  # it is the value of a label on every pod
    columns=(
        Column(name="Ready", type="integer", path=".status.readyReplicas"),
        Column(name="Replicas", type="integer", path=".status.replicas"),
        Column(name="Min", type="integer", path=".spec.minReplicas"),
        Column(name="Max", type="integer", path=".spec.maxReplicas"),
        Column(name="Running", type="integer", path=".status.running"),
        Column(name="Slots", type="integer", path=".status.slots"),
        Column(name="Queued", type="integer", path=".status.queued"),
        Column(name="Oldest", type="date", path=".status.oldestQueuedAt", priority=1),
        Column(name="Available", path=_condition("Available")),
        Column(name="Rollout", path=_condition("RolledOut", field="reason")),
        Column(name="Limited", path=_condition("ScalingLimited", field="reason"), priority=1),
        _AGE,
    ),
    scale={
        "specReplicasPath": ".spec.minReplicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)

KINDS = (WORKFLOW, RUN, POOL)


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
    if kind.rules:
        schema["properties"]["spec"]["x-kubernetes-validations"] = [rule.to_wire() for rule in kind.rules]
    return schema


def structural_schema(model: type[ResourceModel]) -> Json:
    """Return the structural schema of a model.

    Raises:
        TypeError: The model has a field that no structural schema can describe, such as a union of models.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=_Schema)
    return _Structural(schema.pop("$defs", {})).convert(schema, model.__name__)


class _Structural:
    """Converts the schemas of one model and of what it is made of."""

    def __init__(self, definitions: Json) -> None:
        self._definitions = definitions

    def convert(self, schema: Json, path: str) -> Json:
        schema = self._resolve(schema, path)
        result: Json = {}
        for keyword, value in schema.items():
            match keyword:
                case "properties":
                    result[keyword] = {name: self.convert(sub, f"{path}.{name}") for name, sub in value.items()}
                case "items":
                    result[keyword] = self.convert(value, f"{path}[]")
                case "additionalProperties":
                    result[keyword] = self.convert({} if value is True else value, f"{path}{{}}")
                case "const":
                    result["enum"] = [value]
                case "exclusiveMinimum" | "exclusiveMaximum":  # a number in JSON schema, a flag in Kubernetes'
                    result |= {keyword.replace("exclusiveM", "m"): value, keyword: True}
                case "format" if value == "duration":  # ISO 8601 to pydantic, ours is Go's: the pattern says so
                    pass
                case "title" | "default":
                    pass
                case "type" if schema.get("x-kubernetes-int-or-string"):  # rules say in words which of both is taken
                    pass
                case _ if keyword in _KEYWORDS:
                    result[keyword] = value
                case _:
                    raise TypeError(f"{path}: no structural schema has {keyword!r}; give the field another type")
        if "type" not in result and "x-kubernetes-int-or-string" not in result:
            result |= {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}  # null is a value like another
        result |= self._default(schema.get("default"), result)
        return {keyword: result[keyword] for keyword in sorted(result, key=_KEYWORDS.index)}

    def _resolve(self, schema: Json, path: str) -> Json:
        """Follow a reference, and drop null from the alternatives: absent is the one way to say nothing."""
        siblings = dict(schema)
        if reference := siblings.pop("$ref", None):
            return self._resolve(self._definitions[reference.removeprefix("#/$defs/")], path) | siblings
        if alternatives := siblings.pop("anyOf", None):
            choices = [choice for choice in alternatives if choice != {"type": "null"}]
            if choices == _INT_OR_STRING:
                return {"x-kubernetes-int-or-string": True} | siblings
            if len(choices) != 1:
                raise TypeError(f"{path}: a structural schema has no alternatives; give the field one type")
            return self._resolve(choices[0], path) | siblings
        return siblings

    @staticmethod
    def _default(default: object, converted: Json) -> Json:
        properties = converted.get("properties")
        if properties is not None and isinstance(default, dict):
            # Enough to let the API server fill in the defaults of the fields.
            return {"default": {}} if any("default" in field for field in properties.values()) else {}
        return {} if default in (None, "", [], {}) else {"default": default}


# What a structural schema may say, in the order in which people want to read it.
_KEYWORDS = [
    *("description", "type", "format", "enum", "pattern", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "nullable", "default"),
    *(
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ),
    *("x-kubernetes-validations", "required", "properties", "additionalProperties", "items"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the CustomResourceDefinitions, one file for each kind.")
    parser.add_argument("directory", type=Path, help="where to write them")
    write_crds(parser.parse_args().directory)


if __name__ == "__main__":
    main()
