"""WorkerPool: pods of one template that the operator keeps running for the workflows that their code registers."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from hatchet_operator.resources.base import Conditions, ObjectMeta, ResourceModel, Time
from hatchet_operator.resources.durations import Duration
from hatchet_operator.resources.labels import LabelValue, keys_rule


def _has_containers(spec: dict[str, Any]) -> dict[str, Any]:
    if not spec.get("containers"):
        raise ValueError("a pod needs at least one container; the first one is the worker")
    return spec


PodSpec = Annotated[
    dict[str, Any],
    AfterValidator(_has_containers),
    WithJsonSchema(
        {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": {
                    "description": "The pod's containers; the first one is the worker.",
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                }
            },
            "x-kubernetes-preserve-unknown-fields": True,
        }
    ),
]
"""The spec of a Pod, of which only this much is known here; the API server judges the rest when a pod is made."""


class TemplateMeta(ResourceModel):
    """Labels and annotations for the pool's pods."""

    labels: Annotated[
        dict[str, LabelValue],
        Field(
            description="Labels for the pods.",
            json_schema_extra={"maxProperties": 64, "x-kubernetes-validations": [keys_rule("a label", "team")]},
        ),
    ] = {}
    annotations: Annotated[
        dict[str, str],
        Field(
            description="Annotations for the pods.",
            json_schema_extra={"maxProperties": 128, "x-kubernetes-validations": [keys_rule("an annotation", "team")]},
        ),
    ] = {}


class PodTemplate(ResourceModel):
    """What the pods of the pool are made from."""

    metadata: Annotated[TemplateMeta, Field(description="Labels and annotations for the pods.")] = TemplateMeta()
    spec: Annotated[PodSpec, Field(description="A Pod's spec; the first container is the worker.")]


class PoolSpec(ResourceModel):
    """Desired state of the pool."""

    template: Annotated[PodTemplate, Field(description="Template of the pods.")]
    slots: Annotated[
        int | None,
        Field(
            ge=1, le=10000, description="Attempts that one pod runs at a time; absent: as many as its worker asks for."
        ),
    ] = None
    min_replicas: Annotated[
        int,
        Field(
            ge=0, le=1000, description="The least number of pods, whether there is work or not; at most maxReplicas."
        ),
    ] = 1
    max_replicas: Annotated[
        int | None, Field(ge=0, le=1000, description="The greatest number of pods under load; absent: minReplicas.")
    ] = None
    idle_before_scale_in: Annotated[
        Duration, Field(description="How long a surplus pod must be idle before it is removed.")
    ] = timedelta(minutes=1)
    drain_timeout: Annotated[
        Duration, Field(description="How long a pod that is being removed has to finish its attempts.")
    ] = timedelta(minutes=5)

    @property
    def largest(self) -> int:
        return self.min_replicas if self.max_replicas is None else self.max_replicas

    @property
    def smallest(self) -> int:
        """How many pods are kept: the scale subresource sets minReplicas, and whoever does that sees no maximum."""
        return min(self.min_replicas, self.largest)


class PoolStatus(ResourceModel):
    """Observed state of the pool."""

    replicas: Annotated[int, Field(ge=0, description="Number of pods.")] = 0
    desired_replicas: Annotated[
        int, Field(ge=0, description="Number of pods that the work needs, within minReplicas and maxReplicas.")
    ] = 0
    ready_replicas: Annotated[int, Field(ge=0, description="Number of pods whose worker is connected.")] = 0
    queued: Annotated[
        int,
        Field(
            ge=0,
            description="Number of attempts that wait for a slot or a worker that offers them, as of the last look.",
        ),
    ] = 0
    running: Annotated[int, Field(ge=0, description="Number of attempts that workers run, as of the last look.")] = 0
    slots: Annotated[int, Field(ge=0, description="Total slots of the connected workers.")] = 0
    oldest_queued_at: Annotated[Time | None, Field(description="Since when the oldest waiting attempt has waited.")] = (
        None
    )
    selector: Annotated[
        str, Field(description="Label selector of the pods, for the scale subresource.", max_length=253)
    ] = ""
    conditions: Annotated[
        Conditions, Field(description="Ready, Available, RolledOut, Valid, Stalled and Reconciling.")
    ] = ()
    observed_generation: Annotated[int | None, Field(description="metadata.generation that this status describes.")] = (
        None
    )


class WorkerPool(ResourceModel):
    """Pods of one template that the operator keeps running and whose workers run attempts."""

    metadata: ObjectMeta
    spec: Annotated[PoolSpec, Field(description="Desired state of the pool.")]
    status: Annotated[PoolStatus, Field(description="Observed state of the pool.")] = PoolStatus()
