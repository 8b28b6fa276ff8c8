"""Workflows that start by themselves: each says what started it."""

from typing import Any

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow(name="Welcome", on_events=["user:create", "github:push"])
class Welcome:
    @hatchet.step()
    async def greet(self, context: Context) -> dict[str, Any]:
        return {"input": context.workflow_input(), "by_event": context.triggered_by_event()}


@hatchet.workflow(name="Minutely", on_crons=["* * * * *"], cron_input={"full": True})
class Minutely:
    @hatchet.step()
    async def tick(self, context: Context) -> dict[str, Any]:
        return {"input": context.workflow_input(), "by_event": context.triggered_by_event()}


if __name__ == "__main__":
    worker = hatchet.worker("triggered", max_runs=5)
    worker.register_workflow(Welcome())
    worker.register_workflow(Minutely())
    worker.start()
