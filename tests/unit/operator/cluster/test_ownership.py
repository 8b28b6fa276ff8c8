from __future__ import annotations

from typing import Any

import jwt
import pytest

from hatchet_operator.cluster.ownership import is_owned_by, owners_with, read_account

OURS = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "hatchet-operator", "uid": "ours"}
OTHER = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "hatchet-operator", "uid": "of an earlier release"}


def make_token(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "a-key-for-tests-" * 2)


@pytest.mark.parametrize(
    ("token", "want"),
    [
        pytest.param(
            make_token(
                {"kubernetes.io": {"namespace": "ops", "serviceaccount": {"name": OURS["name"], "uid": "ours"}}}
            ),
            OURS,
            id="that of a Pod",
        ),
        pytest.param(make_token({"sub": "alice"}), None, id="another issuer's"),
        pytest.param("opaque", None, id="no JWT"),
    ],
)
def test_the_account_of_a_token(token: str, want: object) -> None:
    assert read_account(token) == want


@pytest.mark.parametrize(
    ("before", "owner", "want"),
    [
        pytest.param([], OURS, [OURS], id="the first one"),
        pytest.param([OTHER], OURS, [OTHER, OURS], id="it stays for the second one"),
        pytest.param([OURS], OURS, [OURS], id="nothing twice"),
        pytest.param([OTHER], None, [OTHER], id="who has no account changes nothing"),
    ],
)
def test_owners_are_added_and_never_taken_away(before: list[object], owner: Any, want: list[object]) -> None:
    body = {"metadata": {"ownerReferences": before}}
    assert owners_with(body, owner) == want
    assert is_owned_by(owner, body) == (before == want)
    assert is_owned_by(owner, {"metadata": {"ownerReferences": want}})
