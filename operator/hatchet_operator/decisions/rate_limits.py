"""Rate limits: how many units a window grants, and what is reserved so that no change of leader exceeds that.

    no window ──► first units ──► window: used grows up to the limit ──► it ends ──► no window

A window begins with its first units and is fixed: at its end all units are replenished at once. For a long window,
units are reserved before they are granted: the next leader counts what is reserved as used. For a short one nothing is
written: the next leader waits for one whole window. All times are seconds since the epoch.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hatchet_operator.durations import format_duration

LONGEST_UNWRITTEN = 10.0
"""Windows up to this many seconds are not written: waiting for one after a change of leader costs less."""

_RESERVES_OF_A_WINDOW = 16
_SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many units may be used in a window.

    Attributes:
        units: How many.
        seconds: How long the window is.
    """

    units: int
    seconds: float

    @property
    def is_written(self) -> bool:
        return self.seconds > LONGEST_UNWRITTEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was used since a window began.

    Attributes:
        started_at: When it began.
        used: Units that were granted, or may have been by another leader.
        reserved: Units that may be used without another write; meaningless for a limit that is not written.
        may_be_empty: Another leader reserved its first units, and nobody knows whether it granted them. So it may not
            have begun: the next units that are granted may be its first ones.
    """

    started_at: float
    used: int = 0
    reserved: int = 0
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether units may be used now. Exactly one of the four is set.

    Attributes:
        window: They may be used: the window as it is afterwards.
        reserve: They may be used once this window is written.
        again_at: They may be used when the window is over.
        never: They exceed the limit itself.
    """

    window: Window | None = None
    reserve: Window | None = None
    again_at: float | None = None
    never: bool = False


_NEVER = Answer(never=True)


def current(window: Window | None, limit: Limit, now: float) -> Window | None:
    """Return the window, unless it is over."""
    return window if window is not None and now < window.started_at + limit.seconds else None


def ask(window: Window | None, units: int, limit: Limit, now: float) -> Answer:
    """Decide whether units may be used now.

    Args:
        window: The last one; None: there was none.
        units: How many are wanted.
        limit: As it is now.
        now: The time.
    """
    if units > limit.units:
        return _NEVER
    known = current(window, limit, now) or Window(started_at=now)
    used = known.used + units
    if used > limit.units:
        return Answer(again_at=known.started_at + limit.seconds)
    if known.may_be_empty:
        known = replace(known, started_at=now, may_be_empty=False)
    if limit.is_written and used > known.reserved:
        reserved = min(max(used, known.used + _share(limit)), limit.units)
        return Answer(reserve=replace(known, reserved=reserved))
    return Answer(window=replace(known, used=used))


def _share(limit: Limit) -> int:
    """Return how many units are reserved at a time: so few of a long window that a crash loses little."""
    times = min(max(int(limit.seconds / LONGEST_UNWRITTEN), 1), _RESERVES_OF_A_WINDOW)
    return max(math.ceil(limit.units / times), 1)


def available(window: Window | None, limit: Limit, now: float) -> int:
    """Return how many units may be used now without a write."""
    known = current(window, limit, now)
    if known is None:
        return 0 if limit.is_written else limit.units
    most = min(limit.units, known.reserved) if limit.is_written else limit.units
    return max(most - known.used, 0)


def settle(window: Window) -> Window:
    """Give back what was reserved and not used; from now on nothing more is granted without a write."""
    return replace(window, reserved=window.used)


def taken_over(window: Window) -> Window:
    """Return what another leader wrote, as the next one counts it: whatever was reserved may have been used."""
    return replace(window, used=window.reserved, may_be_empty=window.used == 0 < window.reserved)


def after_start(limit: Limit, started_at: float) -> Window:
    """Return the first window of a limit that is not written: the previous leader may have used all of it until now."""
    return Window(started_at=started_at, used=limit.units)


def why_it_waits(key: str, units: int, limit: Limit | None, window: Window | None, now: float) -> str:
    """Say what a step waits for that a limit blocks.

    Args:
        key: The limit's.
        units: How many units of it the step needs.
        limit: As it is; None: there is none.
        window: The last one.
        now: The time.
    """
    if limit is None:
        return (
            f'there is no RateLimit "{key}" in its namespace (see kubectl get ratelimits); apply one, or set it with '
            "put_rate_limit"
        )
    per = f"{_units(limit.units)} per {format_duration(timedelta(seconds=limit.seconds))}"
    if units > limit.units:
        return f'it needs {_units(units)} of rate limit "{key}", which has only {per}; raise the limit, or use fewer'
    known = current(window, limit, now)
    used = known.used if known is not None else 0
    text = f'rate limit "{key}" has {per}, of which {used} are used'
    if known is None or used + units <= limit.units:
        return f"{text}; it goes on when the next of them are reserved"
    ends_at = datetime.fromtimestamp(known.started_at + limit.seconds, UTC)
    day = "" if limit.seconds < _SECONDS_OF_A_DAY / 2 else f"{ends_at:%Y-%m-%d} "
    return f"{text}, and it needs {units}; they come back at {day}{ends_at:%H:%M:%S} UTC"


def _units(units: int) -> str:
    return "1 unit" if units == 1 else f"{units} units"
