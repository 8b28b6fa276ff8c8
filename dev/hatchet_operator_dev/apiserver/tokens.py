"""Tokens of service accounts: TokenRequest issues them, TokenReview recognises them, as the kubelet and our operator
use both.

A token is bound to its audiences, its expiry and, if asked for, to a pod: when that pod is gone, so is the token.
They are random text kept in memory, not JWTs; nothing outside this server could check a signature anyway.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.metadata import timestamp
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.store import Store, Stored

DEFAULT_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
_DEFAULT_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    account_uid: str
    user: Object
    audiences: tuple[str, ...]
    expires: float
    bound_uid: str


class ServiceAccountTokens:
    """The tokens issued by one server."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._issued: dict[str, _Issued] = {}

    def issue(self, account: Stored, request: Object) -> Object:
        """Answer a TokenRequest for a service account: the request with its status filled in."""
        spec = request.get("spec") or {}
        metadata = account.obj["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        bound = spec.get("boundObjectRef") or {}
        user: Object = {
            "username": f"system:serviceaccount:{namespace}:{name}",
            "uid": metadata["uid"],
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
        }
        bound_uid = ""
        if bound.get("kind") == "Pod":
            bound_uid = self._uid_of_pod(namespace, bound)
            user["extra"] = {
                "authentication.kubernetes.io/pod-name": [bound["name"]],
                "authentication.kubernetes.io/pod-uid": [bound_uid],
            }
        seconds = int(spec.get("expirationSeconds") or _DEFAULT_SECONDS)
        token = secrets.token_urlsafe(32)
        self._issued[token] = _Issued(
            account_uid=metadata["uid"],
            user=user,
            audiences=tuple(spec.get("audiences") or (DEFAULT_AUDIENCE,)),
            expires=time.monotonic() + seconds,
            bound_uid=bound_uid,
        )
        return {
            **request,
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": timestamp()},
            "spec": {**spec, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": timestamp(seconds)},
        }

    def _uid_of_pod(self, namespace: str, bound: Object) -> str:
        name, uid = bound.get("name", ""), bound.get("uid")
        pod = self._store.collection("pods").find(namespace, name)
        if pod is None:
            raise status.not_found("", "pods", name)
        if uid and uid != pod.uid:
            why = f"the UID in the bound object reference ({uid}) does not match the UID in record ({pod.uid})"
            raise status.conflict("", "pods", name, why)
        return pod.uid

    def authenticate(self, token: str, audiences: list[str]) -> Mapping[str, Any] | None:
        """Return the user of a token that is valid now for one of the audiences, or ``None``."""
        issued = self._issued.get(token)
        if issued is None:
            return None
        gone = any(uid and self._store.by_uid(uid) is None for uid in (issued.account_uid, issued.bound_uid))
        if gone or time.monotonic() >= issued.expires:
            del self._issued[token]
            return None
        return issued.user if set(audiences or (DEFAULT_AUDIENCE,)) & set(issued.audiences) else None
