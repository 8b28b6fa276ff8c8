"""Deliveries of webhooks: whether their signature is valid, and which event a delivery stands for.

Everything comes in as a value: the body as bytes, since those are what was signed, and headers by their names in lower
case. Signatures are compared in constant time.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchet_operator.decisions.expressions import EVENT_KEY, UnusableKeyError, key_made
from hatchet_operator.durations import format_duration
from hatchet_operator.resources.reasons import DigestEncoding, HmacAlgorithm, WebhookType
from hatchet_operator.resources.webhook_source import HmacSignature, WebhookSourceSpec

_HASHES = {HmacAlgorithm.SHA256: hashlib.sha256, HmacAlgorithm.SHA512: hashlib.sha512}
_STANDARD_SECRET = b"whsec_"
_DEFAULT_KEYS = {
    WebhookType.GITHUB: "'github:' + headers['x-github-event']",
    WebhookType.STRIPE: "'stripe:' + input.type",
    WebhookType.STANDARD: "'webhook:' + input.type",
}


class BadSignatureError(ValueError):
    """Nothing proves that a delivery comes from its sender; the message says why."""


class WrongSignatureError(BadSignatureError):
    """The delivery was signed with another secret, or is not what was signed."""


class BadDeliveryError(ValueError):
    """A delivery comes from its sender, but makes no event; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One request of a sender. If a header occurs several times, its values are joined as HTTP says."""

    body: bytes
    headers: Mapping[str, str]


def check_signature(spec: WebhookSourceSpec, secret: bytes, delivery: Delivery, *, now: datetime) -> None:
    """Return if a delivery was signed with the secret.

    Raises:
        BadSignatureError: It was not, or too long ago.
    """
    match spec.type:
        case WebhookType.GITHUB:
            # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
            _check_hmac(HmacSignature(header="X-Hub-Signature-256", prefix="sha256="), secret, delivery)
        case WebhookType.STRIPE:
            _check_stripe(secret, delivery, now=now, tolerance=spec.tolerance)
        case WebhookType.STANDARD:
            _check_standard(secret, delivery, now=now, tolerance=spec.tolerance)
        case WebhookType.HMAC:
            assert spec.hmac is not None, "the CRD says so"
            _check_hmac(spec.hmac, secret, delivery)


def _check_hmac(scheme: HmacSignature, secret: bytes, delivery: Delivery) -> None:
    said = _header(delivery, scheme.header)
    if not said.startswith(scheme.prefix):
        raise BadSignatureError(f'{scheme.header} does not begin with "{scheme.prefix}"')
    made = hmac.new(secret, delivery.body, _HASHES[scheme.algorithm]).digest()
    want = made.hex() if scheme.encoding is DigestEncoding.HEX else base64.b64encode(made).decode()
    _check_one_of([said.removeprefix(scheme.prefix)], want, scheme.header)


def _check_stripe(secret: bytes, delivery: Delivery, *, now: datetime, tolerance: timedelta) -> None:
    """Check as Stripe signs: ``t=1492774577,v1=5257a…,v1=…``, of "<t>.<body>" (docs.stripe.com/webhooks/signature)."""
    header = "Stripe-Signature"
    parts = [part.strip().partition("=") for part in _header(delivery, header).split(",")]
    at = next((value for name, _, value in parts if name == "t"), "")
    want = hmac.new(secret, _as_sent(at) + b"." + delivery.body, hashlib.sha256).hexdigest()
    _check_one_of((value for name, _, value in parts if name == "v1"), want, header)
    _check_time(at, header, now=now, tolerance=tolerance)


def _check_standard(secret: bytes, delivery: Delivery, *, now: datetime, tolerance: timedelta) -> None:
    """Check a signature of Standard Webhooks: ``v1,<base64> v1,…``, of "<id>.<time>.<body>" (standardwebhooks.com)."""
    header, time_header = "webhook-signature", "webhook-timestamp"
    name, at = _header(delivery, "webhook-id"), _header(delivery, time_header)
    try:
        key = base64.b64decode(secret.removeprefix(_STANDARD_SECRET), validate=True)
    except binascii.Error as error:
        raise BadDeliveryError("the secret of the source is not one of Standard Webhooks: it is not base64") from error
    made = hmac.new(key, _as_sent(f"{name}.{at}.") + delivery.body, hashlib.sha256).digest()
    said = (one.removeprefix("v1,") for one in _header(delivery, header).split() if one.startswith("v1,"))
    _check_one_of(said, base64.b64encode(made).decode(), header)
    _check_time(at, time_header, now=now, tolerance=tolerance)


def _check_one_of(said: Iterable[str], want: str, header: str) -> None:
    # As bytes: compare_digest only accepts ASCII text, and a header may contain any.
    found = [hmac.compare_digest(_as_sent(one), want.encode()) for one in said]
    if not any(found):
        raise WrongSignatureError(f"{header} is not the signature of this body with the secret of the source")


def _as_sent(value: str) -> bytes:
    """Return the bytes of a header's value: those that are not UTF-8 are surrogates in the text."""
    return value.encode("utf-8", "surrogateescape")


def _check_time(text: str, header: str, *, now: datetime, tolerance: timedelta) -> None:
    """Refuse what was signed too long ago, or in the future: an eavesdropper must not send it again later."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):  # enough for 30,000 years
        raise BadSignatureError(f"{header} has no time in seconds since 1970")
    apart = abs(now.timestamp() - int(text))
    if apart > tolerance.total_seconds():
        raise BadSignatureError(
            f"{header} has a time {apart:.0f} s from now ({now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}); "
            f"expected at most {format_duration(tolerance)}: sign it again and resend it, and check the clocks"
        )


def _header(delivery: Delivery, name: str) -> str:
    value = delivery.headers.get(name.lower())
    if value is None:
        raise BadSignatureError(f"there is no header {name}, which has the signature of what this source sends")
    return value


def event_key(spec: WebhookSourceSpec, delivery: Delivery, payload: dict[str, Any]) -> str:
    """Return the key of the event that a delivery stands for.

    Raises:
        BadDeliveryError: The expression yields no key.
    """
    expression = spec.event_key or _DEFAULT_KEYS[spec.type]
    try:
        key = key_made(expression, EVENT_KEY, {"input": payload, "headers": dict(delivery.headers)})
    except UnusableKeyError as error:
        raise BadDeliveryError(str(error)) from error
    if not key:
        raise BadDeliveryError(f"the eventKey {expression!r} yields an empty text of this delivery")
    return key


def delivery_id(spec: WebhookSourceSpec, delivery: Delivery, payload: dict[str, Any]) -> str | None:
    """Return the delivery's id, the same if it is sent again; None: its sender gives none."""
    match spec.type:
        case WebhookType.GITHUB:
            return delivery.headers.get("x-github-delivery")
        case WebhookType.STRIPE:
            said = payload.get("id")
            return said if isinstance(said, str) else None
        case WebhookType.STANDARD:
            return delivery.headers.get("webhook-id")
        case WebhookType.HMAC:
            assert spec.hmac is not None, "the CRD says so"
            return delivery.headers.get(spec.hmac.id_header.lower()) if spec.hmac.id_header else None
