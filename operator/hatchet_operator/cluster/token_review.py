"""Ask the API server whose a bearer token is."""

from dataclasses import dataclass, field

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import TOKEN_REVIEWS


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenVerdict:
    """What the API server says of a token.

    Attributes:
        user: Whose it is; None: it is not valid here.
        error: Why not, in the server's words.
    """

    user: Json | None = None
    error: str = field(default="")


async def review_token(api: Api, token: str, *, audience: str) -> TokenVerdict:
    """Have a token judged.

    Raises:
        ApiError: There was no judgement.
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
        # a server that knows nothing of audiences vouches for any token of its own
        return TokenVerdict(error=f'it is not for the audience "{audience}"')
    return TokenVerdict(user=status.get("user") or {})
