"""What it costs a step to say 10,000 lines, beside a process without the SDK: ``python -m benchmarks.step_lines``.

Both write into the log of one pod, in turns, so the ratio holds on a machine with other work.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.step_lines_worker import LINES
from tests.unit.sdk.fake_operator import FakeOperator, eventually

WORKER = Path(__file__).with_name("step_lines_worker.py")


def main(repeat: Annotated[int, typer.Option(min=1, help="Measure so often; the medians are shown.")] = 3) -> None:
    """Measure and print a table."""
    console = Console()
    console.print(describe_machine(), soft_wrap=True)
    said = _measure(repeat)
    table = Table(f"{LINES} lines by", "step, µs a line", "plain, µs a line", "ratio", show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, marked in said["marked"].items():
        plain = said["plain"].get(name)
        step = statistics.median(marked) / LINES * 1e6
        if plain is None:
            table.add_row(name, f"{step:.1f}", "", "")
            continue
        ratio = statistics.median(ours / theirs for ours, theirs in zip(marked, plain, strict=True))
        table.add_row(name, f"{step:.1f}", f"{statistics.median(plain) / LINES * 1e6:.1f}", f"{ratio:.2f}")
    console.print(table)


def _measure(repeat: int) -> dict[str, dict[str, list[float]]]:
    """Have a worker say the lines into a pipe whose reader does nothing else, as that of a node."""
    operator = FakeOperator()  # type: ignore[abstract]  # what is missing answers UNIMPLEMENTED
    operator.start()
    variables = {"HOST_PORT": operator.address, "TOKEN": "secret", "TLS_STRATEGY": "none"}
    environment = os.environ | {f"HATCHET_CLIENT_{name}": value for name, value in variables.items()}
    environment["HATCHET_POD_NAME"] = "pod"
    with subprocess.Popen(
        [sys.executable, "-u", str(WORKER)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        assert process.stdout is not None
        log = process.stdout.fileno()

        def drain() -> None:
            while os.read(log, 1 << 20):
                continue

        threading.Thread(target=drain, daemon=True).start()
        try:
            eventually(lambda: operator.streams)
            run = operator.run("Lines", repeat=repeat)
            eventually(lambda: operator.runs[run].phase, within_seconds=600)
            said: dict[str, dict[str, list[float]]] = json.loads(operator.finished(run).outputs["say"])
        finally:
            process.kill()
    operator.stop()
    return said


if __name__ == "__main__":
    typer.run(main)
