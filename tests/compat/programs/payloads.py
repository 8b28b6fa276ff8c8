"""Workflows whose inputs and outputs are larger than a run's object takes; the published SDK knows nothing of that."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Swell:
    """A large output, and a step that reads it."""

    @hatchet.step()
    def make(self, context: Context):
        return {"text": "ä" * context.workflow_input()["characters"]}

    @hatchet.step(parents=["make"])
    def measure(self, context: Context):
        return {"characters": len(context.step_output("make")["text"])}


@hatchet.workflow()
class Reflect:
    """A child with a large input, which it returns."""

    @hatchet.step()
    async def reflect(self, context: Context):
        return {"text": context.workflow_input()["text"]}


@hatchet.workflow()
class Mirror:
    """A parent of such a child."""

    @hatchet.step(timeout="2m")
    async def look(self, context: Context):
        text = "ä" * context.workflow_input()["characters"]
        child = await context.aio.spawn_workflow("Reflect", {"text": text}, key="image")
        result = await child.result()
        return {"same": result["reflect"]["text"] == text}


@hatchet.workflow()
class Twice:
    """Two large outputs."""

    @hatchet.step()
    def one(self, context: Context):
        return {"text": "ä" * context.workflow_input()["characters"]}

    @hatchet.step()
    def two(self, context: Context):
        return {"text": "ö" * context.workflow_input()["characters"]}


def main() -> None:
    worker = hatchet.worker("payloads", max_runs=10)
    for workflow in (Swell, Reflect, Mirror, Twice):
        worker.register_workflow(workflow())
    worker.start()


if __name__ == "__main__":
    main()
