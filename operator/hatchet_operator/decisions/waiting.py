"""Messages why an attempt waits although nothing is broken: busy slots, code that no worker has any more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hatchet_operator.decisions.placing import Requirement, satisfies, shown_label
from hatchet_operator.resources.worker_labels import LabelValue
from hatchet_operator.resources.workerpool import WorkerPool

_SHOWN_NAMES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolLoad:
    """A pool's load at a moment.

    Attributes:
        queued: Attempts that wait for a slot.
        running: Attempts that its workers have.
        slots: Of its connected workers, together.
        workers: How many of them there are.
        oldest: Since when the first of those that wait has waited.
        trials: How many workers get nothing else while a suspect of another worker's death is on trial there.
    """

    queued: int = 0
    running: int = 0
    slots: int = 0
    workers: int = 0
    oldest: datetime | None = None
    trials: int = 0


NO_LOAD = PoolLoad()


def why_no_slot(
    name: str,
    load: PoolLoad,
    *,
    before: int,
    pool: WorkerPool | None,
    is_suspect: bool = False,
    only: str | None = None,
) -> str:
    """Say why an attempt stays in the queue of a pool whose workers offer it.

    Args:
        name: The pool's.
        load: The pool's.
        before: How many attempts go before this one.
        pool: The pool; None: it has no object, its workers came by themselves.
        is_suspect: It may have killed its last worker.
        only: The only worker that may take it, which has no room; None: any may.
    """
    if only is not None:
        return f'its workflow is sticky (Hard), so only worker "{only}" may take it, whose slots are busy'
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


def why_bound(
    worker: str, *, step: str, is_known: bool, is_leaving: bool, is_connected: bool, offers_it: bool
) -> str | None:
    """Say why the only worker that may take a step can't; None: it can, or could with a slot."""
    if not is_known:
        why = "is gone for good"
    elif is_leaving:
        why = "takes no new steps any more"
    elif not is_connected:
        why = "is not connected at the moment"
    elif not offers_it:
        why = f'does not offer step "{step}"'
    else:
        return None
    return f'its workflow is sticky (Hard), so only worker "{worker}" may take it, and that {why}'


def why_nobody_offers(name: str, *, workflow: str, step: str, workers: int, offered: Sequence[str]) -> str:
    """Say that the pool has workers, but none with the code of a step.

    Args:
        name: The pool's.
        workflow: Exact name of the workflow.
        step: The step that none of them offers.
        workers: How many workers of the pool are connected.
        offered: Exact names of the workflows that they do offer.
    """
    shown = ", ".join(sorted(offered)[:_SHOWN_NAMES]) + (", …" if len(offered) > _SHOWN_NAMES else "")
    who = f"{workers} connected workers" if workers != 1 else "one connected worker"
    return (
        f'pool "{name}" has {who}, but none that offers step "{step}" of workflow "{workflow}" '
        f"(offered: {shown or 'nothing'}): it may have been renamed, or be in another image"
    )


def why_nobody_fits(
    name: str,
    *,
    workflow: str,
    step: str,
    required: Sequence[Requirement],
    workers: Sequence[Mapping[str, LabelValue]],
) -> str | None:
    """Say that workers of the pool offer a step, but none has the labels that it requires; None: one has.

    Args:
        name: The pool's.
        workflow: Exact name of the workflow.
        step: The step that none of them may take.
        required: Its requirements for a worker's labels.
        workers: The labels of each connected worker that offers the step; there is at least one.
    """
    if any(all(satisfies(labels, *each) for each in required) for labels in workers):
        return None
    missing = [each for each in required if not any(satisfies(labels, *each) for labels in workers)] or required
    keys = dict.fromkeys(each.key for each in missing)
    found = ((key, labels[key]) for labels in workers for key in keys if key in labels)
    there = dict.fromkeys(f'"{key}" is {shown_label(value)}' for key, value in found)
    shown = ", ".join(list(there)[:_SHOWN_NAMES]) + (", …" if len(there) > _SHOWN_NAMES else "")
    who = f"{len(workers)} connected workers that offer" if len(workers) != 1 else "one connected worker that offers"
    return (
        f'pool "{name}" has {who} step "{step}" of workflow "{workflow}", but none with the label that it requires: '
        f"{' and '.join(map(str, missing))} (there is: {shown or 'none of that name'})"
    )
