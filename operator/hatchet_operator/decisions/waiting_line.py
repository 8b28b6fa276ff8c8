"""Whose turn it is among runs whose pods a quota has no room for: the order in which they came, and nobody overtakes.

Pods that are made alike stand in one line: what is refused to the first is refused to all behind it, so only the first
is tried, and the next when it is gone. Others may fit where these do not, so they have lines of their own, and a pod
that fits nowhere holds up nobody but its like.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a run stands.

    Attributes:
        uid: The run's.
        line: Its namespace, and what its pod is made from.
        priority: The higher goes first.
        since: When the run was created; the older goes first.
        name: Decides between runs of one second, which is all that a creation time tells.
    """

    uid: str
    line: tuple[str, Hashable]
    priority: int
    since: datetime
    name: str

    @property
    def order(self) -> tuple[int, datetime, str, str]:
        return -self.priority, self.since, self.name, self.uid


class WaitingLines:
    """All lines of all namespaces; a run stands in one of them or in none."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, Hashable], list[tuple[int, datetime, str, str]]] = {}
        self._places: dict[str, Place] = {}

    def join(self, place: Place) -> None:
        """Stand in a line, and in no other one; who stands in it already stays."""
        if self._places.get(place.uid) == place:
            return
        self.leave(place.uid)
        self._places[place.uid] = place
        insort(self._lines.setdefault(place.line, []), place.order)

    def leave(self, uid: str) -> str | None:
        """Stand in no line any more; return whose turn it is now, if it was this one's."""
        place = self._places.pop(uid, None)
        if place is None:
            return None
        line = self._lines[place.line]
        index = bisect_left(line, place.order)
        del line[index]
        if not line:
            del self._lines[place.line]
        return line[0][3] if line and index == 0 else None

    def __contains__(self, uid: str) -> bool:
        return uid in self._places

    def first_before(self, place: Place) -> str | None:
        """Return who is tried instead of one that stands, or would stand, there; None: it is its turn."""
        line = self._lines.get(place.line)
        return line[0][3] if line and line[0] < place.order else None

    def behind(self, uid: str) -> Iterator[str]:
        """Yield the others of its line."""
        place = self._places.get(uid)
        return (order[3] for order in self._lines[place.line] if order[3] != uid) if place else iter(())

    def firsts(self, namespace: str) -> list[str]:
        """Return whose turn it is in a namespace when something was freed there, in their order."""
        return [line[0][3] for line in sorted(self._lines_of(namespace), key=lambda line: line[0])]

    def _lines_of(self, namespace: str) -> Iterator[list[tuple[int, datetime, str, str]]]:
        return (line for (where, _), line in self._lines.items() if where == namespace)
