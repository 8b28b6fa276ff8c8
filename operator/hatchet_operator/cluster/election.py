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
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import LEASES
from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.cluster.ownership import Owner, owners_with
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that keeps running while the machine is suspended, unlike Linux's monotonic clock."""


def monotonic() -> float:
    """Return seconds that also pass while this process, or its machine, is paused."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How long things take, in seconds; all follow from how long a Lease lasts.

    Attributes:
        duration: A standby takes over when the Lease has stayed unchanged for this long.
    """

    duration: float = 10.0

    @property
    def renew_deadline(self) -> float:
        """How long a leader may fail to renew until it no longer leads; the rest is for stopping, which takes time."""
        return self.duration * 0.6

    @property
    def retry(self) -> float:
        """The time between two tries to renew, or between two checks of a standby."""
        return self.duration / 10

    @property
    def answer(self) -> float:
        """The timeout of a request: one that hangs leaves time for two more before the deadline."""
        return self.duration / 5


class LeaseWatch:
    """Measures how long another's Lease has stayed as it is, by our own clock.

    Args:
        times: How long things take.
    """

    def __init__(self, times: LeaseTimes) -> None:
        self._times = times
        self._version = ""
        self._since = self._last = float("-inf")

    def look_at(self, lease: Json, now: float) -> float:
        """Observe the Lease as it is now; return for how many seconds it has been so at least."""
        version = lease["metadata"]["resourceVersion"]
        # If we could not look, the holder could not renew: it gets as long as it takes to lose the Lease to take it
        # back. Otherwise each outage would move the leader, to an address that clients learn late.
        if version != self._version or now - self._last >= self._times.renew_deadline:
            self._version, self._since = version, now
        self._last = now
        return now - self._since


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
        self._api = api
        self._namespace, self._name = namespace, name
        self.identity = identity
        self._times = times or LeaseTimes()
        self._owners = owners_with({}, owner)
        self._sight = sight
        self._marks = dict(marks or {})
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
        self.last_look = clock()
        """When the last request ended, whatever its outcome."""
        self.refused: str | None = None
        """What the API server said when it refused the last request, as it does without the rights for the Lease."""

    def is_leading(self) -> bool:
        """Whether the Lease can't belong to another yet."""
        return self._clock() < self._leads_until

    def close(self) -> None:
        """Leave nothing behind but the Lease."""
        if self._sight is not None:
            self._sight.forget()

    def silent_for(self) -> float:
        """Return for how many seconds nothing was requested or renewed: the election's own heartbeat."""
        return self._clock() - self.last_look

    async def acquire(self) -> None:
        """Return as soon as the Lease is ours."""
        while True:
            if await self._tried(self._take, within=self._times.answer * 2):
                break
            jitter = random.uniform(0.8, 1.2)  # noqa: S311  # it guards nothing
            await self._pause(self._times.retry * (0.25 if self._leader_is_gone else jitter))
        if self._sight is not None:
            self._sight.forget()
        log.info(self._role, extra={"lease": self._shown, "identity": self.identity})

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
                log.error("lease is another's or gone", extra={"lease": self._shown, "identity": self.identity})
                self._leads_until = float("-inf")
                return
            pause = max(begun_at + self._times.retry - self._clock(), 0)
        log.error("lease could not be renewed in time", extra={"lease": self._shown, "identity": self.identity})

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
        with contextlib.suppress(NotFound):
            await self._api.delete(LEASES, self._namespace, self._name)
        return True

    async def _tried(self, step: Callable[[], Any], *, within: float) -> bool | None:
        """Take one step; None: its outcome is unknown."""
        try:
            async with asyncio.timeout(within):
                done: bool = await step()
                self.refused = None
                return done
        except (ApiError, TimeoutError) as error:
            if self._sight is not None:
                self._sight.forget()  # nor could the leader renew: it may have ended for that, and may return
            self.refused = error.message if isinstance(error, Refused) else None
            log.warning("lease not reached", extra={"lease": self._shown, "error": repr(error)})
            return None
        finally:
            self.last_look = self._clock()

    async def _take(self) -> bool:
        asked_at = self._clock()
        self._address = None
        try:
            lease = await self._read()
            left_behind = annotations_of(lease).get(labels.HANDED_OVER)
            if lease is None:
                lease = await self._api.create(LEASES, self._namespace, self._first_lease())
            elif self._look_at(lease):
                lease = await self._replace(self._taken(lease))
            else:
                return False
        except (AlreadyExists, Conflict):
            return False  # another was faster
        self._lease, self._leads_until, self.handed_over = lease, asked_at + self._times.renew_deadline, left_behind
        return True

    def _look_at(self, lease: Json) -> bool:
        """Observe another's Lease as it is now; return whether it may be taken."""
        spec = lease.get("spec") or {}
        unchanged_for = self._watch.look_at(lease, self._clock())
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self.identity) or unchanged_for >= float(spec.get("leaseDurationSeconds") or 0):
            return True
        address = annotations_of(lease).get(labels.LEADS_AT)
        self._leader_is_gone = self._sight is not None and self._sight.look_at(holder, address)
        # A holder that is alive would have renewed it meanwhile.
        return self._leader_is_gone and unchanged_for >= self._times.retry * 1.5

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
                self._lease = await self._replace(lease)
            except (Conflict, NotFound):
                # The answer to our last renewal may have been lost, or a person put a label on the Lease.
                there = await self._read()
                self._lease = there if self._is_ours(there) else None
            else:
                self._leads_until = asked_at + self._times.renew_deadline
                return True
        return False

    async def _give_up(self, handed_over: str | None) -> bool:
        lease = await self._read()  # what we know may be older than our own write
        if lease is None or not self._is_ours(lease):
            return False  # it belongs to nobody, or to another
        lease["spec"].update(holderIdentity="", leaseDurationSeconds=1, renewTime=written_now())
        lease["metadata"]["annotations"] = annotations = annotations_of(lease)
        annotations.pop(labels.LEADS_AT, None)
        if handed_over is not None:
            annotations[labels.HANDED_OVER] = handed_over
        await self._replace(lease)
        return True

    def _is_ours(self, lease: Json | None) -> bool:
        return lease is not None and (lease.get("spec") or {}).get("holderIdentity") == self.identity

    async def _read(self) -> Json | None:
        try:
            return await self._api.get(LEASES, self._namespace, self._name)
        except NotFound:
            return None

    async def _replace(self, lease: Json) -> Json:
        """Write the Lease, if it is still the one that was read: its resourceVersion decides between two writers."""
        return await self._api.replace(LEASES, self._namespace, self._name, lease)

    def _first_lease(self) -> Json:
        metadata: Json = {"name": self._name, "namespace": self._namespace, "ownerReferences": self._owners}
        if self._marks:
            metadata["labels"] = self._marks
        return self._taken({"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}, transitions=0)

    def _taken(self, lease: Json, *, transitions: int | None = None) -> Json:
        spec = lease.get("spec") or {}
        if transitions is None:
            transitions = int(spec.get("leaseTransitions") or 0) + 1
        now = written_now()
        ours = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._times.duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        metadata = {**lease["metadata"], "annotations": annotations_of(lease)}
        for ended in (labels.HANDED_OVER, labels.LEADS_AT):  # from the previous leader, and only for us
            metadata["annotations"].pop(ended, None)
        return {**lease, "metadata": metadata, "spec": {**spec, **ours}}

    @property
    def _shown(self) -> str:
        return f"{self._namespace}/{self._name}"


def annotations_of(lease: Json | None) -> dict[str, str]:
    """Return a copy of a Lease's annotations; of none, none."""
    return dict((lease or {}).get("metadata", {}).get("annotations") or {})


def written_now() -> str:
    """Return the time for people who read the Lease; it is not used for decisions."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
