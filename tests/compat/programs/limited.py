"""Limits set by a program, and steps that use units of them: by a key, and where the SDK can say it, by expressions."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import importlib.metadata
import os
import time
from pathlib import Path

from hatchet_sdk import Context, Hatchet
from hatchet_sdk.rate_limit import RateLimit, RateLimitDuration

HAS_EXPRESSIONS = int(importlib.metadata.version("hatchet-sdk").split(".")[1]) >= 47
DIRECTORY = Path(os.environ["HATCHET_TEST_DIRECTORY"])
hatchet = Hatchet()


def note(of: str) -> None:
    with (DIRECTORY / "limited").open("a") as file:
        file.write(f"{time.time()} {of}\n")


@hatchet.workflow()
class Counted:
    @hatchet.step(rate_limits=[RateLimit(key="calls", units=2)])
    async def call(self, context: Context):
        note("calls")
        return {}


if HAS_EXPRESSIONS:

    @hatchet.workflow()
    class Measured:
        @hatchet.step(
            rate_limits=[
                RateLimit(
                    dynamic_key="input.user", units="input.units", limit="input.limit", duration=RateLimitDuration.HOUR
                )
            ]
        )
        async def call(self, context: Context):
            note(context.workflow_input()["user"])
            return {}


def main() -> None:
    hatchet.admin.put_rate_limit("calls", 4, RateLimitDuration.HOUR)
    worker = hatchet.worker("limited", max_runs=10)
    worker.register_workflow(Counted())
    if HAS_EXPRESSIONS:
        worker.register_workflow(Measured())
    worker.start()


if __name__ == "__main__":
    main()
