"""What every part of a resource has in common: camelCase on the wire, immutable in memory."""

from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

GROUP = "hatchet-operator.dev"
VERSION = "v1alpha1"
RECORDED_VERSION = "v1alpha1-recorded"
API_VERSION = f"{GROUP}/{VERSION}"

Json = dict[str, Any]
"""An object of the Kubernetes API, or a part of one, as it travels."""


class ResourceModel(BaseModel):
    """A part of a resource. Field descriptions are the CRD's; unknown fields are dropped, as the API server does."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", use_attribute_docstrings=False
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form with absent fields left out; null is never written."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _with_zone(value: datetime) -> datetime:
    # A naive time would compare with none of ours.
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _format_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Time = Annotated[
    datetime,
    AfterValidator(_with_zone),
    PlainSerializer(_format_time, return_type=str, when_used="json"),
    Field(json_schema_extra={"type": "string", "format": "date-time"}),
]
"""A point in time, RFC 3339 in UTC with microseconds (a Kubernetes MicroTime)."""


class OwnerReference(ResourceModel):
    """Which object owns another."""

    uid: str
    controller: bool = False


class ObjectMeta(ResourceModel):
    """What we read of an object's metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Named(Protocol):
    """An object of one of our kinds; its class is named after the kind."""

    @property
    def metadata(self) -> ObjectMeta: ...


def owner_reference(owner: Named) -> dict[str, Any]:
    """Return the entry of ``ownerReferences`` for what goes with ``owner``, and does not keep it from going."""
    return {
        "apiVersion": API_VERSION,
        "kind": type(owner).__name__,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
    }


class Condition(ResourceModel):
    """One aspect of an object's state, in the form that `kubectl wait` and `kubectl describe` know."""

    type: Annotated[str, Field(description="Type of the condition, in PascalCase.", max_length=63)]
    status: Annotated[
        str, Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    ]
    reason: Annotated[str, Field(description="Reason for the status, as one PascalCase word.", max_length=63)] = ""
    message: Annotated[str, Field(description="Explanation of the status, as a sentence.", max_length=32768)] = ""
    last_transition_time: Annotated[Time | None, Field(description="When the status last changed.")] = None
    observed_generation: Annotated[
        int | None, Field(description="metadata.generation that the condition was set for.")
    ] = None


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
"""At most one condition of each type."""
