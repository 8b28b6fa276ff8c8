"""Durations as Kubernetes and Hatchet write them, and days: "30s", "5m", "1h30m", "250ms", "7d"."""

import re
from datetime import timedelta

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
EXAMPLES = '"90s", "24h" or "7d"'
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(PATTERN)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """Parse a duration of at most ten years, to the millisecond.

    Raises:
        ValueError: The text is not a duration; the message says what was expected.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f'"{text}" is not a duration; expected a number and a unit, as in {EXAMPLES}')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f'"{text}" is longer than ten years; expected at most "3650d"')
    return timedelta(milliseconds=round(seconds * 1000))


def format_duration(duration: timedelta) -> str:
    """Format a duration as Go does, to the millisecond: "31ms", "4.2s", "1m30s", "24h"."""
    milliseconds = round(duration.total_seconds() * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            text += f"{count}{unit}"
    if milliseconds or not text:
        text += f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return text


def format_elapsed(elapsed: timedelta) -> str:
    """Format how long something took, rounded for people: "31ms", "4.2s", "1m5s", "2h3m"."""
    seconds = max(elapsed.total_seconds(), 0.0)
    if seconds < 0.9995:
        unit = 0.001
    elif seconds < 59.95:
        unit = 0.1
    else:
        unit = 1.0 if seconds < 3599.5 else 60.0
    return format_duration(timedelta(seconds=round(seconds / unit) * unit))
