"""Why an attempt waits although nothing is broken, in words: slots that are busy, code that nobody has any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hatchet_operator.resources.workerpool import WorkerPool

_SHOWN_NAMES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolLoad:
    """What a pool has to do, at a moment.

    Attributes:
        queued: Attempts that wait for a slot.
        running: Attempts that its workers have.
        slots: Of its connected workers, together.
        workers: How many of them there are.
        oldest: Since when the first of those that wait has waited.
        trials: Workers that get nothing while a suspect of another worker's death is tried on them.
    """

    queued: int = 0
    running: int = 0
    slots: int = 0
    workers: int = 0
    oldest: datetime | None = None
    trials: int = 0


NO_LOAD = PoolLoad()


def why_no_slot(name: str, load: PoolLoad, *, before: int, pool: WorkerPool | None, is_suspect: bool = False) -> str:
    """Say what keeps an attempt in the queue of a pool whose workers offer it.

    Args:
        name: Of the pool.
        load: What the pool has to do.
        before: How many attempts go before this one.
        pool: None: nobody made the pool, its workers came by themselves.
        is_suspect: It may have ended its last worker.
    """
    busy = f"all {load.slots} slots are" if load.slots != 1 else "the only slot is"
    queue = f"{before} to go before it" if before else "it is the next"
    running = f"{load.running} steps run" if load.running != 1 else "one step runs"
    text = f'{busy} busy in pool "{name}": {running}, {queue}'
    if is_suspect:
        text = (
            f'it may have ended its last worker, so it waits for one in pool "{name}" where nothing else runs; {queue}'
        )
    elif load.running < load.slots and load.trials:
        text = (
            f'pool "{name}" has free slots, but a step that may have ended its last worker is tried alone on '
            f"{load.trials} of its {load.workers} workers, for a minute at most; {queue}"
        )
    elif load.running < load.slots:
        text = (
            f'pool "{name}" has free slots, but its workers hold as many steps that wait for their children as they '
            f"may; {queue}"
        )
    if pool is None:
        return f"{text}; another worker would help"
    if load.workers >= pool.spec.largest:
        its = f"its {pool.spec.largest} pods" if pool.spec.largest != 1 else "its only pod"
        return f"{text}; the pool has {its} (maxReplicas): raise that, or its slots, for more"
    return f"{text}; the pool may have {pool.spec.largest} pods, of which {load.workers} are connected"


def why_nobody_offers(name: str, *, workflow: str, step: str, workers: int, offered: Sequence[str]) -> str:
    """Say that workers of the pool are there, but none that has the code of a step.

    Args:
        name: Of the pool.
        workflow: Exact name of the workflow.
        step: That nobody offers.
        workers: How many workers of the pool are connected.
        offered: Exact names of the workflows that they do offer.
    """
    shown = ", ".join(sorted(offered)[:_SHOWN_NAMES]) + (", …" if len(offered) > _SHOWN_NAMES else "")
    who = f"{workers} connected workers" if workers != 1 else "one connected worker"
    return (
        f'pool "{name}" has {who}, but none that offers step "{step}" of workflow "{workflow}" '
        f"(offered: {shown or 'nothing'}): it may have been renamed, or be in another image"
    )
