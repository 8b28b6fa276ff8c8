"""Invalid arguments: refused where they are given, by name, with what was expected."""

import math
from datetime import UTC, datetime

LONGEST_KEY = 1024  # of an event, and of its id
LONGEST_SPAWN_KEY = 65_536
LONGEST_NAME = 253  # of an object in Kubernetes
LARGEST = 2**31 - 1  # the protocol's limit


def checked_text(value: object, *, what: str, longest: int | None = None) -> str:
    """Return a text that can be sent.

    Raises:
        TypeError, ValueError: It is not text, empty or too long.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is {value!r} (expected a str)")
    if not value:
        raise ValueError(f"{what} is empty (leave it out, or give it some text)")
    if longest is not None and len(value) > longest:
        raise ValueError(f"{what} has {len(value)} characters (expected at most {longest})")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{what} is {value!r}, which is not text: it contains half of a surrogate pair (expected UTF-8)"
        ) from None
    return value


def checked_number(value: object, *, what: str, expected: str, least: int, most: int = LARGEST) -> int:
    """Return a whole number within bounds.

    Raises:
        TypeError, ValueError: It is not one, or out of bounds.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r} (expected an int, {expected})")
    if not least <= value <= most:
        raise ValueError(f"{what} is {value} (expected {expected})")
    return value


def checked_priority(value: object, *, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= 3:
        raise ValueError(f"{what} is {value} (expected 1 to 3; 3 goes first)")
    return checked_number(value, what=what, expected="1 to 3", least=1, most=3)


def in_utc(at: datetime, *, what: str) -> datetime:
    """Return a time as it travels; one without a zone is in local time.

    Raises:
        ValueError: It is so close to year 1 or 9999 that it is beyond them in UTC.
    """
    try:
        return at.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{what} is {at} (expected a time from year 1 to 9999 in UTC: {error})") from error


def check_seconds(value: object, *, what: str) -> None:
    """Refuse an invalid time to wait; None means forever.

    Raises:
        TypeError, ValueError: It is not a number of seconds, or less than 0.
    """
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r} (expected seconds, or None for no limit)")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{what} is {value!r} (expected 0 seconds or more, or None for no limit)")
