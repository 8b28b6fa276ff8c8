"""Times in messages."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def time_of(stamp: Timestamp) -> datetime | None:
    """Read a time that a client sent; None: it is not valid."""
    try:
        return stamp.ToDatetime(UTC) if stamp.seconds else None
    except (ValueError, OverflowError):
        return None


def now_stamp() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp
