"""Ask the API server whose a bearer token is."""

from dataclasses import dataclass, field

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import TOKEN_REVIEWS
from hatchet_operator.resources.base import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenVerdict:
    """What the API server says about a token.

    Attributes:
        user: Its user; None: it is not valid here.
        error: Why not, in the server's words.
    """

    user: Json | None = None
    error: str = field(default="")


async def review_token(api: Api, token: str, *, audience: str) -> TokenVerdict:
    """Have a token reviewed.

    Raises:
        ApiError: There was no verdict.
    """
    review: Json = {
        "apiVersion": TOKEN_REVIEWS.api_version,
        "kind": TOKEN_REVIEWS.kind,
        "spec": {"token": token, "audiences": [audience]},
    }
    status: Json = (await api.create(TOKEN_REVIEWS, None, review)).get("status") or {}
    if not status.get("authenticated"):
        return TokenVerdict(error=status.get("error") or "it is not valid")
    if audience not in (status.get("audiences") or ()):
        # a server that does not know audiences accepts any token of its own
        return TokenVerdict(error=f'it is not for the audience "{audience}"')
    return TokenVerdict(user=status.get("user") or {})
