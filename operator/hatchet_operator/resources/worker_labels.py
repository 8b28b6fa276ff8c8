"""Labels of workers, what steps desire of them, and which worker a run sticks to. Not the labels of Kubernetes."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from hatchet_operator.resources.base import ResourceModel

LabelValue = int | str
MAX_LABELS = 64
MAX_LABEL_LENGTH = 253
DEFAULT_WEIGHT = 100


class Comparator(StrEnum):
    """How a worker's label is compared with the desired value."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    GREATER_THAN = "GreaterThan"
    GREATER_THAN_OR_EQUAL = "GreaterThanOrEqual"
    LESS_THAN = "LessThan"
    LESS_THAN_OR_EQUAL = "LessThanOrEqual"


_VALUE_RULES: list[JsonValue] = [
    {
        "rule": "!has(self.comparator) || self.comparator in ['Equal', 'NotEqual'] || type(self.value) != string",
        "message": "value is a text, which is not greater or less than another; give a whole number, or comparator: "
        "Equal or NotEqual",
        "fieldPath": ".value",
    },
]


class DesiredLabel(ResourceModel):
    """What a step desires of the workers' label of one key."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": _VALUE_RULES})

    value: Annotated[
        LabelValue,
        Field(
            description="A text or a whole number; 5 is not the text 5.",
            json_schema_extra={"maxLength": MAX_LABEL_LENGTH},
        ),
    ]
    comparator: Annotated[
        Comparator,
        Field(
            description="How the worker's label is compared with it, as in: worker's GreaterThan value. A worker "
            "without the label satisfies only NotEqual."
        ),
    ] = Comparator.EQUAL
    required: Annotated[
        bool, Field(description="No other worker takes the step; false: of those with a free slot it is preferred.")
    ] = False
    weight: Annotated[
        int, Field(ge=-(2**31), le=2**31 - 1, description="How much a worker is preferred for it; weights add up.")
    ] = DEFAULT_WEIGHT


class StickyWorker(ResourceModel):
    """The worker that a run sticks to."""

    id: Annotated[
        str,
        Field(description="The worker's ID, which stays the same for as long as its process lives.", max_length=253),
    ]
    name: Annotated[str | None, Field(description="The worker pod, or worker.", max_length=253)] = None

    @property
    def shown(self) -> str:
        return self.name or self.id


_KEYS = {
    "rule": f"self.all(key, key.matches('[^ \\t\\r\\n]') && key.size() <= {MAX_LABEL_LENGTH})",
    "message": f"has a key that is empty or has more than {MAX_LABEL_LENGTH} characters; expected the key of a "
    "worker's label",
}
DesiredLabels = Annotated[
    dict[str, DesiredLabel],
    Field(json_schema_extra={"maxProperties": MAX_LABELS, "x-kubernetes-validations": [_KEYS]}),
]
"""By the key of the worker's label."""
