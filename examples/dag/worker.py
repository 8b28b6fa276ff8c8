"""Steps that wait for each other: two of them run side by side, the last one joins them."""

from typing import Any

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow(name="Etl")
class Etl:
    @hatchet.step()
    async def extract(self, context: Context) -> dict[str, Any]:
        return {"numbers": context.workflow_input()["numbers"]}

    @hatchet.step(parents=["extract"])
    async def add(self, context: Context) -> dict[str, int]:
        return {"sum": sum(context.step_output("extract")["numbers"])}

    @hatchet.step(parents=["extract"])
    async def count(self, context: Context) -> dict[str, int]:
        return {"count": len(context.step_output("extract")["numbers"])}

    @hatchet.step(parents=["add", "count"])
    async def average(self, context: Context) -> dict[str, float]:
        return {"average": context.step_output("add")["sum"] / context.step_output("count")["count"]}


def main() -> None:
    worker = hatchet.worker("dag-worker", max_runs=10)
    worker.register_workflow(Etl())
    worker.start()


if __name__ == "__main__":
    main()
