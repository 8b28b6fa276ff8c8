"""The Lease that all operators of one number of shards hold together: it says how many there are.

Operators with another number wait until it is free. Any of those that hold it renews it: the first in line usually,
each of the others a pause later, if it does not. So one that could not renew it, nor see another do so, knows that by
then another number may be in force, and leads no shard any more.
"""

import asyncio
import logging
import math
from collections.abc import Callable

from hatchet_operator.cluster.leases import (
    Leases,
    LeaseTimes,
    LeaseWatch,
    annotations_of,
    duration_of,
    holder_of,
    transitions_of,
    without_predecessor,
    written_now,
)
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

_NEVER = float("-inf")


class ShardsInForce:
    """Takes part in keeping a number of shards in force.

    Args:
        leases: The election's Leases.
        name: This one's.
        shards: How many there are.
        times: How long things take.
        clock: Monotonic seconds, which also count while this process is paused.
        changed: Set when it was just taken.
    """

    def __init__(
        self,
        leases: Leases,
        name: str,
        *,
        shards: int,
        times: LeaseTimes,
        clock: Callable[[], float],
        changed: asyncio.Event,
    ) -> None:
        self._leases = leases
        self._name = name
        self._shards = shards
        self._times = times
        self._clock = clock
        self._changed = changed
        self._watch = LeaseWatch(times)
        self._version = ""
        self._asked_before = _NEVER
        self.in_force_until = _NEVER
        """Until then, at least, no other number can be in force."""

    def forget(self) -> None:
        """Rely on nothing that was seen or written so far."""
        self.in_force_until = _NEVER

    async def keep(self, lease: Json | None, asked_at: float, *, rank: int) -> None:
        """Take or renew the Lease that says how many shards there are.

        The first member does; the others in line, each a pause later, if it does not.
        """
        asked_before, self._asked_before = self._asked_before, asked_at
        if lease is None:
            await self._write(self._leases.first(self._name), asked_at)
            self._changed.set()  # shards are dealt at once
            return
        unchanged_for = self._watch.look_at(lease, self._clock())
        version = lease["metadata"]["resourceVersion"]
        version_before, self._version = self._version, version
        holder = holder_of(lease)
        if holder == self._together:
            if version_before not in ("", version):
                # Somebody renewed it, after we had asked the time before: another counts from then on at the earliest.
                self.in_force_until = max(self.in_force_until, asked_before + self._times.renew_deadline)
            if unchanged_for >= self._times.retry * rank or self._clock() >= self.in_force_until:
                await self._write(lease, asked_at)
            return
        self.in_force_until = _NEVER
        if not holder or unchanged_for >= duration_of(lease):
            await self._write(lease, asked_at)
            self._changed.set()
            log.info("shards in force", extra={"lease": self._leases.shown, "shards": self._shards, "before": holder})

    async def _write(self, lease: Json, asked_at: float) -> None:
        annotations = without_predecessor(annotations_of(lease))  # one that led everything
        transitions = transitions_of(lease)
        if annotations.get(labels.SHARDS) != f"{self._shards}@{transitions}":
            transitions += 1
        annotations[labels.SHARDS] = f"{self._shards}@{transitions}"
        now = written_now()
        taken = {} if holder_of(lease) == self._together else {"acquireTime": now}
        body = self._leases.changed(
            lease,
            annotations,
            {
                "holderIdentity": self._together,
                "leaseDurationSeconds": math.ceil(self._times.duration),
                "renewTime": now,
                "leaseTransitions": transitions,
                **taken,
            },
        )
        written = await self._leases.write(body)
        self._version = written["metadata"]["resourceVersion"]
        self.in_force_until = asked_at + self._times.renew_deadline

    async def release(self) -> None:
        """Give the Lease up if it still has our number, so that another number needn't wait until it expires."""
        lease = await self._leases.read(self._name)
        if lease is not None and holder_of(lease) == self._together:
            released = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": written_now()}
            await self._leases.write(self._leases.changed(lease, annotations_of(lease), released))

    def mark_of(self, common: Json | None) -> str | None:
        """Return since when so many shards are in force, as shards' Leases say it; None: they are not."""
        if holder_of(common) != self._together:
            return None
        return annotations_of(common).get(labels.SHARDS)

    @property
    def _together(self) -> str:
        return f"{self._shards} shards"
