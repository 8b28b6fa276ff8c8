"""Steps that hear neither of a cancellation nor of a timeout, nor of SIGTERM: only the end of their pod ends them."""

import time

from hatchet_sdk import Context, Hatchet

hatchet = Hatchet()


def sleep_for_ever(context: Context) -> None:
    context.log("asleep")
    while True:
        try:
            time.sleep(1)
        except BaseException:  # noqa: BLE001  # what is tested
            continue


@hatchet.workflow()
class InTime:
    @hatchet.step(timeout="10m")
    def work(self, context: Context) -> None:
        sleep_for_ever(context)


@hatchet.workflow()
class TooLong:
    @hatchet.step(timeout="5s")
    def work(self, context: Context) -> None:
        sleep_for_ever(context)


def main() -> None:
    worker = hatchet.worker("deaf", max_runs=10)
    worker.register_workflow(InTime())
    worker.register_workflow(TooLong())
    worker.start()


if __name__ == "__main__":
    main()
