"""Rate limits: those that a program sets, and what steps need of them."""

from datetime import timedelta

from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.rate_limit import MAX_KEY, StepRateLimit
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire

_WINDOWS = {
    workflows_wire.SECOND: timedelta(seconds=1),
    workflows_wire.MINUTE: timedelta(minutes=1),
    workflows_wire.HOUR: timedelta(hours=1),
    workflows_wire.DAY: timedelta(days=1),
    workflows_wire.WEEK: timedelta(weeks=1),
    workflows_wire.MONTH: timedelta(days=30),
    workflows_wire.YEAR: timedelta(days=365),
}

_NO_LIMIT = "-1"  # what clients from 1.0 on send for a limit that is set elsewhere


def step_rate_limit(here: str, limit: workflows_wire.CreateStepRateLimit) -> StepRateLimit:
    # clients with an expression for the key send it as the key too
    if not limit.key and not limit.key_expr:
        raise InvalidRequest(f"{here} has a rate limit without a key; give it one")
    if limit.units < 0:
        raise InvalidRequest(f'{here}: rate limit "{limit.key}" needs {limit.units} units; expected 0 or more')
    expression = "" if limit.limit_values_expr == _NO_LIMIT else limit.limit_values_expr
    window = _window(f"{here}: its rate limit", limit.duration) if expression else None
    return StepRateLimit(
        key=None if limit.key_expr else limit.key,
        key_expression=limit.key_expr or None,
        units=limit.units if limit.HasField("units") and not limit.units_expr else None,
        units_expression=limit.units_expr or None,
        limit_expression=expression or None,
        window=window if limit.HasField("duration") else None,
    )


def _window(what: str, duration: workflows_wire.RateLimitDuration.ValueType) -> timedelta:
    window = _WINDOWS.get(duration)
    if window is None:  # a later client's
        raise Unsupported(f"{what} asks for duration {duration}, which this version does not have")
    return window


def rate_limit(request: workflows_wire.PutRateLimitRequest) -> tuple[str, int, timedelta]:
    """Read a limit that a program sets: its key, its units and its window.

    Raises:
        InvalidRequest: A part of it makes no sense.
        Unsupported: Its duration is not known.
    """
    if not 1 <= len(request.key) <= MAX_KEY:
        raise InvalidRequest(f"the key of a rate limit has {len(request.key)} characters; expected 1 to {MAX_KEY}")
    if request.limit < 0:
        raise InvalidRequest(f'rate limit "{request.key}" can\'t be {request.limit}; expected 0 or more units')
    return request.key, request.limit, _window(f'rate limit "{request.key}"', request.duration)
