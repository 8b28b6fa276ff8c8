"""Durations, as programs write them and the operator reads them: "90s", "1h30m", "24h", "7d"."""

import re

EXPECTED = 'a duration like "90s", "24h" or "7d"'
_DURATION = re.compile(r"(\d+(\.\d+)?(ms|s|m|h|d))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_DAYS = 3650  # the operator's limit


def duration_problem(value: object, what: str) -> str | None:
    """Say in a sentence why a value is not a duration of more than zero and at most ten years, or None."""
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        return f"{what} is {value!r} (expected {EXPECTED})"
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    if seconds < 0.0005:  # the operator reads it to the millisecond
        return f"{what} is {value!r} (expected more than zero)"
    if seconds > _LONGEST_DAYS * 86400:
        return f'{what} is {value!r} (expected at most "{_LONGEST_DAYS}d", ten years)'
    return None
