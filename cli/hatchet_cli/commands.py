"""What each command does, from its options to an exit code. Results go to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console, RenderableType

from hatchet_cli import acts
from hatchet_cli.drawing import MAX_SIBLINGS, draw_failure, draw_tree
from hatchet_cli.listing import Wanted, draw_list, in_order
from hatchet_cli.output import Format, write_objects
from hatchet_cli.pages import draw_page
from hatchet_cli.place import FAILED, USAGE, CliError, Cluster, Place, reach
from hatchet_cli.reading import read_names, read_pools, read_run, read_runs, read_tree, read_workflows
from hatchet_cli.screen import Screen
from hatchet_cli.top import draw_pools, watch_pools
from hatchet_cli.tree import RunNode, find_failure, result
from hatchet_cli.watching import watch_tree
from hatchet_cli.why import explain, names_of, where_time_went
from hatchet_operator import terminal
from hatchet_operator.decisions.acts import Act, is_paused
from hatchet_operator.decisions.given_json import object_problem
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Phase
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.run_acts.command import act_and_say

_WIDTH_OF_FILES = 240  # a pipe has no width; nothing is cut there


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A requested run; see `acts.make_run`."""

    workflow: str
    input_text: str
    metadata: dict[str, str] = field(default_factory=dict)
    priority: int | None = None
    name: str | None = None
    start_at: datetime | None = None
    suspended: bool = False


async def start(place: Place, given: NewRun, *, wait: bool) -> int:
    """Start a run; print its name, or, after waiting for its end, its result."""
    if (problem := object_problem(given.input_text, "--input")) is not None:
        raise CliError(problem, exit_code=USAGE)
    async with reach(place) as cluster:
        workflow = await acts.find_workflow(cluster, given.workflow)
        body = acts.make_run(
            workflow.metadata.name,
            given.input_text,
            name=given.name,
            metadata=given.metadata,
            priority=given.priority,
            start_at=given.start_at,
            suspended=given.suspended,
        )
        created = await acts.create(cluster, body)
        name: str = created["metadata"]["name"]
        if not wait:
            sys.stdout.write(f"{name}\n")
            return 0
        sys.stderr.write(f"{name}\n")
        return await _wait(cluster, name)


async def _wait(cluster: Cluster, name: str, *, reruns: int = 0) -> int:
    """Draw a run until it ends; print its result to stdout, or its failure to stderr."""
    screen = Screen(quiet=False)
    root = await watch_tree(cluster, name, screen, reruns=reruns)
    screen.print(draw_tree(root, now=datetime.now(UTC)))
    if root.phase is Phase.SUCCEEDED:
        sys.stdout.write(json.dumps(result(root), ensure_ascii=False, indent=2) + "\n")
        return 0
    if root.phase is Phase.FAILED:
        screen.print("", draw_failure(find_failure(root)))
    why = root.run.status.message
    sys.stderr.write(f"error: run {name}: {root.phase}" + (f": {terminal.lines(why)}" if why else "") + "\n")
    return FAILED


async def list_runs(place: Place, wanted: Wanted, *, limit: int, output: Format) -> int:
    async with reach(place) as cluster:
        names = await read_names(cluster)
        found, objects = await _find(cluster, wanted, names)
    runs = in_order(found)
    shown = runs[:limit]
    if output in (Format.TABLE, Format.WIDE):
        if not runs:
            sys.stderr.write(f'no such runs in namespace "{cluster.namespace}"\n')
            return 0
        _print(draw_list(shown, names=names, now=datetime.now(UTC), wide=output is Format.WIDE))
    else:
        write_objects((objects[run.metadata.uid] for run in shown), output, as_list=True)
    if len(runs) > limit:
        sys.stderr.write(f"… and {len(runs) - limit} more; --limit {len(runs)} shows all\n")
    return 0


async def _find(cluster: Cluster, wanted: Wanted, names: dict[str, str]) -> tuple[list[WorkflowRun], dict[str, Json]]:
    """Find runs, by workflow and phase in the API server, by the rest here; return them, and objects by UID."""
    selectors = []
    if wanted.workflow is not None:
        objects = {exact: name for name, exact in names.items()}
        selectors.append(f"spec.workflow={objects.get(wanted.workflow, wanted.workflow)}")
    if len(wanted.phases) == 1:
        selectors.append(f"status.phase={next(iter(wanted.phases))}")
    found: list[WorkflowRun] = []
    objects_of: dict[str, Json] = {}
    async for item in read_runs(cluster, field_selector=",".join(selectors) or None):
        run = WorkflowRun.model_validate(item)
        if wanted.admits(run):
            found.append(run)
            objects_of[run.metadata.uid] = item
    return found, objects_of


async def show(place: Place, name: str, *, output: Format) -> int:
    async with reach(place) as cluster:
        if output not in (Format.TABLE, Format.WIDE):
            write_objects([await read_run(cluster, name)], output, as_list=False)
            return 0
        _print(draw_page(await read_tree(cluster, name), now=datetime.now(UTC)))
    return 0


async def draw(place: Place, name: str, *, watch: bool) -> int:
    async with reach(place) as cluster:
        root = await (watch_tree(cluster, name, Screen(quiet=False)) if watch else read_tree(cluster, name))
    _print(draw_tree(root, now=datetime.now(UTC)))
    return 0


async def say_why(place: Place, name: str) -> int:
    async with reach(place) as cluster:
        root = await read_tree(cluster, name)
        match root.phase:
            case Phase.FAILED:
                _print(draw_failure(find_failure(root)))
            case Phase.CANCELLED:
                status = root.run.status
                _say(f"run {name} was cancelled: {status.reason}: {status.message or ''}")
            case Phase.SUCCEEDED:
                _say(f"run {name} succeeded in {root.run.status.duration}")
                await _say_where_time_went(cluster, root, at_least=2)
            case _:
                await _say_what_it_waits_for(cluster, root)
                await _say_where_time_went(cluster, root, at_least=MAX_SIBLINGS)
    return 0


async def _say_where_time_went(cluster: Cluster, root: RunNode, *, at_least: int) -> None:
    workflows, pools = await read_workflows(cluster), await read_pools(cluster)
    for line in where_time_went(root, workflows=workflows, pools=pools, now=datetime.now(UTC), at_least=at_least):
        _say(line)


async def _say_what_it_waits_for(cluster: Cluster, root: RunNode) -> None:
    explanation = explain(
        root,
        workflows=await read_workflows(cluster),
        pools=await read_pools(cluster),
        now=datetime.now(UTC),
    )
    for finding in explanation.findings:
        count = len(finding.nodes)
        who = f"{count} runs of {finding.nodes[0].workflow}" if count > 1 else f"run {names_of(finding)}"
        _say(f"{who}: {finding.words}")
        if count > 1:
            _say(f"    {names_of(finding)}")
    for sentence in explanation.around:
        _say(sentence)


async def change_all(place: Place, names: Iterable[str], act: Act, *, wait: bool = False) -> int:
    """Do the same to several runs; one that can't be changed is reported, and does not stop the others."""
    code = 0
    async with reach(place) as cluster:
        for name in dict.fromkeys(names):
            done = await act_and_say(cluster.api, act, ObjectRef(cluster.namespace, name))
            if done is None:
                code = FAILED
            for each in done or () if wait else ():
                reruns = each.before.status.reruns + (not is_paused(each.before))  # a paused run continues as it is
                code = max(code, await _wait(cluster, each.run.name, reruns=reruns))
    return code


async def hold_workflow(place: Place, name: str, *, wanted: bool, done: str) -> int:
    async with reach(place) as cluster:
        found = await acts.suspend_workflow(cluster, name, wanted=wanted)
    sys.stdout.write(f"workflow {found} {done}\n")
    return 0


async def show_pools(place: Place, *, live: bool) -> int:
    async with reach(place) as cluster:
        if live and sys.stderr.isatty():
            await watch_pools(cluster, Screen(quiet=False))
        else:
            _print(draw_pools((await read_pools(cluster)).values(), now=datetime.now(UTC)))
    return 0


def _say(sentence: str) -> None:
    sys.stdout.write(f"{terminal.lines(sentence)}\n")


def _print(drawing: RenderableType) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    with console.capture() as capture:
        console.print(drawing)
    # rich fills lines up to their width
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))
