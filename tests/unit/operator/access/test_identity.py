"""What tokens say, and who is taken at their word."""

import base64
import json
import time
import uuid
from typing import Any

import jwt
import pytest

from hatchet_operator.access.identity import (
    Caller,
    PodIdentity,
    cut_claim,
    expiry_of,
    mint_token,
    read_pod_identity,
    verify_token,
)

KEY = "a-key-for-tests-" * 4
MAIN = Caller(namespace="shop", pool="main")
USER: dict[str, Any] = {
    "username": "system:serviceaccount:shop:worker",
    "extra": {"authentication.kubernetes.io/pod-name": ["a"], "authentication.kubernetes.io/pod-uid": ["uid-a"]},
}


def make_token(key: str = KEY, **claims: object) -> str:
    return jwt.encode({"iss": "hatchet-operator", "namespace": "shop", "pool": "main", **claims}, key)


def test_a_minted_token_tells_its_pool() -> None:
    assert verify_token(mint_token(MAIN, key=KEY, grpc_address="a:1"), key=KEY) == MAIN


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param("garbage", id="garbage"),
        pytest.param(make_token("another-key-for-tests-" * 4), id="signed with another key"),
        pytest.param(make_token(iss="somebody"), id="of another issuer"),
        pytest.param(make_token(exp=time.time() - 60), id="expired"),
        pytest.param(jwt.encode({"iss": "hatchet-operator", "pool": "main"}, KEY), id="without a namespace"),
        pytest.param(make_token().rpartition(".")[0] + ".", id="without a signature"),
        pytest.param(
            jwt.encode({"iss": "hatchet-operator", "namespace": "shop", "pool": "main"}, "", algorithm="none"),
            id="signed by nobody",
        ),
    ],
)
def test_no_other_token_is_ours(token: str) -> None:
    assert verify_token(token, key=KEY) is None


@pytest.mark.parametrize(
    ("suffix", "want"),
    [
        pytest.param("", None, id="no Pod"),
        pytest.param("~", None, id="a variable that was empty"),
        pytest.param("~uid-a", "uid-a", id="a Pod"),
        pytest.param("~uid~a", "uid~a", id="what is no UID, but no other token either"),
    ],
)
def test_beside_the_token_stands(suffix: str, want: str | None) -> None:
    token = mint_token(MAIN, key=KEY, grpc_address="a:1")
    assert cut_claim(token + suffix) == (token, want)


def test_published_clients_can_read_a_token_with_a_claim() -> None:
    """They want three parts between dots, of which they read the second; since 1.0, also that it begins with "ey"."""
    token = mint_token(MAIN, key=KEY, grpc_address="a:1") + "~5f1c9d6e-0000-4000-8000-1234567890ab"
    _header, claims, _rest = token.split(".")
    assert token.startswith("ey")
    assert json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["grpc_broadcast_address"] == "a:1"


def test_what_published_clients_read_in_a_token() -> None:
    """Those in Go panic without an end; what belongs to a REST API fails with words in its address."""
    claims = jwt.decode(mint_token(MAIN, key=KEY, grpc_address="a:1"), KEY, algorithms=["HS256"])
    assert claims["exp"] > time.time() + 50 * 365 * 86_400
    assert claims["server_url"] == "https://hatchet-operator-has-no-rest-api.invalid"
    assert uuid.UUID(claims["sub"])
    assert mint_token(MAIN, key=KEY, grpc_address="a:1") == mint_token(MAIN, key=KEY, grpc_address="a:1")


@pytest.mark.parametrize(
    ("token", "want"),
    [
        pytest.param(make_token(exp=1234), 1234.0, id="a token that ends"),
        pytest.param(make_token(), None, id="one that does not"),
        pytest.param("random-text", None, id="one that is no JWT"),
        pytest.param(make_token(exp="soon"), None, id="one that makes no sense"),
    ],
)
def test_a_token_tells_when_it_ends(token: str, want: float | None) -> None:
    assert expiry_of(token) == want


def test_a_pods_token_tells_the_pod() -> None:
    assert read_pod_identity(USER) == PodIdentity(namespace="shop", name="a", uid="uid-a")


@pytest.mark.parametrize(
    "user",
    [
        pytest.param({}, id="nobody"),
        pytest.param({"username": "alice"}, id="a person"),
        pytest.param({**USER, "username": "system:node:a"}, id="a node that claims a pod"),
        pytest.param({**USER, "username": "system:serviceaccount:shop"}, id="half a name"),
        pytest.param({"username": USER["username"]}, id="an account without a pod"),
        pytest.param({**USER, "extra": {"authentication.kubernetes.io/pod-name": ["a"]}}, id="a pod without a UID"),
    ],
)
def test_nobody_else_is_a_pod(user: dict[str, Any]) -> None:
    assert read_pod_identity(user) is None
