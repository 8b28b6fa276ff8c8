"""Runs ``hatchet-operator cancel`` and similar commands: from the options to an exit code."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator import terminal
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.decisions.acts import Act
from hatchet_operator.errors import OperatorError, words_for_people
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.run_acts.acts import Done, act_on

_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class ActOptions:
    """The options of the command.

    Attributes:
        act: What to do.
        runs: Names of the runs.
        namespace: Where they are; None: the kubeconfig's.
        context: A context of the kubeconfig; None: its current one.
        kubeconfig: How to reach the cluster.
    """

    act: Act
    runs: tuple[str, ...]
    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


def act_on_runs(options: ActOptions) -> int:
    """Apply the act to each run, and print the results; return the exit code: 1 if any was refused."""
    try:
        return asyncio.run(_act(options))
    except OperatorError as error:
        sys.stderr.write(f"error: {terminal.lines(words_for_people(error))}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


async def _act(options: ActOptions) -> int:
    endpoint = find_endpoint(options.kubeconfig, context=options.context)
    namespace = options.namespace or endpoint.namespace
    async with Api(endpoint, user_agent="hatchet-operator-cli", may_write=always) as api:
        refs = [ObjectRef(namespace, name) for name in dict.fromkeys(options.runs)]
        done = [await act_and_say(api, options.act, ref) for ref in refs]
    return 0 if None not in done else 1


async def act_and_say(api: Api, act: Act, ref: ObjectRef) -> list[Done] | None:
    """Apply an act to a run, and print what will happen; return what was done, or None if any of it was refused."""
    try:
        done = await act_on(api, act, ref)
    except OperatorError as error:
        sys.stderr.write(f"error: {terminal.lines(words_for_people(error))}\n")
        return None
    for each in done:
        line = terminal.lines(f"run {each.run} {each.verdict.says}")
        if each.verdict.is_refused:
            sys.stderr.write(f"error: {line}\n")
        else:
            sys.stdout.write(f"{line}\n")
    return None if any(each.verdict.is_refused for each in done) else done
