"""Which worker gets an attempt."""

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the choice depends on."""

    @property
    def free_slots(self) -> int: ...
    @property
    def revisions(self) -> frozenset[str]: ...


C = TypeVar("C", bound=Candidate)


def choose_worker(candidates: Iterable[C], *, revision: str) -> C:
    """Choose a worker that registered the same definition, if there is one; among equals the emptiest.

    Candidates are workers that could take the attempt; there is at least one.
    """
    return max(candidates, key=lambda worker: (revision in worker.revisions, worker.free_slots))
