"""A step that says many lines, beside a process without the SDK that says the same ones into the same log.

Run by `step_lines.py`; with an argument it is that other process.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable

LINES = 10_000


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {"time": record.created, "level": record.levelname, "logger": record.name}
        return json.dumps(said | {"message": record.getMessage()})


def ways() -> dict[str, Callable[[int], object]]:
    """Return the ways of saying a line."""
    text, structured = logging.getLogger("text"), logging.getLogger("structured")
    formatters = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"), _Json()
    for logger, formatter in zip((text, structured), formatters, strict=True):
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)
    return {
        "print": lambda number: print(f"row {number} of {LINES} is loaded"),  # what is measured
        "logging": lambda number: text.info("row %d of %d is loaded", number, LINES),
        "logging, JSON": lambda number: structured.info("row %d of %d is loaded", number, LINES),
    }


def seconds(say: Callable[[int], object]) -> float:
    """Say all the lines; return how long it took."""
    begun = time.perf_counter()
    for number in range(LINES):
        say(number)
    return time.perf_counter() - begun


def main() -> None:
    from hatchet_sdk import Context, Hatchet

    hatchet = Hatchet()

    @hatchet.workflow()
    class Lines:
        @hatchet.step(timeout="10m")
        def say(self, context: Context) -> dict[str, dict[str, list[float]]]:
            marked, plain = dict[str, list[float]](), dict[str, list[float]]()
            own = ways() | {"context.log": lambda number: context.log(f"row {number} of {LINES} is loaded")}
            for _ in range(int(context.workflow_input()["repeat"])):
                for name, say in own.items():
                    # in turns, since a machine's other work comes and goes
                    if name in ways():
                        plain.setdefault(name, []).append(_without_sdk(name))
                    marked.setdefault(name, []).append(seconds(say))
            return {"marked": marked, "plain": plain}

    worker = hatchet.worker("lines")
    worker.register_workflow(Lines())
    worker.start()


def _without_sdk(name: str) -> float:
    """Have the lines said by a process of their own."""
    answer, answer_end = os.pipe()
    subprocess.run([sys.executable, "-u", __file__, name, str(answer_end)], pass_fds=[answer_end], check=True)
    os.close(answer_end)
    with open(answer) as file:
        return float(file.read())


if __name__ == "__main__":
    if sys.argv[1:]:
        os.write(int(sys.argv[2]), str(seconds(ways()[sys.argv[1]])).encode())
    else:
        main()
