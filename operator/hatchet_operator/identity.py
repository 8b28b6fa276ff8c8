"""Who calls: a token minted for one pool says namespace and pool.

The token is a JWT, since Hatchet's clients read their server's address out of its claims. It is kept in a Secret, so
it does not expire; deleting the Secret and the operator's key revokes it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import jwt

from hatchet_operator.resources.names import ObjectRef, tenant_id

_ALGORITHM: Final = "HS256"
_ISSUER: Final = "hatchet-operator"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """On whose behalf a call is made."""

    namespace: str
    pool: str

    @property
    def pool_ref(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.pool)


def mint_token(caller: Caller, *, key: str, grpc_address: str) -> str:
    """Make the token of a pool.

    Args:
        caller: The pool.
        key: Secret of the operator.
        grpc_address: "host:port" that clients connect to.
    """
    claims = {
        "iss": _ISSUER,
        "sub": tenant_id(caller.namespace),
        "server_url": f"http://{grpc_address}",
        "grpc_broadcast_address": grpc_address,
        "namespace": caller.namespace,
        "pool": caller.pool,
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


@lru_cache(maxsize=1000)  # every call brings one; ours don't expire, so what was true once stays true
def verify_token(token: str, *, key: str) -> Caller | None:
    """Read a token; None: it is not one of ours."""
    try:
        claims = jwt.decode(token, key, algorithms=[_ALGORITHM], issuer=_ISSUER)
        return Caller(namespace=claims["namespace"], pool=claims["pool"])
    except (jwt.InvalidTokenError, KeyError):
        return None
