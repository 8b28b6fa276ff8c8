"""A parent that fails after its children were spawned: retried, it finds them, and none runs a second time."""

import asyncio

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class FlakyParent:
    @hatchet.step(timeout="1m", retries=2)
    async def spawn(self, context: Context) -> dict[str, list[str]]:
        children = [
            await context.aio.spawn_workflow("Payment", {"order": order}, key=f"order-{order}") for order in range(3)
        ]
        results = await asyncio.gather(*(child.result() for child in children))
        if context.retry_count() == 0:
            raise RuntimeError("the parent fails once, with every payment made")
        return {"receipts": [result["pay"]["receipt"] for result in results]}


@hatchet.workflow()
class Payment:
    @hatchet.step()
    async def pay(self, context: Context) -> dict[str, str]:
        order = context.workflow_input()["order"]
        context.log(f"paying order {order}")  # once per order, however often the parent is retried
        return {"receipt": f"receipt for order {order}"}


def main() -> None:
    worker = hatchet.worker("retries-worker", max_runs=10)
    worker.register_workflow(FlakyParent())
    worker.register_workflow(Payment())
    worker.start()


if __name__ == "__main__":
    main()
