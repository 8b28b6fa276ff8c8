"""Registers one workflow that asks for a feature; which one is said on the command line."""
# mypy: ignore-errors
# Written against the published SDK; mypy would look at ours.

import sys

from hatchet_sdk.labels import DesiredWorkerLabel
from hatchet_sdk.rate_limit import RateLimit

from hatchet_sdk import Context, Hatchet, StickyStrategy

hatchet = Hatchet()
feature = sys.argv[1]
options = {
    "event triggers": {"on_events": ["user:create"]},
    "cron triggers": {"on_crons": ["0 0 * * *"]},
    "sticky strategies": {"sticky": StickyStrategy.SOFT},
}
step_options = {
    "rate limits": {"rate_limits": [RateLimit(key="requests", units=1)]},
    "worker labels": {"desired_worker_labels": {"memory": DesiredWorkerLabel(value=512, required=True)}},
}


@hatchet.workflow(**options.get(feature, {}))
class Wishful:
    @hatchet.step(**step_options.get(feature, {}))
    async def wish(self, context: Context):
        return {}


class Grouped:
    @hatchet.concurrency(max_runs=1)
    def group(self, context: Context):
        return "one"

    @hatchet.step()
    async def wish(self, context: Context):
        return {}


def main() -> None:
    worker = hatchet.worker("refused")
    worker.register_workflow(hatchet.workflow()(Grouped)() if feature == "concurrency limits" else Wishful())
    worker.start()


if __name__ == "__main__":
    main()
