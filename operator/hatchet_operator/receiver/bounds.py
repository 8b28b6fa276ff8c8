"""What a client of the HTTP server may do: how long it may take, how many may connect, how much they may ask for."""

from dataclasses import dataclass

from hatchet_operator.resources.limits import MAX_MESSAGE_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Bounds for whoever connects, known or not.

    Attributes:
        headers_seconds: How long the first headers of a connection, and its handshake, may take.
        body_seconds: How long a body may take after its headers, and the rest of one after its answer.
        connections: How many there may be; more are closed unread.
        answer_bytes: How much the inputs and outputs of one answer may have.
    """

    headers_seconds: float = 10.0
    body_seconds: float = 10.0
    connections: int = 512
    answer_bytes: int = 4 * MAX_MESSAGE_BYTES
