"""What a Workflow may change about the pods of its runs. An allow-list: nothing else of a pod can be set from here."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from hatchet_operator.resources.base import ResourceModel
from hatchet_operator.resources.labels import KEY_FORM, VALUE_FORM, LabelValue, keys_rule

_QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)  # as the CRDs of Kubernetes' own tools have it


def _is_quantity(value: int | str) -> int | str:
    if isinstance(value, str) and not re.search(_QUANTITY, value):
        raise ValueError(
            f'"{value}" is not a quantity; expected a number with or without a unit, as in 2, "500m" or "1Gi"'
        )
    return value


_QUANTITY_RULES = [
    {
        "rule": f"type(self) != string || self.matches(r'{_QUANTITY}')",
        "message": 'is not a quantity; expected a number with or without a unit, as in 2, "500m" or "1Gi"',
    },
    {
        "rule": "type(self) == string ? !self.startsWith('-') : type(self) != int || int(self) >= 0",
        "message": 'is less than nothing; expected 0 or more, as in 2, "500m" or "1Gi"',
    },
]
Quantity = Annotated[
    int | str,
    AfterValidator(_is_quantity),
    Field(json_schema_extra={"maxLength": 64, "x-kubernetes-validations": _QUANTITY_RULES}),
]
"""An amount of a resource: 2, "500m", "1Gi"."""

_TOLERATION_RULES: list[JsonValue] = [
    {
        "rule": f"!has(self.key) || self.key.matches('^({KEY_FORM})?$')",
        "message": 'key cannot be the key of a taint; expected one such as "gpu" or "example.com/gpu"',
        "fieldPath": ".key",
    },
    {
        "rule": f"!has(self.value) || self.value.matches('^{VALUE_FORM}$')",
        "message": 'value cannot be the value of a taint; expected at most 63 letters, digits, "-", "_" and "."',
        "fieldPath": ".value",
    },
    {
        "rule": "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
        "message": "value is set, but operator Exists takes any value; leave one of both out",
        "fieldPath": ".value",
    },
    {
        "rule": "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
        "message": "has no key, which only operator Exists can do without; give it a key, or operator: Exists",
    },
    {
        "rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "message": "tolerationSeconds is set, but only effect NoExecute has it; set effect: NoExecute or leave it out",
        "fieldPath": ".tolerationSeconds",
    },
]

Amounts = Annotated[
    dict[str, Quantity],
    Field(json_schema_extra={"maxProperties": 32, "x-kubernetes-validations": [keys_rule("a resource", "memory")]}),
]


class PodResources(ResourceModel):
    """Resources of the worker's container."""

    requests: Annotated[
        Amounts, Field(description='Resources that the container is guaranteed, as in {"memory": "1Gi"}.')
    ] = {}
    limits: Annotated[Amounts, Field(description="The most that the container may use.")] = {}


class TolerationOperator(StrEnum):
    """How a toleration's key and value are compared with a taint's."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ResourceModel):
    """A taint that does not keep the pod off a node; as in a Pod's spec."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": _TOLERATION_RULES})

    key: Annotated[str | None, Field(description="The taint's key; absent: any.", max_length=317)] = None
    operator: Annotated[TolerationOperator | None, Field(description="Equal (the default) or Exists.")] = None
    value: Annotated[str | None, Field(description="The taint's value.", max_length=63)] = None
    effect: Annotated[TaintEffect | None, Field(description="The taint's effect; absent: any.")] = None
    toleration_seconds: Annotated[
        int | None, Field(ge=0, le=2**53, description="How long NoExecute is tolerated; absent: forever.")
    ] = None


class PodOverrides(ResourceModel):
    """What the pods of a workflow's runs have other than their pool's template."""

    resources: Annotated[
        PodResources | None, Field(description="Resources of the worker's container, instead of the template's.")
    ] = None
    node_selector: Annotated[
        dict[str, LabelValue],
        Field(
            description="Labels that a node must have, in addition to the template's.",
            json_schema_extra={"maxProperties": 32, "x-kubernetes-validations": [keys_rule("a label", "disk")]},
        ),
    ] = {}
    tolerations: Annotated[
        tuple[Toleration, ...],
        Field(description="Taints that are tolerated, in addition to the template's.", max_length=32),
    ] = ()
