"""Runs ``hatchet-operator events push``: from its options to an exit code."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator import terminal
from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.engine.triggers.events import PushedEvent, read_event
from hatchet_operator.errors import OperatorError, words_for_people
from hatchet_operator.event_push.push import Pushed, push_event

_INTERRUPTED = 130
_KEYS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """The options of the command.

    Attributes:
        key: The event's key.
        payload: JSON text; "": {}.
        event_id: Which event it is; None: a new id is generated.
        metadata: JSON text.
        scope: Which filters are evaluated.
        priority: The priority of the runs.
        as_json: Print JSON.
        namespace: The workflows' namespace; None: the kubeconfig's.
        context: A context of the kubeconfig; None: its current one.
        kubeconfig: How to reach the cluster.
    """

    key: str
    payload: str = ""
    event_id: str | None = None
    metadata: str | None = None
    scope: str | None = None
    priority: int | None = None
    as_json: bool = False
    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


def push(options: PushOptions) -> int:
    """Push an event, print what it started, and return the exit code of the process."""
    try:
        return asyncio.run(_push(options))
    except OperatorError as error:
        sys.stderr.write(f"error: {terminal.lines(words_for_people(error))}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


async def _push(options: PushOptions) -> int:
    endpoint = find_endpoint(options.kubeconfig, options.context)
    event = read_event(
        Caller(namespace=options.namespace or endpoint.namespace, pool=""),
        options.key,
        options.payload,
        event_id=options.event_id or "",
        metadata=options.metadata or "",
        priority=options.priority,
        scope=options.scope,
    )
    async with Api(endpoint, user_agent="hatchet-operator-events", may_write=always) as api:
        pushed = await push_event(api, event)
    sys.stdout.write(_as_json(event, pushed) if options.as_json else _as_lines(pushed))
    for problem in pushed.problems:
        sys.stderr.write(f"warning: {terminal.lines(problem)}\n")
    if not pushed.runs:
        sys.stderr.write(f"{terminal.lines(_nothing(event, pushed))}\n")
    return 0


def _as_lines(pushed: Pushed) -> str:
    return "".join(
        f"run {run.name} of workflow {run.workflow} {'started' if run.created else 'was there'}\n"
        for run in pushed.runs
    )


def _as_json(event: PushedEvent, pushed: Pushed) -> str:
    runs = [{"workflow": run.workflow, "name": run.name, "created": run.created} for run in pushed.runs]
    return json.dumps({"id": event.id, "key": event.key, "runs": runs}) + "\n"


def _nothing(event: PushedEvent, pushed: Pushed) -> str:
    keys = ", ".join(f'"{key}"' for key in pushed.keys[:_KEYS_SHOWN]) or "none"
    more = ", …" if len(pushed.keys) > _KEYS_SHOWN else ""
    where = f'in namespace "{event.caller.namespace}"'
    return f'no workflow {where} wants event "{event.key}" (keys that workflows name: {keys}{more})'
