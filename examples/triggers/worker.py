"""A workflow that an event starts, and one that the clock starts."""

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Signup:
    @hatchet.step()
    async def announce(self, context: Context) -> dict[str, str]:
        user = context.workflow_input()["user"]
        # With an id of its own the event starts nothing a second time, however often this step is tried.
        await hatchet.event.aio_push("user:create", {"user": user}, options={"event_id": f"signup-{user}"})
        return {"announced": user}


@hatchet.workflow(on_events=["user:create"])
class Welcome:
    @hatchet.step()
    async def greet(self, context: Context) -> dict[str, str]:
        return {"greeting": f"Welcome, {context.workflow_input()['user']}!"}


@hatchet.workflow(on_crons=["30 6 * * MON-FRI"], cron_input={"full": False})
class Report:
    @hatchet.step()
    async def write(self, context: Context) -> dict[str, bool]:
        return {"full": context.workflow_input()["full"]}


def main() -> None:
    worker = hatchet.worker("triggers-worker", max_runs=10)
    worker.register_workflow(Signup())
    worker.register_workflow(Welcome())
    worker.register_workflow(Report())
    worker.start()


if __name__ == "__main__":
    main()
