"""Whose turn it is among runs whose pods a quota has no room for: in the order in which they came, without overtaking.

Identical pods wait in one line: what is refused to the first is refused to all behind it, so only the first is tried,
and the next when it is gone. Other pods may fit where these do not, so they have lines of their own, and a pod that
fits nowhere only delays its like.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A run's place in line.

    Attributes:
        uid: The run's.
        line: Its namespace, and the specification of its pod.
        priority: The higher goes first.
        since: When the run was created; the older goes first.
        name: Decides between runs created in the same second, which is the resolution of creation times.
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
    """All lines of all namespaces; a run is in one of them or in none."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, Hashable], list[tuple[int, datetime, str, str]]] = {}
        self._places: dict[str, Place] = {}

    def join(self, place: Place) -> None:
        """Put a run in a line, and remove it from any other; if it is in that line already, it keeps its place."""
        if self._places.get(place.uid) == place:
            return
        self.leave(place.uid)
        self._places[place.uid] = place
        insort(self._lines.setdefault(place.line, []), place.order)

    def leave(self, uid: str) -> str | None:
        """Remove a run from its line; return whose turn it is now, if it was this one's."""
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
        """Return the run that is tried before one at this place; None: it is this one's turn."""
        line = self._lines.get(place.line)
        return line[0][3] if line and line[0] < place.order else None

    def behind(self, uid: str) -> Iterator[str]:
        """Yield the others of its line."""
        place = self._places.get(uid)
        return (order[3] for order in self._lines[place.line] if order[3] != uid) if place else iter(())

    def firsts(self, namespace: str) -> list[str]:
        """Return, in order, whose turn it is in a namespace when room was freed there."""
        return [line[0][3] for line in sorted(self._lines_of(namespace), key=lambda line: line[0])]

    def _lines_of(self, namespace: str) -> Iterator[list[tuple[int, datetime, str, str]]]:
        return (line for (where, _), line in self._lines.items() if where == namespace)
