"""Whose signature is good, and which event a delivery is. The vectors are those that senders publish."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.webhooks import (
    BadDeliveryError,
    BadSignatureError,
    Delivery,
    WrongSignatureError,
    check_signature,
    delivery_id,
    event_key,
)
from hatchet_operator.resources.webhook_source import WebhookSourceSpec

NOW = datetime.fromtimestamp(1_614_265_330, UTC)
SECRET = b"It's a Secret to Everybody"
BODY = b"Hello, World!"


def make_spec(kind: str = "GitHub", **fields: Any) -> WebhookSourceSpec:
    return WebhookSourceSpec.model_validate({"type": kind, "secretRef": {"name": "secret"}, **fields})


def make_hmac(**fields: Any) -> WebhookSourceSpec:
    return make_spec("HMAC", eventKey="input.kind", hmac={"header": "X-Signature", **fields})


def signed(body: bytes = BODY, secret: bytes = SECRET, algorithm: str = "sha256") -> bytes:
    return hmac.new(secret, body, algorithm).digest()


def stripe(at: int, *signatures: str, secret: bytes = SECRET) -> str:
    made = signatures or (signed(f"{at}.".encode() + BODY, secret).hex(),)
    return ",".join([f"t={at}", *(f"v1={each}" for each in made), "v0=ignored"])


def check(spec: WebhookSourceSpec, secret: Any = SECRET, body: Any = BODY, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    check_signature(spec, secret, Delivery(body=body, headers=named), now=NOW)


def test_github_publishes_an_example() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    check(make_spec(), x_hub_signature_256=signature)


def test_standard_webhooks_publishes_an_example() -> None:
    """https://github.com/standard-webhooks/standard-webhooks, in the tests of its libraries"""
    check(
        make_spec("StandardWebhooks"),
        b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        b'{"test": 2432232314}',
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        webhook_timestamp="1614265330",
        webhook_signature="v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    )


@pytest.mark.parametrize(
    ("spec", "headers"),
    [
        pytest.param(make_spec("Stripe"), {"stripe_signature": stripe(1_614_265_330)}, id="stripe"),
        pytest.param(
            make_spec("Stripe"),
            {"stripe_signature": stripe(1_614_265_330, "0" * 64, signed(b"1614265330." + BODY).hex())},
            id="stripe, while a secret is replaced",
        ),
        pytest.param(make_spec("Stripe"), {"stripe_signature": stripe(1_614_265_030)}, id="stripe, 5 minutes old"),
        pytest.param(
            make_spec("Stripe", tolerance="1h"), {"stripe_signature": stripe(1_614_262_000)}, id="stripe, an hour"
        ),
        pytest.param(make_hmac(), {"x_signature": signed().hex()}, id="hex"),
        pytest.param(make_hmac(prefix="sha256="), {"x_signature": f"sha256={signed().hex()}"}, id="a prefix"),
        pytest.param(
            make_hmac(encoding="Base64", algorithm="SHA512"),
            {"x_signature": base64.b64encode(signed(algorithm="sha512")).decode()},
            id="base64",
        ),
    ],
)
def test_a_good_signature(spec: WebhookSourceSpec, headers: dict[str, str]) -> None:
    check(spec, **headers)


@pytest.mark.parametrize(
    ("spec", "headers", "words"),
    [
        pytest.param(make_spec(), {}, "there is no header X-Hub-Signature-256", id="none"),
        pytest.param(
            make_spec(), {"x_hub_signature_256": signed().hex()}, 'does not begin with "sha256="', id="prefix"
        ),
        pytest.param(make_spec(), {"x_hub_signature_256": "sha256="}, "is not the signature of this body", id="empty"),
        pytest.param(make_spec(), {"x_hub_signature_256": "sha256=é"}, "is not the signature of this body", id="odd"),
        pytest.param(make_spec("Stripe"), {"stripe_signature": "v1=1"}, "is not the signature", id="stripe, no time"),
        pytest.param(
            make_spec("Stripe"), {"stripe_signature": stripe(1_614_265_029)}, "a time 301 s from now", id="stripe, old"
        ),
        pytest.param(
            make_spec("Stripe"), {"stripe_signature": stripe(1_614_265_631)}, "expected at most 5m", id="stripe, ahead"
        ),
        pytest.param(
            make_spec("Stripe"),
            {"stripe_signature": stripe(1_614_265_330, secret=b"x")},
            "is not the signature",
            id="stripe, another secret",
        ),
        pytest.param(
            make_spec("Stripe"),
            {"stripe_signature": f"t=now,v1={signed(b'now.' + BODY).hex()}"},
            "has no time in seconds",
            id="stripe, a word as time",
        ),
        pytest.param(make_spec("StandardWebhooks"), {}, "there is no header webhook-id", id="standard, none"),
        pytest.param(make_hmac(), {"x_signature": signed(b"other").hex()}, "is not the signature", id="another body"),
    ],
)
def test_a_bad_signature(spec: WebhookSourceSpec, headers: dict[str, str], words: str) -> None:
    with pytest.raises(BadSignatureError, match=words):
        check(spec, **headers)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("GitHub", {"x_hub_signature_256": "sha256=\udcff"}),
        ("Stripe", {"stripe_signature": "t=\udcff,v1=a"}),
        ("StandardWebhooks", {"webhook_id": "\udcff", "webhook_timestamp": "\udcfe", "webhook_signature": "v1,a"}),
    ],
)
def test_bytes_that_are_no_text_are_a_wrong_signature(kind: str, headers: dict[str, str]) -> None:
    """Anybody may send them: the server gives such bytes of headers as surrogates."""
    with pytest.raises(WrongSignatureError):
        check(make_spec(kind), b"aaaa", **headers)


def test_what_was_signed_may_be_bytes_that_are_no_text() -> None:
    signature = base64.b64encode(hmac.new(b"i\xa6\x9a", b"\xff.1614265330." + BODY, "sha256").digest()).decode()
    headers = {"webhook_id": "\udcff", "webhook_timestamp": "1614265330", "webhook_signature": f"v1,{signature}"}
    check(make_spec("StandardWebhooks"), b"aaaa", **headers)


def test_a_secret_that_standard_webhooks_can_not_have_is_told() -> None:
    headers = {"webhook_id": "1", "webhook_timestamp": "1614265330", "webhook_signature": "v1,a"}
    with pytest.raises(BadDeliveryError, match="it is not base64"):
        check(make_spec("StandardWebhooks"), b"no base64!", **headers)


@given(body=st.binary(), secret=st.binary(min_size=1), other=st.binary(), said=st.text(max_size=80))
def test_nothing_but_the_signature_of_the_body_is_good(body: bytes, secret: bytes, other: bytes, said: str) -> None:
    good = hmac.new(secret, body, hashlib.sha256).hexdigest()
    check(make_hmac(), secret, body, x_signature=good)
    if other != body:
        with pytest.raises(WrongSignatureError):
            check(make_hmac(), secret, other, x_signature=good)
    if said != good:
        with pytest.raises(WrongSignatureError):
            check(make_hmac(), secret, body, x_signature=said)


@given(late=st.integers(-1000, 1000), tolerance=st.integers(1, 600))
def test_what_was_signed_at_another_time_is_worth_nothing(late: int, tolerance: int) -> None:
    spec = make_spec("Stripe").model_copy(update={"tolerance": timedelta(seconds=tolerance)})
    header = stripe(int(NOW.timestamp()) - late)
    if abs(late) <= tolerance:
        check(spec, stripe_signature=header)
    else:
        with pytest.raises(BadSignatureError, match="from now"):
            check(spec, stripe_signature=header)


@pytest.mark.parametrize(
    ("spec", "headers", "payload", "want"),
    [
        (make_spec(), {"x-github-event": "push", "x-github-delivery": "d1"}, {}, ("github:push", "d1")),
        (make_spec(), {"x-github-event": "push"}, {}, ("github:push", None)),
        (make_spec("Stripe"), {}, {"type": "charge.failed", "id": "evt_1"}, ("stripe:charge.failed", "evt_1")),
        (make_spec("Stripe"), {}, {"type": "charge.failed", "id": 7}, ("stripe:charge.failed", None)),
        (make_spec("StandardWebhooks"), {"webhook-id": "m1"}, {"type": "user.new"}, ("webhook:user.new", "m1")),
        (make_hmac(), {}, {"kind": "sold"}, ("sold", None)),
        (make_hmac(idHeader="X-Id"), {"x-id": "7"}, {"kind": "sold"}, ("sold", "7")),
        (make_spec(eventKey="'repo:' + input.name"), {}, {"name": "etl"}, ("repo:etl", None)),
    ],
)
def test_which_event_a_delivery_is(
    spec: WebhookSourceSpec, headers: dict[str, str], payload: dict[str, Any], want: tuple[str, str | None]
) -> None:
    delivery = Delivery(body=b"", headers=headers)
    assert (event_key(spec, delivery, payload), delivery_id(spec, delivery, payload)) == want


@pytest.mark.parametrize(
    ("spec", "payload", "words"),
    [
        pytest.param(make_spec(), {}, "can't be evaluated for this delivery", id="no such header"),
        pytest.param(make_hmac(), {"kind": ""}, "yields an empty text", id="empty"),
        pytest.param(make_hmac(), {"kind": ["a"]}, "yields a list from this delivery's input", id="a list"),
    ],
)
def test_a_delivery_that_is_no_event(spec: WebhookSourceSpec, payload: dict[str, Any], words: str) -> None:
    with pytest.raises(BadDeliveryError, match=words):
        event_key(spec, Delivery(body=b"", headers={}), payload)
