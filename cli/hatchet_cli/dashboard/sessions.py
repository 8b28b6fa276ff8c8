"""Who has signed in: what a browser keeps is a random id, and the token that it stands for is in memory alone.

A restart of the server forgets all of them, and people sign in again.
"""

import secrets
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a cookie stands for.

    Attributes:
        token: The bearer token of whoever signed in; None: the API server does not accept it any more.
        until: When the session ends, on the clock of whoever opened it.
    """

    token: str | None
    until: float


class Sessions:
    """The sessions of all browsers.

    Args:
        seconds: How long each lasts.
        most: How many there may be; one more ends the oldest.
    """

    def __init__(self, *, seconds: float, most: int) -> None:
        self.seconds = seconds
        self._most = most
        self._open: dict[str, Session] = {}  # the oldest first

    def open(self, token: str, now: float) -> str:
        """Return the id of a new session."""
        while len(self._open) >= self._most:
            del self._open[next(iter(self._open))]
        session_id = secrets.token_urlsafe(32)
        self._open[session_id] = Session(token=token, until=now + self.seconds)
        return session_id

    def token_of(self, session_id: str, now: float) -> str | None:
        """Return what a session stands for; None: there is no such session, or no longer."""
        session = self._open.get(session_id)
        return session.token if session is not None and now < session.until else None

    def is_refused(self, session_id: str) -> bool:
        """Say whether a session ended because of its token, which the next request wants to be told."""
        session = self._open.get(session_id)
        return session is not None and session.token is None

    def close(self, session_id: str) -> None:
        self._open.pop(session_id, None)

    def refuse(self, token: str) -> None:
        """End the sessions of a token."""
        for session_id, session in self._open.items():
            if session.token == token:
                self._open[session_id] = replace(session, token=None)

    def drop_expired(self, now: float) -> None:
        self._open = {key: session for key, session in self._open.items() if now < session.until}

    def tokens(self) -> set[str]:
        return {session.token for session in self._open.values() if session.token is not None}
