import asyncio
from typing import Any

from hatchet_sdk import Context, Hatchet, WorkflowRunFailed

hatchet = Hatchet()


@hatchet.workflow()
class Order:
    @hatchet.step(retries=1)
    async def price(self, context: Context) -> dict[str, Any]:
        items = context.workflow_input()["items"]
        refs = [await context.aio.spawn_workflow("Item", {"name": item}, key=item) for item in items]
        results = await asyncio.gather(*(ref.result() for ref in refs), return_exceptions=True)
        unknown = [item for item, result in zip(items, results, strict=True) if isinstance(result, WorkflowRunFailed)]
        if unknown:
            context.log(f"no price: {', '.join(unknown)}")
        prices = [result["look_up"]["price"] for result in results if not isinstance(result, BaseException)]
        return {"total": sum(prices), "unknown": unknown}


@hatchet.workflow()
class Item:
    PRICES = {"tea": 3, "milk": 2}

    @hatchet.step()
    def look_up(self, context: Context) -> dict[str, int]:
        return {"price": self.PRICES[context.workflow_input()["name"]]}


def main() -> None:
    worker = hatchet.worker("orders")
    worker.register_workflow(Order())
    worker.register_workflow(Item())
    worker.start()


if __name__ == "__main__":
    main()
