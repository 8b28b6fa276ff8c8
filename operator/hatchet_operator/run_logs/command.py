"""Runs ``hatchet-operator logs``: from its options to an exit code."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator import terminal
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import OperatorError, words_for_people
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.run_logs.lines import Wanted
from hatchet_operator.run_logs.reader import RunLogs

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """The options of the command.

    Attributes:
        run: Name of the run.
        follow: Continue until it has ended.
        children: Show the runs below it too.
        step: Only lines of this step.
        attempt: Only lines of this attempt, from 1.
        namespace: Where it is; None: the kubeconfig's.
        context: A context of the kubeconfig; None: its current one.
        kubeconfig: How to reach the cluster.
        as_json: Print an object for each line.
    """

    run: str
    follow: bool = False
    children: bool = False
    step: str | None = None
    attempt: int | None = None
    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None
    as_json: bool = False


def show_logs(options: LogOptions) -> int:
    """Print the log of a run; return the exit code of the process."""
    try:
        return asyncio.run(_show(options))
    except OperatorError as error:
        sys.stderr.write(f"error: {terminal.lines(words_for_people(error))}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def _show(options: LogOptions) -> int:
    endpoint = find_endpoint(options.kubeconfig, options.context)
    async with Api(endpoint, user_agent="hatchet-operator-logs", may_write=lambda: False) as api:
        logs = RunLogs(
            api,
            ObjectRef(options.namespace or endpoint.namespace, options.run),
            write=_write_line,
            wanted=Wanted(step=options.step, attempt=options.attempt),
            children=options.children,
            as_json=options.as_json,
        )
        await (logs.follow() if options.follow else logs.show())
    sys.stdout.flush()
    for problem in logs.problems:
        sys.stderr.write(f"error: {terminal.lines(problem)}\n")
    if logs.silence:
        sys.stderr.write(f"{terminal.lines(logs.silence)}\n")
    return 1 if logs.problems else 0


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
