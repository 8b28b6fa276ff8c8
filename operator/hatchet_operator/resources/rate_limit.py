"""RateLimit: how many units of something may be used in a window, over all runs of a namespace; what a step needs."""

from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue

from hatchet_operator.resources.base import Conditions, ObjectMeta, ResourceModel, Time
from hatchet_operator.resources.durations import PositiveDuration

MAX_UNITS = 2**31 - 1  # what the workers' protocol can carry
MAX_KEY = 256
_EXPRESSION = (
    "CEL over `input`, `additional_metadata` and `parents` (outputs of its parents, by step name); macros that loop "
    "(map, filter, all, exists) are not allowed."
)

LimitKey = Annotated[str, Field(max_length=MAX_KEY, min_length=1)]
Expression = Annotated[str, Field(max_length=1024, min_length=1)]


def _rule(rule: str, message: str) -> dict[str, JsonValue]:
    return {"rule": rule, "message": message}


class StepRateLimit(ResourceModel):
    """Units of a rate limit that each attempt of a step uses. It starts when all of its limits let it."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "has(self.key) != has(self.keyExpression)",
                    "needs one of key (a text) and keyExpression (CEL that makes one), and not both",
                ),
                _rule(
                    "!(has(self.units) && has(self.unitsExpression))",
                    "has units and unitsExpression, but a step uses one number of units; keep one of them",
                ),
                _rule(
                    "!has(self.window) || has(self.limitExpression)",
                    "has a window without limitExpression; the window of a RateLimit object stands in its own spec",
                ),
            ]
        }
    )

    key: Annotated[LimitKey | None, Field(description="Key of the limit, as of a RateLimit object.")] = None
    key_expression: Annotated[
        Expression | None, Field(description=f"What yields the key, as in input.user: {_EXPRESSION}")
    ] = None
    units: Annotated[int | None, Field(ge=0, le=MAX_UNITS, description="Units that an attempt uses; absent: 1.")] = None
    units_expression: Annotated[
        Expression | None, Field(description=f"What yields the number of units: {_EXPRESSION}")
    ] = None
    limit_expression: Annotated[
        Expression | None,
        Field(
            description="What yields the limit, as a number or over the same values, where no RateLimit object has the "
            "key; absent: an object has to."
        ),
    ] = None
    window: Annotated[
        PositiveDuration | None, Field(description='The window of limitExpression, as in "1m"; absent: a minute.')
    ] = None


StepRateLimits = Annotated[tuple[StepRateLimit, ...], Field(max_length=10)]


class RateLimitSpec(ResourceModel):
    """Desired state: how many units may be used."""

    key: Annotated[LimitKey | None, Field(description="The key that steps name; absent: metadata.name.")] = None
    limit: Annotated[int, Field(ge=0, le=MAX_UNITS, description="Units that may be used in one window.")]
    window: Annotated[
        PositiveDuration,
        Field(
            description='How long a window is, as in "1s" or "1m"; it begins with its first units, and at its end all '
            "of them come back."
        ),
    ]


RUNS_SHOWN = 5
"""How many of the runs that wait for units are named."""


class RateLimitStatus(ResourceModel):
    """What was used; written now and then, and not for each step."""

    used: Annotated[int | None, Field(ge=0, description="Units used in the current window.")] = None
    waiting: Annotated[int | None, Field(ge=0, description="Number of steps that wait for units.")] = None
    waiting_runs: Annotated[
        tuple[Annotated[str, Field(max_length=253)], ...] | None,
        Field(
            description="Runs of steps that get units next; truncated if there are many. Absent: none waits.",
            max_length=RUNS_SHOWN,
        ),
    ] = None
    window_started_at: Annotated[Time | None, Field(description="When the window began.")] = None
    refills_at: Annotated[Time | None, Field(description="When the window ends and all units are available again.")] = (
        None
    )
    conditions: Annotated[Conditions, Field(description="Ready and Stalled.")] = ()
    observed_generation: Annotated[int | None, Field(description="metadata.generation that this status describes.")] = (
        None
    )


class RateLimit(ResourceModel):
    """How many units of something the steps of a namespace may use in a window, whichever workflow they are of."""

    metadata: ObjectMeta
    spec: Annotated[RateLimitSpec, Field(description="Desired state: how many units may be used.")]
    status: Annotated[RateLimitStatus, Field(description="Observed state of the limit.")] = RateLimitStatus()

    @property
    def key(self) -> str:
        """The key that steps name."""
        return self.spec.key or self.metadata.name
