"""What a client of the HTTP server may do: how long it may take, and how many may connect."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Bounds for whoever connects, known or not.

    Attributes:
        headers_seconds: How long the first headers of a connection, and its handshake, may take.
        body_seconds: How long a body may take after its headers, and the rest of one after its answer.
        connections: How many there may be; more are closed unread.
    """

    headers_seconds: float = 10.0
    body_seconds: float = 10.0
    connections: int = 512
