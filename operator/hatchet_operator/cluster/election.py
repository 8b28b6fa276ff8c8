"""Who of several operators acts: a Lease, held by one at a time.

    standby ─ nobody holds it, or its holder was not heard of for as long as the Lease says ─► leader
       ▲                                                                                        │
       └── another took it, or it could not be renewed in time: lost, before it can be another's ┘

Clocks of two machines are never compared: a standby measures with its own how long the Lease stays as it is, a leader
how long ago it *asked* for the renewal that succeeded last. A leader whose process is gone need not be waited for: see
`leader_sight`. A process that was paused finds out by `is_leading`, which
looks at the clock, and must be asked before anything is done that only a leader may do.
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import LEASES
from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.cluster.ownership import Owner, owners_with
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from hatchet_operator.resources import labels

log = logging.getLogger(__name__)

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended, which Linux' monotonic clock does not."""


def _monotonic() -> float:
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How long things take, in seconds; all follow from how long a Lease lasts.

    Attributes:
        duration: A standby takes over when the Lease stayed as it is for so long.
    """

    duration: float = 10.0

    @property
    def renew_deadline(self) -> float:
        """A leader that could not renew for so long is none any more; the rest is for stopping, which takes time."""
        return self.duration * 0.6

    @property
    def retry(self) -> float:
        """Between two tries to renew, or two looks of a standby."""
        return self.duration / 10

    @property
    def answer(self) -> float:
        """A request takes no longer: one that hangs leaves time for two more before the deadline."""
        return self.duration / 5


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as a standby sees it: its resourceVersion, since when, and when it looked last."""

    version: str
    since: float
    last: float


class Elector:
    """Takes part in the election for one Lease.

    Args:
        api: The API server; a session of its own, since renewals must not stand in line behind other writes.
        namespace: Where the Lease is.
        name: Its name.
        identity: Who we are; unique for each process.
        times: How long things take.
        owner: What the Lease goes with.
        sight: Tells whether the process that leads is gone; None: nobody does.
        clock: Seconds that only go forward, also while this process is paused.
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
        clock: Callable[[], float] = _monotonic,
    ) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self.identity = identity
        self._times = times or LeaseTimes()
        self._owners = owners_with({}, owner)
        self._sight = sight
        self._clock = clock
        self._address: str | None = None
        self._leader_is_gone = False
        self._renewing = asyncio.Lock()
        self._seen: _Seen | None = None
        self._lease: Json | None = None  # ours, as we wrote it last
        self._leads_until = float("-inf")
        self.handed_over: str | None = None
        """What the leader before us left in the Lease when it released it; None: it was not released by a leader."""
        self.last_look = clock()
        """When the last request ended, whatever came of it."""
        self.refused: str | None = None
        """What the API server said when it refused the last request, as it does without the rights for the Lease."""

    def is_leading(self) -> bool:
        """Whether the Lease can't be another's yet."""
        return self._clock() < self._leads_until

    def close(self) -> None:
        """Leave nothing behind but the Lease."""
        if self._sight is not None:
            self._sight.forget()

    def silent_for(self) -> float:
        """Return for how many seconds nothing was asked or renewed: the election's own heartbeat."""
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
        log.info("leading", extra={"lease": self._shown, "identity": self.identity})

    async def _pause(self, seconds: float) -> None:
        if self._sight is None:
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sight.changed.wait(), seconds)
        self._sight.changed.clear()

    async def announce(self, address: str | None) -> None:
        """Say in the Lease where this leader listens; None: no more, which is said before it stops. Best effort."""
        self._address = address
        if self._lease is not None and self.is_leading():
            await self._tried(self._renew, within=self._times.answer)

    async def keep(self) -> None:
        """Renew the Lease; return when it is lost, which is before it can be another's."""
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
        """Give the Lease up, so that a standby need not wait for its end. Best effort.

        Args:
            handed_over: For whoever takes it next.
        """
        if self._lease is None:
            return
        self._leads_until = float("-inf")
        await self._tried(lambda: self._give_up(handed_over), within=self._times.answer)

    async def _tried(self, step: Callable[[], Any], *, within: float) -> bool | None:
        """Take one step; None: it is not known what came of it."""
        try:
            async with asyncio.timeout(within):
                done: bool = await step()
                self.refused = None
                return done
        except (ApiError, TimeoutError) as error:
            if self._sight is not None:
                self._sight.forget()  # nor could the leader renew: its end may be for that, and it may come back
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
            left_behind = _annotations_of(lease).get(labels.HANDED_OVER)
            if lease is None:
                lease = await self._api.create(LEASES, self._namespace, self._first_lease())
            elif self._may_take(lease):
                lease = await self._replace(self._taken(lease))
            else:
                return False
        except (AlreadyExists, Conflict):
            return False  # somebody was faster
        self._lease, self._leads_until, self.handed_over = lease, asked_at + self._times.renew_deadline, left_behind
        return True

    def _may_take(self, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        now, version = self._clock(), lease["metadata"]["resourceVersion"]
        seen = self._seen
        # Where we could not look, the holder could not renew: as long as it then takes to lose the Lease, it gets to
        # take it back. Otherwise each outage would move the leader, to an address that clients learn of late.
        watched = seen is not None and seen.version == version and now - seen.last < self._times.renew_deadline
        self._seen = seen = _Seen(version, since=seen.since if seen is not None and watched else now, last=now)
        unchanged_for = now - seen.since
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self.identity) or unchanged_for >= float(spec.get("leaseDurationSeconds") or 0):
            return True
        address = _annotations_of(lease).get(labels.LEADS_AT)
        self._leader_is_gone = self._sight is not None and self._sight.look_at(holder, address)
        # One that is there would have renewed it meanwhile.
        return self._leader_is_gone and unchanged_for >= self._times.retry * 1.5

    async def _renew(self) -> bool:
        async with self._renewing:
            return await self._renew_alone()

    async def _renew_alone(self) -> bool:
        while (lease := self._lease) is not None:
            asked_at = self._clock()
            lease["spec"]["renewTime"] = _now()
            lease["metadata"]["annotations"] = annotations = _annotations_of(lease)
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
        lease = await self._read()  # what we know may be older than what we wrote
        if lease is None or not self._is_ours(lease):
            return False  # nobody's, or another's
        lease["spec"].update(holderIdentity="", leaseDurationSeconds=1, renewTime=_now())
        lease["metadata"]["annotations"] = annotations = _annotations_of(lease)
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
        metadata = {"name": self._name, "namespace": self._namespace, "ownerReferences": self._owners}
        return self._taken({"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}, transitions=0)

    def _taken(self, lease: Json, *, transitions: int | None = None) -> Json:
        spec = lease.get("spec") or {}
        if transitions is None:
            transitions = int(spec.get("leaseTransitions") or 0) + 1
        now = _now()
        ours = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._times.duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        metadata = {**lease["metadata"], "annotations": _annotations_of(lease)}
        for ended in (labels.HANDED_OVER, labels.LEADS_AT):  # of who led before, and for us alone
            metadata["annotations"].pop(ended, None)
        return {**lease, "metadata": metadata, "spec": {**spec, **ours}}

    @property
    def _shown(self) -> str:
        return f"{self._namespace}/{self._name}"


def _annotations_of(lease: Json | None) -> dict[str, str]:
    return dict((lease or {}).get("metadata", {}).get("annotations") or {})


def _now() -> str:
    """What people read in the Lease; nobody reckons with it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
