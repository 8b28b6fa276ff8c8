"""Pools and workflows as they are now, drawn again with each change."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hatchet_cli.listing import cut_short, elapsed
from hatchet_cli.place import Cluster
from hatchet_cli.screen import Screen
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import POOLS
from hatchet_operator.resources.base import Condition, Json
from hatchet_operator.resources.reasons import ConditionType
from hatchet_operator.resources.workerpool import WorkerPool

_BAR = 12


def draw_pools(pools: Iterable[WorkerPool], *, now: datetime) -> RenderableType:
    """Draw pools, those with the longest queue first."""
    table = Table(box=None, pad_edge=False, header_style="")
    for column in ("POOL", "WORKERS", "SLOTS", "", "RUNNING", "QUEUED", "OLDEST", "STATE"):
        table.add_column(column, no_wrap=column != "STATE", overflow="fold")
    for pool in sorted(pools, key=lambda each: (-each.status.queued, each.metadata.name)):
        status = pool.status
        table.add_row(
            Text(pool.metadata.name),
            Text(f"{status.ready_replicas}/{status.desired_replicas}"),
            Text(str(status.slots)),
            _bar(status.running, status.slots),
            Text(str(status.running)),
            Text(str(status.queued), "yellow" if status.queued else ""),
            Text(elapsed(status.oldest_queued_at, None, now)),
            _state(status.conditions),
        )
    return table if table.row_count else Text("no pools here", "dim")


def _bar(taken: int, slots: int) -> Text:
    filled = round(_BAR * min(taken / slots, 1.0)) if slots else 0
    return Text("━" * filled, "cyan").append("━" * (_BAR - filled), "dim")


def _state(conditions: Iterable[Condition]) -> Text:
    for condition in conditions:
        if condition.type == ConditionType.AVAILABLE:
            if condition.status == "True":
                return Text("Available", "green")
            state = cut_short(f"{condition.reason}: {condition.message}")
            state.stylize("red")
            return state
    return Text("new", "dim")


async def watch_pools(cluster: Cluster, screen: Screen) -> None:
    """Draw pools until Ctrl-C."""
    pools: dict[str, WorkerPool] = {}
    informer = Informer(cluster.api, POOLS, on_change=_keeper(pools), namespace=cluster.namespace)
    screen.show(lambda: draw_pools(pools.values(), now=datetime.now(UTC)))
    async with screen.live():
        with suppress(asyncio.CancelledError):
            await informer.run()
    screen.print(draw_pools(pools.values(), now=datetime.now(UTC)))


def _keeper(pools: dict[str, WorkerPool]) -> Callable[[str, Json], None]:
    def keep(kind: str, item: Json) -> None:
        if kind == "DELETED":
            pools.pop(item["metadata"]["uid"], None)
        else:
            pools[item["metadata"]["uid"]] = WorkerPool.model_validate(item)

    return keep
