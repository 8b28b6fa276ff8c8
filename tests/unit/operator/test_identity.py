"""What tokens say, and who is taken at their word."""

import time
from typing import Any

import jwt
import pytest

from hatchet_operator.identity import Caller, PodIdentity, expiry_of, mint_token, read_pod_identity, verify_token

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
    ("secure", "want"), [pytest.param(False, "http://a:1", id="plain"), pytest.param(True, "https://a:1", id="TLS")]
)
def test_clients_read_the_address_out_of_the_token(secure: bool, want: str) -> None:
    claims = jwt.decode(mint_token(MAIN, key=KEY, grpc_address="a:1", secure=secure), KEY, algorithms=["HS256"])
    assert (claims["server_url"], claims["grpc_broadcast_address"]) == (want, "a:1")


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
