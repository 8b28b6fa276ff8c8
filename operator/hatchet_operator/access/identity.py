"""Callers: a Pod, by its service-account token, or any client with the token minted for a pool.

A pool's token is a JWT, since Hatchet's clients read their server's address from its claims. It is kept in a Secret,
and is the same whenever it is minted, so it expires on a fixed, very late day: clients in Go require an expiry, and an
earlier one would need a renewal that no running client reads. Deleting the Secret and the operator's key revokes it.
A Pod's token is verified by the API server (`access.callers`); this module only reads what it says.

    <JWT of the pool>~<UID of the Pod>      HATCHET_CLIENT_TOKEN in a pool's pods

Published clients say nothing about their Pod, but send the token back, and read only what is between its two dots. The
UID is an unsigned claim, like the one in ``Register``: it only says which of the pool's pods calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from hatchet_operator.resources.names import ObjectRef, tenant_id

_ALGORITHM: Final = "HS256"
_ISSUER: Final = "hatchet-operator"
_NEVER: Final = 4_102_444_800  # 2100-01-01
NO_REST_API: Final = "https://hatchet-operator-has-no-rest-api.invalid"
"""Where clients send calls of Hatchet's REST API if it is not served: the error that they show contains this name
(RFC 6761)."""
_CLAIM: Final = "~"  # occurs in no JWT, and is not a dot
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """On whose behalf a call is made.

    Attributes:
        namespace: Where it may act.
        pool: The pool whose attempts it may have.
        pod_name: The Pod that it is; None: it has the pool's token, and may act for all of the pool.
        pod_uid: Set together with ``pod_name``.
        claimed_pod_uid: The Pod that it claims to be in, with the pool's token; this does not change what it may do.
        takes_names: Whether it gets names of runs, as our SDK wants, or their UIDs; set by each call.
        takes_references: Whether it reads payloads from their store itself; set by each call.
        takes_many: Whether it takes several messages of a stream in one; set by each call.
    """

    namespace: str
    pool: str
    pod_name: str | None = None
    pod_uid: str | None = None
    claimed_pod_uid: str | None = None
    takes_names: bool = field(default=False, compare=False)
    takes_references: bool = field(default=False, compare=False)
    takes_many: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f'Pod "{self.pod_name}" of pool "{self.pool}"' if self.pod_uid else f'pool "{self.pool}"'

    @property
    def pool_ref(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.pool)


@dataclass(frozen=True, kw_only=True, slots=True)
class PodIdentity:
    """What a service-account token says about the Pod that it was issued for."""

    namespace: str
    name: str
    uid: str


def mint_token(caller: Caller, *, key: str, grpc_address: str, rest_url: str = NO_REST_API) -> str:
    """Mint the token of a pool.

    Args:
        caller: The pool.
        key: The operator's secret key.
        grpc_address: "host:port" that clients connect to.
        rest_url: Where Hatchet's clients find the REST API.
    """
    claims = {
        "iss": _ISSUER,
        "sub": tenant_id(caller.namespace),
        "exp": _NEVER,
        "server_url": rest_url,
        "grpc_broadcast_address": grpc_address,
        "namespace": caller.namespace,
        "pool": caller.pool,
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def cut_claim(token: str) -> tuple[str, str | None]:
    """Return the signed part of a token, and the UID of the Pod that the caller claims to be in."""
    signed, _, pod_uid = token.partition(_CLAIM)
    return signed, pod_uid or None


def verify_token(token: str, *, key: str) -> Caller | None:
    """Read a token; None: it is not one of ours."""
    try:
        claims = jwt.decode(token, key, algorithms=[_ALGORITHM], issuer=_ISSUER)
        return Caller(namespace=claims["namespace"], pool=claims["pool"])
    except (jwt.InvalidTokenError, KeyError):
        return None


def expiry_of(token: str) -> float | None:
    """Return when an already verified token expires, in seconds since the epoch; None: it does not say."""
    try:
        expiry = jwt.decode(token, options={"verify_signature": False}).get("exp")
    except jwt.InvalidTokenError:
        return None
    return float(expiry) if isinstance(expiry, int | float) else None


def read_pod_identity(user: Mapping[str, Any]) -> PodIdentity | None:
    """Read the ``status.user`` of a TokenReview; None: the token was not issued for a Pod."""
    username: str = user.get("username") or ""
    extra: Mapping[str, list[str]] = user.get("extra") or {}
    names, uids = extra.get(_POD_NAME), extra.get(_POD_UID)
    namespace, colon, _account = username.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if not (username.startswith(_SERVICE_ACCOUNT) and colon and names and uids):
        return None
    return PodIdentity(namespace=namespace, name=names[0], uid=uids[0])
