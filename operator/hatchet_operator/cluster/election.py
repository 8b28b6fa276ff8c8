"""Which of several operators acts: a Lease, held by one at a time.

    standby ─ nobody holds it, or its holder has been silent for as long as the Lease says ───► leader
       ▲                                                                                        │
       └── another took it, or it could not be renewed in time: lost, before it can be another's ┘

Clocks of two machines are never compared: a standby measures with its own how long the Lease stays unchanged, a leader
how long ago it *requested* the last successful renewal. A leader whose process is gone need not be waited for: see
`leader_sight`. A process that was paused finds out by `is_leading`, which
looks at the clock, and must be checked before anything that only a leader may do.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.cluster.leases import (
    Leases,
    LeaseTimes,
    LeaseWatch,
    annotations_of,
    duration_of,
    holder_of,
    monotonic,
    transitions_of,
    without_predecessor,
    written_now,
)
from hatchet_operator.cluster.ownership import Owner
from hatchet_operator.errors import AlreadyExists, Conflict, NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)


class Elector:
    """Takes part in the election for one Lease.

    Args:
        api: The API server; a session of its own, since renewals must not queue behind other writes.
        namespace: Where the Lease is.
        name: Its name.
        identity: Our identity; unique for each process.
        times: How long things take.
        owner: The Lease's owner.
        sight: Tells whether the leader's process is gone; None: that is unknown.
        marks: Labels that the Lease gets when it is created.
        role: What its holder does, for the log.
        clock: Monotonic seconds, which also count while this process is paused.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        owner: Owner | None = None,
        sight: LeaderSight | None = None,
        marks: Mapping[str, str] | None = None,
        role: str = "leading",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._leases = Leases(api, namespace, name, owner=owner, marks=marks or {}, clock=clock)
        self._name = name
        self.identity = identity
        self._times = times or LeaseTimes()
        self._sight = sight
        self._role = role
        self._clock = clock
        self._address: str | None = None
        self._leader_is_gone = False
        self._renewing = asyncio.Lock()
        self._watch = LeaseWatch(self._times)
        self._lease: Json | None = None  # ours, as we last wrote it
        self._leads_until = float("-inf")
        self.handed_over: str | None = None
        """What the previous leader left in the Lease when it released it; None: it was not released by a leader."""

    @property
    def last_look(self) -> float:
        """When the last request ended, whatever its outcome."""
        return self._leases.last_look

    @property
    def refused(self) -> str | None:
        """What the API server said when it refused the last request, as it does without the rights for the Lease."""
        return self._leases.refused

    def is_leading(self) -> bool:
        """Whether the Lease can't belong to another yet."""
        return self._clock() < self._leads_until

    def close(self) -> None:
        """Leave nothing behind but the Lease."""
        if self._sight is not None:
            self._sight.forget()

    def silent_for(self) -> float:
        """Return for how many seconds nothing was requested or renewed: the election's own heartbeat."""
        return self._leases.silent_for()

    async def acquire(self) -> None:
        """Return as soon as the Lease is ours."""
        while True:
            if await self._tried(self._take, within=self._times.answer * 2):
                break
            jitter = random.uniform(0.8, 1.2)  # noqa: S311  # it guards nothing
            await self._pause(self._times.retry * (0.25 if self._leader_is_gone else jitter))
        if self._sight is not None:
            self._sight.forget()
        log.info(self._role, extra={"lease": self._leases.shown, "identity": self.identity})

    async def _pause(self, seconds: float) -> None:
        if self._sight is None:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sight.changed.wait(), seconds)
        self._sight.changed.clear()

    async def announce(self, address: str | None) -> None:
        """Write to the Lease where this leader listens; None: no longer, written before it stops. Best effort."""
        self._address = address
        if self._lease is not None and self.is_leading():
            await self._tried(self._renew, within=self._times.answer)

    async def keep(self) -> None:
        """Renew the Lease; return when it is lost, which is before it can belong to another."""
        pause = self._times.retry
        while (left := self._leads_until - self._clock()) > 0:
            await asyncio.sleep(min(pause, left))
            begun_at = self._clock()
            if (left := self._leads_until - begun_at) <= 0:
                break
            if await self._tried(self._renew, within=min(self._times.answer, left)) is False:
                log.error("lease is another's or gone", extra={"lease": self._leases.shown, "identity": self.identity})
                self._leads_until = float("-inf")
                return
            pause = max(begun_at + self._times.retry - self._clock(), 0)
        log.error("lease could not be renewed in time", extra={"lease": self._leases.shown, "identity": self.identity})

    async def release(self, handed_over: str | None = None) -> None:
        """Release the Lease, so that a standby need not wait for it to expire. Best effort.

        Args:
            handed_over: For the next leader.
        """
        if self._lease is None:
            return
        self._leads_until = float("-inf")
        await self._tried(lambda: self._give_up(handed_over), within=self._times.answer)

    async def remove(self) -> None:
        """Delete the Lease, which nobody else is to take. Best effort."""
        if self._lease is None:
            return
        self._leads_until = float("-inf")
        await self._tried(self._delete, within=self._times.answer)

    async def _delete(self) -> bool:
        await self._leases.delete(self._name)
        return True

    async def _tried(self, step: Callable[[], Awaitable[bool]], *, within: float) -> bool | None:
        """Take one step; None: its outcome is unknown."""
        done = await self._leases.tried(step, within=within)
        if done is None and self._sight is not None:
            self._sight.forget()  # nor could the leader renew: it may have ended for that, and may return
        return done

    async def _take(self) -> bool:
        asked_at = self._clock()
        self._address = None
        try:
            lease = await self._leases.read(self._name)
            left_behind = annotations_of(lease).get(labels.HANDED_OVER)
            if lease is None:
                lease = await self._leases.write(self._taken(self._leases.first(self._name), transitions=0))
            elif self._look_at(lease):
                lease = await self._leases.write(self._taken(lease, transitions=transitions_of(lease) + 1))
            else:
                return False
        except (AlreadyExists, Conflict):
            return False  # another was faster
        self._lease, self._leads_until, self.handed_over = lease, asked_at + self._times.renew_deadline, left_behind
        return True

    def _look_at(self, lease: Json) -> bool:
        """Observe another's Lease as it is now; return whether it may be taken."""
        unchanged_for = self._watch.look_at(lease, self._clock())
        if holder_of(lease) in ("", self.identity) or unchanged_for >= duration_of(lease):
            return True
        if self._sight is None:
            return False
        self._leader_is_gone = is_gone = self._sight.look_at(
            holder_of(lease), annotations_of(lease).get(labels.LEADS_AT)
        )
        return is_gone and self._watch.could_have_renewed(unchanged_for)

    async def _renew(self) -> bool:
        async with self._renewing:
            return await self._renew_alone()

    async def _renew_alone(self) -> bool:
        while (lease := self._lease) is not None:
            asked_at = self._clock()
            lease["spec"]["renewTime"] = written_now()
            lease["metadata"]["annotations"] = annotations = annotations_of(lease)
            annotations.pop(labels.LEADS_AT, None)
            if self._address is not None:
                annotations[labels.LEADS_AT] = self._address
            try:
                self._lease = await self._leases.write(lease)
            except (Conflict, NotFound):
                # The answer to our last renewal may have been lost, or a person put a label on the Lease.
                there = await self._leases.read(self._name)
                self._lease = there if self._is_ours(there) else None
            else:
                self._leads_until = asked_at + self._times.renew_deadline
                return True
        return False

    async def _give_up(self, handed_over: str | None) -> bool:
        lease = await self._leases.read(self._name)  # what we know may be older than our own write
        if lease is None or not self._is_ours(lease):
            return False  # it belongs to nobody, or to another
        lease["spec"].update(holderIdentity="", leaseDurationSeconds=1, renewTime=written_now())
        lease["metadata"]["annotations"] = annotations = annotations_of(lease)
        annotations.pop(labels.LEADS_AT, None)
        if handed_over is not None:
            annotations[labels.HANDED_OVER] = handed_over
        await self._leases.write(lease)
        return True

    def _is_ours(self, lease: Json | None) -> bool:
        return lease is not None and holder_of(lease) == self.identity

    def _taken(self, lease: Json, *, transitions: int) -> Json:
        now = written_now()
        ours = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._times.duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        return self._leases.changed(lease, without_predecessor(annotations_of(lease)), ours)
