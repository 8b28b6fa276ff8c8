"""Why a run waits, is running, failed or took so long: from the leaves that caused it, in their statuses' words. Pure.

    a failed tree       the path down to the step that failed by itself, with its traceback (`tree.find_failure`)
    an unfinished tree  its leaves: unfinished runs that wait for no child; similar ones are listed once, with a count
    many alike runs     how fast they were spawned, how long they waited and took (`pace`)

What a leaf waits for is in its status; what its workflow and pool say about themselves comes after it, if they are
unhealthy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from hatchet_cli.pace import Pace, Spread, paces
from hatchet_cli.tree import RunNode
from hatchet_operator.durations import format_elapsed
from hatchet_operator.resources.base import Condition
from hatchet_operator.resources.reasons import ConditionType, Phase
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow

_NAMED = 3
_SILENT = "it has not yet said what it waits for; ask again in a few seconds"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What some runs wait for, or do.

    Attributes:
        words: A sentence.
        nodes: The runs, those that have waited longest first.
    """

    words: str
    nodes: tuple[RunNode, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a tree is not finished.

    Attributes:
        findings: Those about most runs first.
        around: What workflows and pools of these runs say about themselves, if they are unhealthy.
    """

    findings: tuple[Finding, ...]
    around: tuple[str, ...]


def explain(
    root: RunNode, *, workflows: Mapping[str, Workflow], pools: Mapping[str, WorkerPool], now: datetime
) -> Explanation:
    """Say what an unfinished tree waits for.

    Args:
        root: The tree.
        workflows: By the names of their objects.
        pools: By name.
        now: The current time, for durations.
    """
    leaves = [node for node in root.walk() if is_leaf(node)]
    alike: dict[str, list[RunNode]] = {}
    for node in sorted(leaves, key=_since):
        words = words_for(node, now) or _words_of_queue(node, workflows, pools) or _SILENT
        alike.setdefault(words, []).append(node)
    findings = [Finding(words=words, nodes=tuple(nodes)) for words, nodes in alike.items()]
    findings.sort(key=lambda finding: -len(finding.nodes))
    return Explanation(findings=tuple(findings), around=tuple(dict.fromkeys(_around(leaves, workflows, pools))))


def is_leaf(node: RunNode) -> bool:
    """Whether a run is not finished, and waits for none of its children."""
    return not node.phase.is_final and all(child.phase.is_final for child in node.children)


def words_for(node: RunNode, now: datetime) -> str | None:
    """Say what a leaf does, without details that differ among similar leaves; None: its status says nothing yet."""
    status = node.run.status
    if status.message and not status.phase.is_final:
        return f"{status.reason}: {status.message}" if status.reason else status.message
    running = [name for name, step in status.steps.items() if step.phase is Phase.RUNNING]
    if running:
        workers = sorted({step.worker for step in status.steps.values() if step.worker} or {"a worker"})
        return f"step {', '.join(running)} is running on {', '.join(workers)}"
    waits = [step for step in status.steps.values() if step.retry_at is not None and step.retry_at > now]
    if waits:
        soonest = min(step.retry_at for step in waits if step.retry_at is not None)
        return f"an attempt failed; the next one begins in {format_elapsed(soonest - now)}"
    if node.run.spec.start_at is not None and node.run.spec.start_at > now:
        return f"it is to start at {node.run.spec.start_at.isoformat()}"
    if node.children:
        return "its children have ended; its own step goes on"
    return None  # the status is written late, to save a write for short runs


def _words_of_queue(node: RunNode, workflows: Mapping[str, Workflow], pools: Mapping[str, WorkerPool]) -> str | None:
    """Only the first runs of a long queue say that they wait; for the others the pool does."""
    workflow = workflows.get(node.run.spec.workflow)
    pool = pools.get(workflow.status.pool or "") if workflow is not None else None
    if pool is None or not pool.status.queued:
        return None
    return f"waiting in the queue of pool {pool.metadata.name}, behind others"


def names_of(finding: Finding) -> str:
    """Name some of the runs: "a, b, c and 9 more"."""
    names = [node.run.metadata.name for node in finding.nodes[:_NAMED]]
    more = len(finding.nodes) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def where_time_went(
    root: RunNode, *, workflows: Mapping[str, Workflow], pools: Mapping[str, WorkerPool], now: datetime, at_least: int
) -> Iterator[str]:
    """Say in lines where the time of the runs below the root went; of one that is over, also what their pools have.

    Args:
        root: The tree.
        workflows: By the names of their objects.
        pools: By name.
        now: The current time, for durations.
        at_least: Of how many runs of a workflow it is told.
    """
    told = paces(root, now=now, at_least=at_least)
    for pace in told:
        yield from _words_of(pace)
    if not root.phase.is_final:
        return  # `explain` has said it
    exact = {pace.workflow for pace in told}
    names = {node.run.spec.workflow for node in root.walk() if node.workflow in exact}
    for name in sorted({workflows[each].status.pool or "" for each in names if each in workflows}):
        if (pool := pools.get(name)) is not None:
            yield f"pool {name}: {_workers(pool)} now"


def _words_of(pace: Pace) -> Iterator[str]:
    yield f"{pace.count} runs of {pace.workflow}, at most {pace.together} at a time"
    yield f"    were spawned within {format_elapsed(max(pace.spawned_within, timedelta(seconds=1)))}"
    if pace.waited is not None:
        yield f"    waited for a worker {_roughly(pace.waited.median)} (median), {_longest(pace.waited, _roughly)}"
    if pace.took is not None:
        yield f"    took {format_elapsed(pace.took.median)} (median), {_longest(pace.took, format_elapsed)}"
    if pace.retried:
        yield f"    needed more than one attempt of a step: {pace.retried}"


def _longest(spread: Spread, format_time: Callable[[timedelta], str]) -> str:
    return f"{format_time(spread.longest)} (longest: {spread.node.run.metadata.name})"


def _roughly(time: timedelta) -> str:
    """Creations are cut to the second, so that a wait is up to one shorter than it looks."""
    return format_elapsed(time) if time > timedelta(seconds=1) else "under a second"


def _workers(pool: WorkerPool) -> str:
    workers = _counted(pool.status.ready_replicas, "connected worker")
    return f"{workers} with {_counted(pool.status.slots, 'slot')} (maxReplicas {pool.spec.largest})"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _since(node: RunNode) -> tuple[float, str]:
    created = node.run.metadata.creation_timestamp
    return created.timestamp() if created else 0.0, node.run.metadata.name


def _around(
    leaves: Iterable[RunNode], workflows: Mapping[str, Workflow], pools: Mapping[str, WorkerPool]
) -> Iterable[str]:
    names = sorted({node.run.spec.workflow for node in leaves})
    concerned = [workflows[name] for name in names if name in workflows]
    for workflow in concerned:
        yield from _unwell(f"workflow {workflow.metadata.name}", workflow.status.conditions)
    for name in sorted({workflow.status.pool for workflow in concerned if workflow.status.pool}):
        if (pool := pools.get(name)) is None:
            yield f"pool {name} does not exist"
            continue
        yield from _unwell(f"pool {name}", pool.status.conditions)
        status = pool.status
        if status.queued:
            have = _counted(status.running, "attempt")
            yield f"pool {name}: {_workers(pool)}; they have {have}, and {status.queued} wait"


def _unwell(who: str, conditions: Iterable[Condition]) -> Iterable[str]:
    for condition in conditions:
        is_bad = condition.status == ("True" if condition.type == ConditionType.STALLED else "False")
        if is_bad and condition.message and condition.type != ConditionType.READY:  # which sums up the others
            yield f"{who}: {condition.reason}: {condition.message}"
