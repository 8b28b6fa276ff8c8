"""``--run``: start one run, draw its progress, write its result to stdout."""

import asyncio
import difflib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from hatchet_cli.drawing import draw_failure, draw_tree, title
from hatchet_cli.screen import Screen
from hatchet_cli.tree import FailedStep, Failure, RunNode, find_failure, result
from hatchet_operator.cluster.kinds import RUNS, WORKFLOWS
from hatchet_operator.errors import Refused
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.workflow import Workflow
from hatchet_operator.terminal import one_line
from hatchet_operator_dev.errors import DevError
from hatchet_operator_dev.local import Local
from hatchet_operator_dev.view import View, WorkerPod
from hatchet_operator_dev.worker_pool import NAMESPACE

_HINT_SECONDS = 3.0
_JSON_WIDTH = 88


async def run_once(local: Local, workflow_name: str, input_text: str) -> None:
    """Run a workflow to its end and print what its steps returned.

    Raises:
        DevError: The worker failed before it registered, there is no such workflow, or the run did not succeed.
    """
    cluster, screen, output = local.cluster, local.screen, local.output
    workflow = await _wait_for_workflow(local, workflow_name)
    try:
        input_text = await cluster.input_to_keep(input_text)
        run = await cluster.api.create(RUNS, NAMESPACE, make_run(workflow.metadata.name, input_text))
    except Refused as error:
        raise DevError(str(error), exit_code=2) from error
    root_uid: str = run["metadata"]["uid"]
    screen.show(lambda: _draw(cluster.view, root_uid))
    try:
        root = await _wait_for_end(cluster.view, root_uid, run["metadata"]["name"], screen)
    except asyncio.CancelledError:
        screen.show(Text)
        screen.print(_draw(cluster.view, root_uid))  # how far it came
        raise
    screen.show(Text)
    output.hold_back()
    screen.print(draw_tree(root, now=datetime.now(UTC)))
    _finish(root, screen, await cluster.texts_of(root.run))


def unfinished_runs(view: View) -> list[str]:
    """Name the runs that have not ended, roots first."""
    runs = [run for run in view.runs.values() if not run.status.phase.is_final]
    return [run.metadata.name for run in sorted(runs, key=lambda run: run.spec.parent is not None)]


def make_run(workflow: str, input_text: str) -> Json:
    """Return a WorkflowRun of the workflow with this object name."""
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {"generateName": f"{workflow}-"},
        "spec": {"workflow": workflow, "inputJson": input_text},
    }


async def _wait_for_workflow(local: Local, name: str) -> Workflow:
    view, screen = local.cluster.view, local.screen
    if not local.workers:
        screen.show_status("waiting for the operator")
        await local.say_how_to_start_a_worker()
    screen.show_status(says_what_it_waits_for(local))
    hint_at = asyncio.get_running_loop().time() + _HINT_SECONDS
    while True:
        pods = list(view.pods.values())
        if any(pod.is_registered for pod in pods):  # and with it all of its workflows
            if found := _find(name, view.registered_workflows()):
                return found
            # Another watch may show them a moment later.
            listed, _ = await local.cluster.api.list_all(WORKFLOWS, NAMESPACE)
            workflows = [Workflow.model_validate(item) for item in listed]
            if found := _find(name, workflows):
                return found
            raise _unknown_workflow(name, local.shown, sorted(workflow.exact_name for workflow in workflows))
        if not local.workers and (found := _find(name, view.registered_workflows())):
            return found
        if failed := next((pod for pod in pods if pod.trouble), None):
            raise worker_failed(failed, local)
        await view.change(within_seconds=1)
        if asyncio.get_running_loop().time() > hint_at:
            hint_at = float("inf")
            screen.show_status(
                says_what_it_waits_for(local, name, last_lines=[local.output.of(pod.name) for pod in pods])
            )


def says_what_it_waits_for(local: Local, workflow: str | None = None, *, last_lines: Sequence[str] = ()) -> str:
    """Say it of the time before a worker has registered.

    Args:
        local: What runs.
        workflow: What is wanted of the worker, if it is late.
        last_lines: What workers have written, if they are late.
    """
    if local.waits_for_debugger is not None:
        return f"{local.shown} waits for a debugger at 127.0.0.1:{local.waits_for_debugger}"
    if not local.workers:
        return f'waiting for a worker that registers "{workflow}"' if workflow else "waiting for a worker"
    if workflow is None:
        return f"starting {local.shown}"
    last = next((one_line(text.splitlines()[-1]) for text in last_lines if text), None)
    said = f"; it wrote last: {last}" if last else ""
    return f"{local.shown} runs, but has not registered yet; does it call worker.start()?{said}"


def worker_failed(pod: WorkerPod, local: Local) -> DevError:
    """Return the error for a worker that ended, or could not start, before it registered."""
    worker, details = local.shown, local.output.not_shown(pod.name)
    if pod.last_exit_code is None:
        return DevError(f"{worker} could not be started: {pod.trouble}", details=details)
    if pod.last_exit_code == 0:
        return DevError(
            f"{worker} ended without registering a workflow; call worker.start() at its end, as in\n"
            '           if __name__ == "__main__":\n'
            "               main()",
            details=details,
        )
    how = f"exit code {pod.last_exit_code}"
    as_module = local.program.as_module if local.program is not None else None
    hint = (
        f"; in a package, run it as a module: {as_module}"
        if as_module and "relative import" in local.output.of(pod.name)
        else ""
    )
    return DevError(f"{worker} failed before it registered a workflow ({how}){hint}", details=details)


def _find(name: str, workflows: Iterable[Workflow]) -> Workflow | None:
    for workflow in workflows:
        if workflow.status.definition is not None and name in (workflow.exact_name, workflow.metadata.name):
            return workflow
    return None


def _unknown_workflow(name: str, worker: str, known: list[str]) -> DevError:
    if not known:
        return DevError(f"{worker} registers no workflow; call worker.register_workflow(…) in it", exit_code=2)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    guess = f'; did you mean "{close[0]}"?' if close else ""
    return DevError(f'{worker} has no workflow "{name}" (it registers: {", ".join(known)}){guess}', exit_code=2)


async def _wait_for_end(view: View, root_uid: str, name: str, screen: Screen) -> RunNode:
    has_been_seen = False
    while True:
        root = view.runs.get(root_uid)
        if root is not None and root.status.phase.is_final:
            tree = view.tree(root_uid)
            assert tree is not None, "its root is there"
            return tree
        if root is None and has_been_seen:
            raise DevError(f"run {name} was deleted before it ended")
        has_been_seen = root is not None
        screen.wait_for(_what_it_waits_for(view, name))
        await view.change()


def _what_it_waits_for(view: View, name: str) -> str:
    for run in view.runs.values():
        if not run.status.phase.is_final and run.status.message:
            return one_line(f"run {run.metadata.name} waits: {run.status.message}")
    return f"run {name} goes on"


def _draw(view: View, root_uid: str) -> RenderableType:
    tree = view.tree(root_uid)
    return Text() if tree is None else draw_tree(tree, now=datetime.now(UTC))


def _finish(root: RunNode, screen: Screen, texts: Mapping[str, str]) -> None:
    match root.phase:
        case Phase.SUCCEEDED:
            sys.stdout.write(format_json(result(root, texts)) + "\n")
            sys.stdout.flush()
        case Phase.CANCELLED:
            why = root.run.status.message
            report = {"run": root.label, "workflow": root.workflow, "error": why or "cancelled"}
            raise DevError(f"run {root.label} was cancelled" + (f": {why}" if why else ""), report=report)
        case _:
            failure = find_failure(root)
            drawing = draw_failure(failure)
            screen.print("", drawing, "")
            cause = failure.cause
            where = f" in step {cause.step} of {title(cause.node)}" if cause.step else f": {cause.error.headline}"
            raise DevError(
                one_line(f"run {root.label} failed{where}"),
                details=screen.plain(drawing) if screen.console.quiet else "",  # which has not shown it
                report=report_failure(failure),
            )


def report_failure(failure: Failure) -> Json:
    """Return a failure for programs: the root's, its cause's where that is another, and what else failed."""

    def report(failed: FailedStep) -> Json:
        return {
            "run": failed.node.run.metadata.name,
            "workflow": failed.node.workflow,
            "key": failed.node.run.spec.parent.key if failed.node.run.spec.parent else None,
            "step": failed.step,
            "attempt": failed.attempt,
            "error": failed.error.headline,
            "traceback": f"{failed.error.way}{failed.error.words}",
        }

    cause = None if failure.were_tolerated else report(failure.cause)
    return report(failure.path[0]) | {"cause": cause, "alsoFailed": [report(other) for other in failure.others]}


def format_json(value: Any, indent: str = "") -> str:
    """Write JSON for people: what fits into a line stays in one, the rest gets a line per entry."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(text) <= _JSON_WIDTH or not isinstance(value, dict | list) or not value:
        return text
    deeper = indent + "  "
    if isinstance(value, dict):
        entries = [f"{json.dumps(k, ensure_ascii=False)}: {format_json(v, deeper)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        entries = [format_json(entry, deeper) for entry in value]
        opening, closing = "[", "]"
    separator = f",\n{deeper}"
    return f"{opening}\n{deeper}{separator.join(entries)}\n{indent}{closing}"
