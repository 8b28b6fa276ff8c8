"""A sync step that spawns, from 0.47 on.

A worker of its own: the SDK keeps one listener for results per process, bound to the loop that used it first, so a
process that awaits results in sync and in async steps hangs, whatever the server.
"""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class SyncParent:
    @hatchet.step(timeout="30s")
    def spawn(self, context: Context):
        keyed = context.spawn_workflow("Echo", {"n": 0}, key="one").sync_result()
        counted = context.spawn_workflow("Echo", {"n": 1}).sync_result()
        return {"results": [each["say"]["input"] for each in (keyed, counted)]}


def main() -> None:
    worker = hatchet.worker("sync-spawns", max_runs=4)
    worker.register_workflow(SyncParent())
    worker.start()


if __name__ == "__main__":
    main()
