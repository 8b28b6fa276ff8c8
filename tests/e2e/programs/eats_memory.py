"""A step that takes more memory than its container may have."""

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class Eat:
    @hatchet.step()
    async def work(self, context: Context) -> dict[str, int]:
        return {"eaten": len(b"x" * context.workflow_input()["bytes"])}


def main() -> None:
    worker = hatchet.worker("eats-memory")
    worker.register_workflow(Eat())
    worker.start()


if __name__ == "__main__":
    main()
