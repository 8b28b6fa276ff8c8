"""Which workers may take an attempt, and which of these gets it.

    what an attempt needs ─► fits: may a worker take it at all ─► has_room: and now ─► choose_worker: the best of them

Attempts of equal needs may go to the same workers at any moment, so they wait in one line, whose first one represents
all of them; lines of other needs proceed beside it, whatever blocks this one.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from hatchet_operator.resources.worker_labels import Comparator, DesiredLabel, LabelValue

WAITING_PER_SLOT = 10
MOST_RELAXED = 2


class Requirement(NamedTuple):
    """What a worker's label must be."""

    key: str
    comparator: Comparator
    value: LabelValue

    def __str__(self) -> str:
        return f'"{self.key}" {self.comparator} {shown_label(self.value)}'


class Needs(NamedTuple):  # not a dataclass: one is created for each attempt
    """What an attempt needs from the worker that takes it.

    Attributes:
        is_root: Its run has no parent, and may spawn even more.
        suspicion: It may have killed its last worker: how many of `losses.TRIAL_WAITS` are over since then, at most
            `MOST_RELAXED`; None: it is not a suspect.
        labels: What it requires of the worker's labels.
        worker: The id of the only worker that may take it; None: it is not bound to one.
    """

    is_root: bool
    suspicion: int | None = None
    labels: tuple[Requirement, ...] = ()
    worker: str | None = None


class WorkerLoad(Protocol):
    """A worker: its identity and its attempts."""

    @property
    def id(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, LabelValue]: ...
    @property
    def slots(self) -> int: ...
    @property
    def free_slots(self) -> int: ...
    @property
    def occupied(self) -> int: ...
    @property
    def waiting(self) -> int:
        """How many attempts occupy no slot, as they await children."""
        ...

    @property
    def running_suspects(self) -> int:
        """How many suspects of an earlier worker's death occupy a slot."""
        ...

    @property
    def tried_suspects(self) -> int:
        """How many of these are still on trial."""
        ...


def required_labels(desired: Mapping[str, DesiredLabel] | None) -> tuple[Requirement, ...]:
    """Return a step's requirements for its worker's labels; equal requirements are equal values."""
    if not desired:
        return ()
    return tuple(
        Requirement(key, label.comparator, label.value) for key, label in sorted(desired.items()) if label.required
    )


def fits(worker: WorkerLoad, needs: Needs) -> bool:
    """Whether a worker may take an attempt at all."""
    if needs.worker is not None and needs.worker != worker.id:
        return False
    return not needs.labels or all(satisfies(worker.labels, *requirement) for requirement in needs.labels)


def satisfies(labels: Mapping[str, LabelValue], key: str, comparator: Comparator, value: LabelValue) -> bool:
    """Whether a worker's labels are as desired: a text is not a number, and a missing label only fits NotEqual."""
    has = labels.get(key)
    if comparator is Comparator.EQUAL:
        return has == value
    if comparator is Comparator.NOT_EQUAL:
        return has != value
    if not isinstance(has, int) or not isinstance(value, int):
        return False
    match comparator:
        case Comparator.GREATER_THAN:
            return has > value
        case Comparator.GREATER_THAN_OR_EQUAL:
            return has >= value
        case Comparator.LESS_THAN:
            return has < value
        case Comparator.LESS_THAN_OR_EQUAL:
            return has <= value


def weight_of(labels: Mapping[str, LabelValue], desired: Mapping[str, DesiredLabel] | None) -> int:
    """Return how much a worker is preferred for its labels."""
    if not desired:
        return 0
    return sum(label.weight for key, label in desired.items() if satisfies(labels, key, label.comparator, label.value))


def has_room(worker: WorkerLoad, needs: Needs) -> bool:
    """Whether a worker that fits may take an attempt now.

    One whose steps mostly wait for children takes no more runs without a parent, since these would spawn even more, but
    always takes children: they are what the others wait for.
    """
    if worker.free_slots <= 0:
        return False
    if (needs.suspicion is not None or worker.running_suspects) and not _may_join(worker, needs):
        return False
    return not needs.is_root or worker.waiting < worker.slots * WAITING_PER_SLOT


def _may_join(worker: WorkerLoad, needs: Needs) -> bool:
    """Whether an attempt may run beside suspects, or as a suspect beside what runs here already; see `losses`."""
    if needs.suspicion is None:
        return not worker.tried_suspects
    if needs.suspicion < MOST_RELAXED:
        return not worker.running_suspects and (not worker.occupied or needs.suspicion == 1)
    return worker.tried_suspects < max(1, worker.running_suspects - worker.tried_suspects)


class Candidate(Protocol):
    """The properties of a worker that the choice depends on."""

    @property
    def id(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, LabelValue]: ...
    @property
    def free_slots(self) -> int: ...
    @property
    def revisions(self) -> frozenset[str]: ...


C = TypeVar("C", bound=Candidate)


def choose_worker(
    candidates: Iterable[C],
    *,
    revision: str,
    desired: Mapping[str, DesiredLabel] | None = None,
    preferred: str | None = None,
) -> C:
    """Choose the best of the workers that could take an attempt.

    Args:
        candidates: The workers; at least one.
        revision: Among otherwise equal workers, one that registered this definition comes first, then the emptiest.
        desired: The labels that its step desires: their weights take precedence over that.
        preferred: The id of the worker that its run sticks to, which takes precedence over everything.
    """
    if not desired and preferred is None:
        return max(candidates, key=lambda worker: (revision in worker.revisions, worker.free_slots))

    def how_good(worker: C) -> tuple[bool, int, bool, int]:
        weight = weight_of(worker.labels, desired)
        return worker.id == preferred, weight, revision in worker.revisions, worker.free_slots

    return max(candidates, key=how_good)


def shown_label(value: LabelValue) -> str:
    """Return a label's value for messages, so that a text does not look like a number."""
    return str(value) if isinstance(value, int) else f'"{value}"'
