"""Which machine this is, which state of the project is measured, and what else the machine does meanwhile."""

import os
import platform
import subprocess
from pathlib import Path

import psutil
import typer

ROOT = Path(__file__).parents[1]
_MEASURED = ("operator", "sdk", "dev", "crds", "charts", "benchmarks", "constraints.txt")
"""What makes a difference to a figure; a page of the docs makes none."""


def describe_machine() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before the start"
    )


def busy_seconds() -> float:
    """Return the CPU time that this machine has spent since its start, on whatever."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def commit() -> str:
    """Return which commit is checked out; with "+" if what is measured was changed since."""
    head = _git("log", "-1", "--format=%h", "--abbrev=10", "--", *_MEASURED)
    return head + ("+" if _git("status", "--porcelain", "--", *_MEASURED) else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process has used, in user and system mode."""
    times = process.cpu_times()
    return float(times.user + times.system)


def read_sizes(sizes: str) -> list[int]:
    """Read "10,100".

    Raises:
        typer.BadParameter: It is something else.
    """
    try:
        return [int(size) for size in sizes.split(",")]
    except ValueError:
        raise typer.BadParameter(f'"{sizes}" is no list of numbers') from None
