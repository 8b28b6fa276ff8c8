"""What starts runs of a workflow by itself: crons and events, as a person writes them, and what became of them."""

from typing import Annotated, Any

from pydantic import Field

from hatchet_operator.resources.base import ResourceModel, Time
from hatchet_operator.resources.reasons import CatchUp, ConcurrencyPolicy

MAX_TRIGGERS = 100
Schedule = Annotated[str, Field(max_length=256, min_length=1)]
EventKey = Annotated[str, Field(max_length=1024, min_length=1)]

_FIVE_FIELDS = {
    "rule": r"self.matches('^\\s*(\\S+\\s+){4}\\S+\\s*$') && !self.contains('TZ=')",
    "message": 'has not five fields (minute, hour, day of month, month, day of week), as "30 6 * * MON-FRI" has; '
    "the zone stands in timeZone",
}
_MAX_CAUGHT_UP = 100


class CronTrigger(ResourceModel):
    """When runs are started by the clock. Registered and written here, schedule and zone say which cron it is."""

    schedule: Annotated[
        Schedule,
        Field(
            description='Minute, hour, day of month, month, day of week, as in "30 6 * * MON-FRI".',
            json_schema_extra={"x-kubernetes-validations": [_FIVE_FIELDS]},
        ),
    ]
    time_zone: Annotated[
        str,
        Field(description='Time zone of the schedule: an IANA name, as in "Europe/Berlin".', max_length=64),
    ] = "UTC"
    suspended: Annotated[
        bool, Field(description="Nothing is started while this is true, and nothing is caught up afterwards.")
    ] = False
    concurrency_policy: Annotated[
        ConcurrencyPolicy,
        Field(
            description="What is done when a run of this cron has not finished at the next tick. Allow: another is "
            "started. Forbid: the tick is skipped. Replace: the run is cancelled, and another started."
        ),
    ] = ConcurrencyPolicy.ALLOW
    catch_up: Annotated[
        CatchUp,
        Field(
            description="What is done with ticks of a time without an operator. Skip: nothing, unless one is less "
            "than a minute late. Last: the last of them is started. All: all, but for the oldest beyond catchUpLimit."
        ),
    ] = CatchUp.LAST
    catch_up_limit: Annotated[
        int, Field(ge=1, le=_MAX_CAUGHT_UP, description="How many ticks All starts at most, the newest.")
    ] = 10
    input: Annotated[
        dict[str, Any] | None, Field(description="Input of the runs; absent: what the worker registered, or {}.")
    ] = None
    additional_metadata: Annotated[dict[str, Any] | None, Field(description="Metadata of the runs.")] = None
    priority: Annotated[int | None, Field(ge=1, le=3, description="Priority of the runs; 3 goes first.")] = None


class EventTrigger(ResourceModel):
    """Which events start a run, with their payload as its input."""

    key: Annotated[EventKey, Field(description='The event\'s key; "*" stands for any text, as in "user:*".')]
    scope: Annotated[
        str | None, Field(description="Only events that were pushed with this scope.", max_length=1024, min_length=1)
    ] = None
    filter: Annotated[
        str | None,
        Field(
            description="Only events of which this is true: CEL over `input` (the payload), `additional_metadata`, "
            "`event_id` and `event_key`, as in input.amount > 100. Macros that loop are not allowed.",
            max_length=1024,
            min_length=1,
        ),
    ] = None


class EventFilter(ResourceModel):
    """Which events of the registered keys start a run, as a worker registered it: one run for each filter."""

    expression: Annotated[str, Field(description="CEL; empty: always true.", max_length=1024)] = ""
    scope: Annotated[str, Field(description="Of events that were pushed with this scope.", max_length=1024)] = ""
    payload: Annotated[
        str | None,
        Field(description="Payload that the run's steps get with the event, as JSON text.", max_length=65536),
    ] = None


class CronStatus(ResourceModel):
    """Observed state of one cron."""

    schedule: Annotated[Schedule, Field(description="The schedule.")]
    time_zone: Annotated[str, Field(description="Time zone that the schedule is read in.", max_length=64)] = "UTC"
    last_tick: Annotated[Time | None, Field(description="The last tick for which a run was started.")] = None
    last_run: Annotated[str | None, Field(description="The run that was started for it.", max_length=63)] = None
    next_tick: Annotated[
        Time | None, Field(description="The next tick to be decided about; absent: there is none.")
    ] = None
    suspended: Annotated[bool, Field(description="Whether the cron is suspended, as of the last look.")] = False
    message: Annotated[
        str | None, Field(description="Why the last tick started nothing, or none will.", max_length=4096)
    ] = None
