"""Which operators take part: those that renew their Leases. One that does not loses its Lease, and so its part."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.cluster.leases import Leases, LeaseTimes, LeaseWatch, annotations_of, duration_of, holder_of
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

Tried = Callable[[Callable[[], Awaitable[object]]], Awaitable[bool]]


class Members:
    """The members of an election with one number of shards.

    Args:
        leases: Their Leases.
        shards: How many shards those have that we take part with.
        times: How long things take.
        clock: Monotonic seconds.
        changed: Set when the process of one is found to be gone.
        tried: Takes a step; false: its outcome is unknown, or another was faster.
    """

    def __init__(
        self,
        leases: Leases,
        *,
        shards: int,
        times: LeaseTimes,
        clock: Callable[[], float],
        changed: asyncio.Event,
        tried: Tried,
    ) -> None:
        self._leases = leases
        self._shards = shards
        self._times = times
        self._clock = clock
        self._changed = changed
        self._tried = tried
        self._watches: dict[str, LeaseWatch] = {}
        self._sights: dict[str, LeaderSight] = {}

    def lose_sight(self) -> None:
        """Close the connections that show whether processes exist."""
        for sight in self._sights.values():
            sight.forget()

    def forget(self) -> None:
        """Lose sight of all, as we take part no more."""
        self.lose_sight()
        self._sights.clear()

    async def alive(self, leases: dict[str, Json], identity: str) -> set[str]:
        """Return the identities of the members; those that do not renew their Leases lose them, and are none.

        Args:
            leases: All Leases by name.
            identity: Our own.
        """
        members = {
            name: lease
            for name, lease in leases.items()
            if lease["metadata"].get("labels", {}).get(labels.MEMBER_OF) == str(self._shards)
        }
        for name in self._watches.keys() - members.keys():
            del self._watches[name]
        for name in self._sights.keys() - members.keys():
            self._sights.pop(name).forget()
        alive = set()
        for name, lease in members.items():
            holder = holder_of(lease)
            if holder == identity or not (self._is_dead(name, lease) and await self._bury(name, lease)):
                alive.add(holder)
        return alive - {""}

    def _is_dead(self, name: str, lease: Json) -> bool:
        watch = self._watches.setdefault(name, LeaseWatch(self._times))
        unchanged_for = watch.look_at(lease, self._clock())
        if unchanged_for >= (duration_of(lease) or self._times.duration):
            return True
        sight = self._sights.setdefault(name, LeaderSight(self._changed))
        is_gone = sight.look_at(holder_of(lease), annotations_of(lease).get(labels.LEADS_AT))
        return is_gone and watch.could_have_renewed(unchanged_for)

    async def _bury(self, name: str, lease: Json) -> bool:
        """Delete the Lease of one that seems dead, unless it was renewed just now; return whether it is gone."""
        metadata = lease["metadata"]

        async def delete() -> None:
            await self._leases.delete(name, uid=metadata["uid"], resource_version=metadata["resourceVersion"])

        if not await self._tried(delete):
            return False
        log.warning("operator is gone", extra={"lease": name, "identity": holder_of(lease)})
        return True
