"""The owner with which the operator's own objects are deleted when it is uninstalled: its ServiceAccount.

Not its Service or Deployment: people recreate those when a field can't be changed, which would delete the keys too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

Owner = Mapping[str, Any]
"""An entry of ``metadata.ownerReferences``."""


def read_account(token: str) -> Owner | None:
    """Return the ServiceAccount of our own token, which the kubelet gave us; None: it does not say."""
    try:
        account = jwt.decode(token, options={"verify_signature": False})["kubernetes.io"]["serviceaccount"]
        return {"apiVersion": "v1", "kind": "ServiceAccount", "name": account["name"], "uid": account["uid"]}
    except (jwt.InvalidTokenError, KeyError):
        return None


def owners_with(body: Mapping[str, Any], owner: Owner | None) -> list[Owner]:
    """Return an object's owners, ``owner`` among them: it stays as long as one of them does.

    So Secrets that two releases in a namespace share remain with the second one, and those that the garbage collector
    is about to delete after a release was uninstalled are kept.
    """
    owners = list(_owners_of(body))
    return owners if owner is None or is_owned_by(owner, body) else [*owners, owner]


def is_owned_by(owner: Owner | None, body: Mapping[str, Any]) -> bool:
    """Whether an object is owned by ``owner``, if there is one."""
    return owner is None or any(each["uid"] == owner["uid"] for each in _owners_of(body))


def _owners_of(body: Mapping[str, Any]) -> Sequence[Owner]:
    return (body.get("metadata") or {}).get("ownerReferences") or ()
