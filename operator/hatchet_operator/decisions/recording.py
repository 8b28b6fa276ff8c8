"""Whether a child begins without an object, which is then made with its first status, or has one from the start.

    asked for, or its workflow says so ─► light, unless it has something that only an object can keep

What a full record is needed for is a rule of its own below, and a sentence in the SDK's documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.resources.reasons import Execution, Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Spawned:
    """A child that is about to begin.

    Attributes:
        asked: What its parent asked for; None: its workflow decides.
        is_kept_by_client: Its client spawns it again if nothing was recorded when its operator ended.
        graph: What it will execute; None: no worker has registered that yet.
        is_deduplicated: It has a deduplication value, which its object reserves.
        is_scheduled: It begins at a later time.
    """

    asked: Record | None
    is_kept_by_client: bool
    graph: Graph | None
    is_deduplicated: bool = False
    is_scheduled: bool = False


Need = Callable[[Spawned, Graph], bool]


def waits_for_a_time(child: Spawned, graph: Graph) -> bool:
    return child.is_scheduled


def reserves_a_value(child: Spawned, graph: Graph) -> bool:
    return child.is_deduplicated or graph.idempotency is not None


def waits_for_its_group(child: Spawned, graph: Graph) -> bool:
    """The order of a group is that of its objects, over restarts too."""
    return bool(graph.concurrency) or graph.asks_for_group


def owns_a_pod(child: Spawned, graph: Graph) -> bool:
    return graph.execution is Execution.POD


NEEDS: tuple[Need, ...] = (waits_for_a_time, reserves_a_value, waits_for_its_group, owns_a_pod)
"""What only an object can keep; one of them is enough."""


def begins_light(child: Spawned) -> bool:
    """Whether a child begins without an object."""
    if not child.is_kept_by_client or (graph := child.graph) is None:
        return False  # without a graph it may wait for long, so people have to see it
    if (child.asked or graph.record) is not Record.RESULT:
        return False
    return not any(needs(child, graph) for needs in NEEDS)
