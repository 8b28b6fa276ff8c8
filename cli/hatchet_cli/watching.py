"""A tree of runs as it grows: one list and one watch, however large it is."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.text import Text

from hatchet_cli.drawing import draw_tree
from hatchet_cli.place import CliError, Cluster
from hatchet_cli.reading import family_selector, read_names, read_run
from hatchet_cli.screen import Screen
from hatchet_cli.tree import RunNode, make_tree
from hatchet_operator.cluster.informer import Informer, UidOf
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.run import WorkflowRun

OnRelist = Callable[[str, UidOf], Awaitable[None]]


class WatchedTree:
    """A run and what is below it, drawn on a screen until the run is final.

    Args:
        cluster: Where it is.
        run: As it was read.
        names: Exact names of workflows.
        reruns: The rerun whose end to wait for.
    """

    def __init__(self, cluster: Cluster, run: WorkflowRun, names: dict[str, str], *, reruns: int) -> None:
        self._cluster = cluster
        self._uid = run.metadata.uid
        self._name = run.metadata.name
        self._names = names
        self._runs = {self._uid: run}
        self._tree: RunNode | None = None
        self._changed = asyncio.Event()
        self._is_gone = False
        self._listed: set[str] = set()
        self._reruns = reruns
        self._selector = family_selector(run)

    async def until_final(self, screen: Screen) -> RunNode:
        """Draw it until it is final; return it as it is then.

        Raises:
            CliError: It was deleted meanwhile.
        """
        # A root has no label before its first child, so it is watched by its name as well.
        itself = self._informer(self._compare, field_selector=f"metadata.name={self._name}")
        family = self._informer(self._note_family, label_selector=self._selector)
        screen.show(self._draw)
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(informer.run()) for informer in (itself, family)]
            async with screen.live():
                while not (self._is_gone or self._is_over()):
                    await self._changed.wait()
                    self._changed.clear()
            for task in watching:
                task.cancel()
        if self._is_gone:
            raise CliError(f"run {self._name} was deleted before it ended")
        return self._current()

    def _informer(self, on_relist: OnRelist, **selector: str) -> Informer:
        return Informer(
            self._cluster.api,
            RUNS,
            on_change=self._observe,
            on_relist=on_relist,
            namespace=self._cluster.namespace,
            label_selector=selector.get("label_selector"),
            field_selector=selector.get("field_selector"),
        )

    def _is_over(self) -> bool:
        status = self._runs[self._uid].status
        return status.phase.is_final and status.reruns >= self._reruns and len(self._listed) == 2

    def _observe(self, kind: str, item: Json) -> None:
        uid = item["metadata"]["uid"]
        if kind == "DELETED":
            self._is_gone |= uid == self._uid
            self._runs.pop(uid, None)
        else:
            run = WorkflowRun.model_validate(item)
            known = self._runs.get(uid)
            if known is not None and int(known.metadata.resource_version) > int(run.metadata.resource_version):
                return  # the other watch was faster
            self._runs[uid] = run
        self._tree = None
        self._changed.set()

    async def _compare(self, version: str, uid_of: UidOf) -> None:
        self._is_gone |= uid_of(self._cluster.namespace, self._name) != self._uid
        self._listed.add("itself")
        self._changed.set()

    async def _note_family(self, version: str, uid_of: UidOf) -> None:
        self._listed.add("family")
        self._changed.set()

    def _current(self) -> RunNode:
        if self._tree is None:
            self._tree = make_tree(self._runs.values(), self._uid, names=self._names)
            assert self._tree is not None, "the run itself is there"
        return self._tree

    def _draw(self) -> RenderableType:
        return Text() if self._is_gone else draw_tree(self._current(), now=datetime.now(UTC))


async def watch_tree(cluster: Cluster, name: str, screen: Screen, *, reruns: int = 0) -> RunNode:
    """Draw the tree below a run until that rerun of it is final."""
    run = WorkflowRun.model_validate(await read_run(cluster, name))
    return await WatchedTree(cluster, run, await read_names(cluster), reruns=reruns).until_final(screen)
