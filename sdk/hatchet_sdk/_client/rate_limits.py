"""Rate limits in programs: what a step uses, and what a limit is."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time they are imported on use: declaring a step needs no protobuf, which is slow to import
    from hatchet_sdk.contracts.workflows_pb2 import CreateStepRateLimit, PutRateLimitRequest

_LARGEST = 2**31 - 1  # what the protocol carries
_LONGEST_KEY = 256
_MOST_LIMITS = 10


class RateLimitDuration(StrEnum):
    """How long a window of a rate limit is: at its end all units are replenished at once."""

    SECOND = "SECOND"
    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    """30 days."""
    YEAR = "YEAR"
    """365 days."""


@dataclass(frozen=True)
class RateLimit:
    """Units of a rate limit that each attempt of a step uses; it starts when that many are available.

    Give one key: a string (`key` or `static_key`, which are the same) whose limit is set by a RateLimit object or
    `hatchet.admin.put_rate_limit`, or an expression. Expressions are CEL over ``input``,
    ``additional_metadata`` and ``parents`` (what the step's parents returned, by name), as in "input.user".

    Args:
        key: Which limit.
        static_key: The same.
        dynamic_key: An expression that yields the key.
        units: How many, or an expression that yields the number.
        limit: Units per window, or an expression that yields the number, if no RateLimit object has the key.
        duration: How long that window is.
    """

    key: str | None = None
    units: int | str = 1
    static_key: str | None = None
    dynamic_key: str | None = None
    limit: int | str | None = None
    duration: RateLimitDuration = RateLimitDuration.MINUTE


def rate_limits_problem(limits: object, where: str) -> str | None:
    """Say what is wrong with a step's limits, or None. The operator checks whether expressions are valid CEL."""
    if not isinstance(limits, Sequence) or isinstance(limits, str):
        return f"{where}: rate_limits is {limits!r} (expected a list of RateLimit)"
    if len(limits) > _MOST_LIMITS:
        return f"{where}: rate_limits has {len(limits)} entries (expected at most {_MOST_LIMITS})"
    for limit in limits:
        if not isinstance(limit, RateLimit):
            return f"{where}: rate_limits has {limit!r} (expected a RateLimit)"
        if (problem := _limit_problem(limit)) is not None:
            return f"{where}: a rate limit {problem}"
    return None


def _limit_problem(limit: RateLimit) -> str | None:
    keys = [key for key in (limit.key, limit.static_key, limit.dynamic_key) if key is not None]
    if len(keys) != 1:
        return f"has {len(keys)} keys (expected one of key, static_key and dynamic_key)"
    if not isinstance(keys[0], str) or not keys[0].strip():
        return f"has the key {keys[0]!r} (expected a text)"
    if limit.dynamic_key is None and len(keys[0]) > _LONGEST_KEY:
        return f"has a key of {len(keys[0])} characters (expected at most {_LONGEST_KEY})"
    for name, value in (("units", limit.units), ("limit", limit.limit)):
        if (value is not None or name == "units") and (problem := _number_problem(value)) is not None:
            return f'"{keys[0]}" has {name}={value!r} (expected {problem})'
    if limit.duration not in list(RateLimitDuration):
        return f'"{keys[0]}" has duration={limit.duration!r} (expected a RateLimitDuration)'
    return None


def _number_problem(value: object) -> str | None:
    if isinstance(value, str):
        return None if value.strip() else "an expression that makes a number, or a whole number from 0"
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        return f"a whole number from 0 to {_LARGEST}, or an expression that makes one"
    return None


def step_rate_limit(limit: RateLimit) -> "CreateStepRateLimit":
    """Convert a step's limit to the operator's message; names as in Hatchet's protocol."""
    from hatchet_sdk.contracts.workflows_pb2 import CreateStepRateLimit
    from hatchet_sdk.contracts.workflows_pb2 import RateLimitDuration as WireDuration

    made = CreateStepRateLimit(key=limit.key or limit.static_key or limit.dynamic_key or "")
    if limit.dynamic_key is not None:
        made.key_expr = limit.dynamic_key
    if isinstance(limit.units, str):
        made.units_expr = limit.units
    else:
        made.units = limit.units
    if limit.limit is not None:
        made.limit_values_expr = str(limit.limit)
        made.duration = WireDuration.Value(RateLimitDuration(limit.duration).value)
    return made


def put_rate_limit_request(key: str, limit: int, duration: RateLimitDuration) -> "PutRateLimitRequest":
    """Build the request that sets a limit.

    Raises:
        ValueError: An argument is invalid.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= _LONGEST_KEY:
        got = f"a key of {len(key)} characters" if isinstance(key, str) and key else f"the key {key!r}"
        raise ValueError(f"put_rate_limit got {got} (expected a text of 1 to {_LONGEST_KEY} characters)")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= _LARGEST:
        raise ValueError(f'rate limit "{key}" has limit={limit!r} (expected a whole number from 0 to {_LARGEST})')
    if duration not in list(RateLimitDuration):
        raise ValueError(f'rate limit "{key}" has duration={duration!r} (expected a RateLimitDuration)')
    from hatchet_sdk.contracts.workflows_pb2 import PutRateLimitRequest
    from hatchet_sdk.contracts.workflows_pb2 import RateLimitDuration as WireDuration

    wire = WireDuration.Value(RateLimitDuration(duration).value)
    return PutRateLimitRequest(key=key, limit=limit, duration=wire)
