"""Many children call something that allows only some calls in a window."""

import asyncio
import time

from hatchet_sdk import Context, Hatchet, RateLimit, RateLimitDuration

hatchet = Hatchet()


@hatchet.workflow()
class Survey:
    @hatchet.step(timeout="5m")
    async def ask_all(self, context: Context) -> dict[str, list[float]]:
        given = context.workflow_input()
        inputs = [{"user": given["user"], "question": number} for number in range(given["questions"])]
        refs = [await context.aio.spawn_workflow("Ask", each, key=f"ask-{each['question']}") for each in inputs]
        answers = await asyncio.gather(*(ref.result() for ref in refs))
        return {"asked_at": sorted(answer["ask"]["asked_at"] for answer in answers)}


@hatchet.workflow()
class Ask:
    @hatchet.step(
        rate_limits=[
            RateLimit("model", units=1),  # the object of that name
            RateLimit(dynamic_key="'user ' + input.user", units=1, limit="100", duration=RateLimitDuration.HOUR),
        ]
    )
    async def ask(self, context: Context) -> dict[str, float]:
        return {"asked_at": time.time()}


def main() -> None:
    worker = hatchet.worker("rate-limits-worker", max_runs=40)
    worker.register_workflow(Survey())
    worker.register_workflow(Ask())
    worker.start()


if __name__ == "__main__":
    main()
