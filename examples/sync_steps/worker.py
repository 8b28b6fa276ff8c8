"""Steps without async: each runs in a thread, spawns with `context.spawn_workflow` and blocks as it likes."""

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


@hatchet.workflow()
class WordCount:
    @hatchet.step(timeout="1m")
    def count(self, context: Context) -> dict[str, dict[str, int]]:
        lines = context.workflow_input()["lines"]
        children = [context.spawn_workflow("Line", {"line": line}) for line in lines]
        total: dict[str, int] = {}
        for child in children:
            for word, count in child.sync_result()["split"]["words"].items():
                total[word] = total.get(word, 0) + count
        return {"words": total}


@hatchet.workflow()
class Line:
    @hatchet.step()
    def split(self, context: Context) -> dict[str, dict[str, int]]:
        words = context.workflow_input()["line"].split()
        return {"words": {word: words.count(word) for word in words}}


def main() -> None:
    worker = hatchet.worker("sync-worker", max_runs=10)
    worker.register_workflow(WordCount())
    worker.register_workflow(Line())
    worker.start()


if __name__ == "__main__":
    main()
