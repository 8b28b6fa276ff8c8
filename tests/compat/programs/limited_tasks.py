"""Limits set by a program, and tasks that use units of them: by a key, and by expressions."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import os
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hatchet_sdk import Context, EmptyModel, Hatchet
from hatchet_sdk.rate_limit import RateLimit, RateLimitDuration

DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])
hatchet = Hatchet()


class Given(BaseModel):
    user: str
    units: int
    limit: int


def note(of: str) -> None:
    with (DIRECTORY / "limited").open("a") as file:
        file.write(f"{time.time()} {of}\n")


@hatchet.task(name="Counted", rate_limits=[RateLimit(static_key="calls", units=2)])
async def counted(input: EmptyModel, context: Context) -> dict[str, Any]:
    note("calls")
    return {}


@hatchet.task(
    name="Measured",
    input_validator=Given,
    rate_limits=[
        RateLimit(dynamic_key="input.user", units="input.units", limit="input.limit", duration=RateLimitDuration.HOUR)
    ],
)
async def measured(input: Given, context: Context) -> dict[str, Any]:
    note(input.user)
    return {}


def main() -> None:
    hatchet.rate_limits.put("calls", 4, RateLimitDuration.HOUR)
    hatchet.worker("limited", slots=10, workflows=[counted, measured]).start()


if __name__ == "__main__":
    main()
