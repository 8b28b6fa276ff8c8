"""Converts times between messages and our own types."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from hatchet_operator.errors import InvalidRequest


def time_of(stamp: Timestamp) -> datetime | None:
    """Return the time that a client sent, in UTC; None: it sent none, or one that is not valid."""
    try:
        return stamp.ToDatetime(UTC) if stamp.seconds else None
    except (ValueError, OverflowError):
        return None


def valid_time_of(stamp: Timestamp, what: str) -> datetime:
    """Return the time that a client sent, in UTC, where ignoring an invalid one would change what was asked for.

    Raises:
        InvalidRequest: It is not valid; the message begins with ``what``.
    """
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{what} is not a valid time: {error}") from error


def milliseconds_of(stamp: Timestamp) -> int:
    """Return the time that a client sent, in milliseconds since 1970; 0: it sent none, or one that is not valid."""
    try:
        return stamp.ToMilliseconds()
    except (ValueError, OverflowError):
        return 0


def stamp_of(at: datetime | None) -> Timestamp | None:
    """Return a time as messages have it; None stays None."""
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def now_stamp() -> Timestamp:
    """Return the time of day as messages have it."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
