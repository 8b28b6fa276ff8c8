"""Children that have children: three levels, each adding up the one below."""

import asyncio

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Country:
    @hatchet.step(timeout="2m")
    async def add_regions(self, context: Context) -> dict[str, int]:
        asked = context.workflow_input()
        regions = await context.aio.spawn_workflows(
            [
                {
                    "workflow_name": "Region",
                    "input": {"region": region, "shops": asked["shops"]},
                    "key": f"region-{region}",
                }
                for region in range(asked["regions"])
            ]
        )
        results = await asyncio.gather(*(region.result() for region in regions))
        return {"sales": sum(result["add_shops"]["sales"] for result in results)}


@hatchet.workflow()
class Region:
    @hatchet.step(timeout="1m")
    async def add_shops(self, context: Context) -> dict[str, int]:
        asked = context.workflow_input()
        shops = await asyncio.gather(
            *(
                context.aio.spawn_workflow("Shop", {"region": asked["region"], "shop": shop}, key=f"shop-{shop}")
                for shop in range(asked["shops"])
            )
        )
        results = await asyncio.gather(*(shop.result() for shop in shops))
        return {"sales": sum(result["sell"]["sales"] for result in results)}


@hatchet.workflow()
class Shop:
    @hatchet.step()
    async def sell(self, context: Context) -> dict[str, int]:
        asked = context.workflow_input()
        return {"sales": 100 * asked["region"] + asked["shop"]}


def main() -> None:
    worker = hatchet.worker("nested-worker", max_runs=40)
    worker.register_workflow(Country())
    worker.register_workflow(Region())
    worker.register_workflow(Shop())
    worker.start()


if __name__ == "__main__":
    main()
