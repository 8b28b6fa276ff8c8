"""Crons: which ticks are due, which of them start a run, and when the next one is.

The status of a cron has the first tick that nothing was decided about (`next_tick`). Everything that is due lies
between that and now; after a time without an operator it may be a lot. The status only moves on once the runs exist:
after a crash in between they are requested once more, under the same names.

Local time follows Debian's cron. Where the clock jumps forward, a schedule at a time that does not exist ticks at the
first minute that does; where it jumps back, a time that comes twice ticks once. A schedule whose minute or hour begins
with a star goes by the minutes that really pass: "*/15 * * * *" ticks every quarter of an hour, even then.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
from cronsim import CronSim, CronSimError

from hatchet_operator.resources.base import Json
from hatchet_operator.resources.reasons import CatchUp, ConcurrencyPolicy
from hatchet_operator.resources.triggers import CronStatus, CronTrigger
from hatchet_operator.resources.workflow import WorkflowDefinition, WorkflowSpec

_FIELDS = 5
_ON_TIME = timedelta(minutes=1)
_FIRST_WINDOW = timedelta(hours=1)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class InvalidCron(ValueError):
    """A schedule or a zone makes no sense; the message says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CronPlan:
    """What has to happen for one cron.

    Attributes:
        starts: Ticks for which a run must be started.
        cancels: Names of runs to cancel before that.
        status: The cron's status once that is done.
    """

    status: CronStatus
    starts: tuple[datetime, ...] = ()
    cancels: tuple[str, ...] = ()


def effective_crons(spec: WorkflowSpec, definition: WorkflowDefinition | None) -> tuple[CronTrigger, ...]:
    """Return a workflow's crons, each schedule and zone once: a person's, and those of the registration in addition."""
    crons: dict[tuple[str, str], CronTrigger] = {}
    for cron in (*spec.crons, *_registered(definition)):
        crons.setdefault(_identity(cron.schedule, cron.time_zone), cron)
    return tuple(
        cron.model_copy(update={"schedule": _plain(cron.schedule), "suspended": cron.suspended or spec.suspended})
        for cron in crons.values()
    )


def with_suspension(
    crons: Sequence[Json], definition: WorkflowDefinition | None, *, schedule: str, zone: str, wanted: bool
) -> list[Json] | None:
    """Return a spec's crons once one of them, or of those that code registered, is suspended or resumed.

    An entry that says nothing but what code says is left out: it would go on ticking when the code has no such cron
    any more.

    Args:
        crons: The spec's, as the API server has them; what it says of others stays as it is.
        definition: What was registered.
        schedule: Which one.
        zone: In which zone.
        wanted: Whether it is to be suspended.

    Returns:
        None: there is no such cron.
    """
    identity = _identity(schedule, zone)
    is_registered = any(_identity(each.schedule, each.time_zone) == identity for each in _registered(definition))
    found: list[Json] = []
    is_there = False
    for each in crons:
        cron = CronTrigger.model_validate(each)
        if _identity(cron.schedule, cron.time_zone) != identity:
            found.append(each)
            continue
        is_there = True
        is_as_registered = is_registered and cron == CronTrigger(schedule=cron.schedule, suspended=cron.suspended)
        if wanted or not is_as_registered:
            found.append(each | {"suspended": wanted})
    if wanted and not is_there:
        found.append({"schedule": identity[0], "suspended": True})  # written as a spec may have it
    return found if is_there or is_registered else None


def cron_problem(cron: CronTrigger) -> str | None:
    """Say what is wrong with the schedule or zone of a cron, or None."""
    try:
        _Schedule(_plain(cron.schedule), cron.time_zone)
    except InvalidCron as error:
        return str(error)
    return None


def cron_input(cron: CronTrigger, definition: WorkflowDefinition | None) -> str:
    """Return the input of a cron's runs, as JSON text."""
    if cron.input is not None:
        return orjson.dumps(cron.input).decode()
    return (definition.cron_input if definition else None) or "{}"


def plan_cron(
    cron: CronTrigger,
    before: CronStatus | None,
    *,
    name_of: Callable[[datetime], str],
    unfinished: Collection[str],
    now: datetime,
) -> CronPlan:
    """Say what a cron needs at this moment.

    Args:
        cron: What it should do.
        before: Its previous status; None: it is new, so that it begins now.
        name_of: Names the run of a tick.
        unfinished: Names of its runs that have not finished.
        now: The time.
    """
    status = CronStatus(
        schedule=cron.schedule,
        time_zone=cron.time_zone,
        last_tick=before.last_tick if before else None,
        last_run=before.last_run if before else None,
    )
    try:
        schedule = _Schedule(cron.schedule, cron.time_zone)
    except InvalidCron as error:
        return CronPlan(status=status.model_copy(update={"message": str(error)[:1000]}))
    if cron.suspended:
        return CronPlan(status=status.model_copy(update={"suspended": True}))
    since = before.next_tick if before else None
    if before is not None and since is not None and now < since:
        return CronPlan(status=before)
    following = status.model_copy(update={"next_tick": schedule.after(now)})
    if since is None:
        return CronPlan(status=following)
    due = _caught_up(cron, schedule, since, now)
    starts, cancels, message = _without_overlap(cron.concurrency_policy, due, name_of, unfinished)
    started = {"last_tick": starts[-1], "last_run": name_of(starts[-1])} if starts else {}
    return CronPlan(status=following.model_copy(update={**started, "message": message}), starts=starts, cancels=cancels)


def _caught_up(cron: CronTrigger, schedule: "_Schedule", since: datetime, now: datetime) -> tuple[datetime, ...]:
    match cron.catch_up:
        case CatchUp.SKIP:
            return tuple(tick for tick in schedule.last(1, since, now) if now - tick < _ON_TIME)
        case CatchUp.LAST:
            return schedule.last(1, since, now)
        case CatchUp.ALL:
            return schedule.last(cron.catch_up_limit, since, now)


def _without_overlap(
    policy: ConcurrencyPolicy,
    due: tuple[datetime, ...],
    name_of: Callable[[datetime], str],
    unfinished: Collection[str],
) -> tuple[tuple[datetime, ...], tuple[str, ...], str | None]:
    """Return which ticks start a run, which runs are cancelled for that, and a message."""
    if policy is ConcurrencyPolicy.ALLOW or not due:
        return due, (), None
    if policy is ConcurrencyPolicy.REPLACE:  # of many, all but the last would be cancelled at once
        return due[-1:], tuple(sorted(set(unfinished) - {name_of(due[-1])})), None
    # A run of one of these ticks does not overlap: an operator that ended too early requested it.
    others = sorted(set(unfinished) - {name_of(tick) for tick in due})
    if others:
        return (), (), f"the tick of {due[-1]:%Y-%m-%d %H:%M} UTC was skipped: run {others[0]} has not finished"
    return due[:1], (), None


class _Schedule:
    """The ticks of a schedule, in UTC."""

    def __init__(self, text: str, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:  # unknown, a path, a folder of the database
            raise InvalidCron(f'time zone "{zone}" is not known; expected a name such as "Europe/Berlin"') from error
        self._text = _ALIASES.get(text.lower(), text)
        if (count := len(self._text.split())) != _FIELDS:
            raise InvalidCron(
                f'"{text}" has {count} field{"s" if count > 1 else ""}; expected 5: minute, hour, day of month, month, '
                f"day of week; or one of {', '.join(_ALIASES)}"
            )
        try:
            CronSim(self._text, datetime.now(UTC))
        except CronSimError as error:
            raise InvalidCron(f'"{text}" is not a schedule: {error}') from error

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment; None: there is none in the next 50 years."""
        return next(self._ticks(moment), None)

    def last(self, most: int, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the last ticks from ``since`` to ``until``, both included, without walking through all of them."""
        window = _FIRST_WINDOW
        while True:
            begin = max(since, until - window)
            ticks = []
            for tick in self._ticks(begin - timedelta(seconds=1)):
                if tick > until:
                    break
                ticks.append(tick)
            if len(ticks) >= most or begin == since:
                return tuple(ticks[-most:])
            window *= 4

    def _ticks(self, moment: datetime) -> Iterator[datetime]:
        zone = UTC if self._zone.key == "UTC" else self._zone
        for tick in CronSim(self._text, moment.astimezone(zone)):
            # In an hour that comes twice, the first of two equal times may lie before the moment.
            if (found := tick.astimezone(UTC)) > moment:
                yield found


def _registered(definition: WorkflowDefinition | None) -> Iterator[CronTrigger]:
    return (CronTrigger(schedule=schedule) for schedule in (definition.crons if definition else None) or ())


def _identity(schedule: str, zone: str) -> tuple[str, str]:
    """Say which cron it is, however it is written."""
    plain = _plain(schedule)
    return _ALIASES.get(plain.lower(), plain), zone


def _plain(schedule: str) -> str:
    return " ".join(schedule.split())
