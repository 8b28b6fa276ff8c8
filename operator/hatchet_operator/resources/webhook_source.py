"""WebhookSource: who sends webhooks to a namespace, how they are signed, and which events they become."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from hatchet_operator.resources.base import Conditions, ObjectMeta, ResourceModel
from hatchet_operator.resources.durations import PositiveDuration
from hatchet_operator.resources.reasons import DigestEncoding, HmacAlgorithm, WebhookType

_SECRET_NAME = {
    "rule": "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
    "message": 'cannot be the name of a Secret, which has lower-case letters, digits, "-" and "."',
}
_SECRET_KEY = {
    "rule": "self.matches('^[-._a-zA-Z0-9]+$')",
    "message": 'cannot be the key of a Secret, which has letters, digits, "-", "_" and "."',
}
_HEADER = {
    "rule": "self.matches('^[-_a-zA-Z0-9]+$')",
    "message": 'cannot be the name of a header; expected letters, digits and "-", as in X-Signature',
}
HeaderName = Annotated[
    str, Field(max_length=128, min_length=1, json_schema_extra={"x-kubernetes-validations": [_HEADER]})
]


class SecretKeyRef(ResourceModel):
    """A key of a Secret in the namespace."""

    name: Annotated[
        str,
        Field(
            description="Name of the Secret.",
            max_length=253,
            min_length=1,
            json_schema_extra={"x-kubernetes-validations": [_SECRET_NAME]},
        ),
    ]
    key: Annotated[
        str,
        Field(
            description="Its key.",
            max_length=253,
            min_length=1,
            json_schema_extra={"x-kubernetes-validations": [_SECRET_KEY]},
        ),
    ] = "secret"


class HmacSignature(ResourceModel):
    """How a sender of type HMAC signs: the body, with the secret."""

    header: Annotated[HeaderName, Field(description="The header that carries the signature, as in X-Signature.")]
    prefix: Annotated[
        str, Field(description='Prefix of the signature in the header, as in "sha256=".', max_length=64)
    ] = ""
    algorithm: Annotated[HmacAlgorithm, Field(description="Hash function of the HMAC.")] = HmacAlgorithm.SHA256
    encoding: Annotated[DigestEncoding, Field(description="Encoding of the signature.")] = DigestEncoding.HEX
    id_header: Annotated[
        HeaderName | None,
        Field(
            description="The header that says which delivery it is, so that one that is sent again starts nothing "
            "again; absent: each is another."
        ),
    ] = None


class WebhookSourceSpec(ResourceModel):
    """What a person says of a sender."""

    type: Annotated[
        WebhookType,
        Field(
            description="How it signs. GitHub: X-Hub-Signature-256. Stripe: Stripe-Signature. StandardWebhooks: "
            "webhook-signature, of standardwebhooks.com. HMAC: as hmac says."
        ),
    ]
    secret_ref: Annotated[SecretKeyRef, Field(description="The signing secret.")]
    event_key: Annotated[
        str | None,
        Field(
            description="CEL over `input` (the body) and `headers` (by names in lower case) that makes the key of the "
            "event, as in 'shop:' + input.kind. Absent: 'github:' and X-GitHub-Event, 'stripe:' and input.type, "
            "'webhook:' and input.type; HMAC requires one. Macros that loop are not allowed.",
            max_length=1024,
            min_length=1,
        ),
    ] = None
    hmac: Annotated[HmacSignature | None, Field(description="How deliveries of type HMAC are signed.")] = None
    tolerance: Annotated[
        PositiveDuration,
        Field(
            description="How far from now the time may be that a sender signs with (Stripe, StandardWebhooks): what "
            "somebody intercepted is useless later."
        ),
    ] = timedelta(minutes=5)


class WebhookSourceStatus(ResourceModel):
    """What the operator says of a sender."""

    path: Annotated[
        str | None,
        Field(description="Path that the sender posts to, at the operator's port for events.", max_length=512),
    ] = None
    conditions: Annotated[Conditions, Field(description="Ready, Valid, SecretFound, Listening and Stalled.")] = ()
    observed_generation: Annotated[int | None, Field(description="metadata.generation that this status describes.")] = (
        None
    )


class WebhookSource(ResourceModel):
    """A sender of webhooks: each delivery with a valid signature is an event in this namespace."""

    metadata: ObjectMeta
    spec: Annotated[
        WebhookSourceSpec, Field(description="Desired state: how deliveries are signed, and which event each one is.")
    ]
    status: Annotated[WebhookSourceStatus, Field(description="Observed state: whether deliveries are accepted.")] = (
        WebhookSourceStatus()
    )
