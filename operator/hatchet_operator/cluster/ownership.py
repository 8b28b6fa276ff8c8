"""What the operator's own objects go with when it is uninstalled: the ServiceAccount that it acts as.

Not its Service or its Deployment: people make those anew when a field can't be changed, and the keys would go too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

Owner = Mapping[str, Any]
"""An entry of ``metadata.ownerReferences``."""


def read_account(token: str) -> Owner | None:
    """Return the ServiceAccount that our own token is of, which the kubelet gave us; None: it does not say."""
    try:
        account = jwt.decode(token, options={"verify_signature": False})["kubernetes.io"]["serviceaccount"]
        return {"apiVersion": "v1", "kind": "ServiceAccount", "name": account["name"], "uid": account["uid"]}
    except (jwt.InvalidTokenError, KeyError):
        return None


def owners_with(body: Mapping[str, Any], owner: Owner | None) -> list[Owner]:
    """Return an object's owners, ``owner`` among them: it stays as long as one of them does.

    So the Secrets that two releases share in a namespace stay with the second one, and those that are found while the
    garbage collector is about to take them away after an uninstalled release are kept.
    """
    owners = list(_owners_of(body))
    return owners if owner is None or is_owned_by(owner, body) else [*owners, owner]


def is_owned_by(owner: Owner | None, body: Mapping[str, Any]) -> bool:
    """Whether an object goes with ``owner``, if there is one."""
    return owner is None or any(each["uid"] == owner["uid"] for each in _owners_of(body))


def _owners_of(body: Mapping[str, Any]) -> Sequence[Owner]:
    return (body.get("metadata") or {}).get("ownerReferences") or ()
