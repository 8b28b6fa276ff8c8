"""Leases, as elections use them: how long one stays unchanged by our own clock, what is written to it, what failed.

Clocks of two machines are never compared: who waits for a Lease measures with its own clock how long that stays as it
is, and who holds one how long ago it *requested* the last successful renewal.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import LEASES
from hatchet_operator.cluster.ownership import Owner, owners_with
from hatchet_operator.errors import ApiError, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

T = TypeVar("T")

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

    def could_have_renewed(self, unchanged_for: float) -> bool:
        """Whether a holder that is alive would have renewed the Lease, after it was unchanged for so long."""
        return unchanged_for >= self._times.retry * 1.5


class Leases:
    """The Leases of one election.

    Args:
        api: The API server; a session of its own, since renewals must not queue behind other writes.
        namespace: Where they are.
        name: The election's, for the log.
        owner: Their owner.
        marks: Labels that they get.
        clock: Monotonic seconds, which also count while this process is paused.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        *,
        owner: Owner | None,
        marks: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self.shown = f"{namespace}/{name}"
        self._owners = owners_with({}, owner)
        self._marks = dict(marks)
        self._clock = clock
        self.last_look = clock()
        """When the last request ended, whatever its outcome."""
        self.refused: str | None = None
        """What the API server said when it refused the last request, as it does without the rights for Leases."""

    async def tried(self, step: Callable[[], Awaitable[T]], *, within: float) -> T | None:
        """Return the outcome of a step; None: it is unknown."""
        try:
            async with asyncio.timeout(within):
                done = await step()
        except (ApiError, TimeoutError) as error:
            self.refused = error.message if isinstance(error, Refused) else None
            log.warning("lease not reached", extra={"lease": self.shown, "error": repr(error)})
            return None
        else:
            self.refused = None
            return done
        finally:
            self.last_look = self._clock()

    def silent_for(self) -> float:
        """Return for how many seconds nothing was requested: the election's own heartbeat."""
        return self._clock() - self.last_look

    async def all(self) -> dict[str, Json]:
        """Return the Leases that have the election's label, by name."""
        selector = f"{labels.ELECTION}={self._name}"
        leases, _ = await self._api.list_all(LEASES, self._namespace, label_selector=selector)
        return {lease["metadata"]["name"]: lease for lease in leases}

    async def read(self, name: str) -> Json | None:
        """Return a Lease; None: there is none."""
        try:
            return await self._api.get(LEASES, self._namespace, name)
        except NotFound:
            return None

    async def write(self, lease: Json) -> Json:
        """Create or replace a Lease: its resourceVersion decides between two writers.

        Raises:
            AlreadyExists: Another created it.
            Conflict: It is no longer the one that was read.
        """
        metadata = lease["metadata"]
        if "resourceVersion" not in metadata:
            return await self._api.create(LEASES, self._namespace, lease)
        return await self._api.replace(LEASES, self._namespace, metadata["name"], lease)

    async def delete(self, name: str, *, uid: str | None = None, resource_version: str | None = None) -> None:
        """Delete a Lease, if it is there.

        Raises:
            Conflict: It is not the one, or no longer as it was, that is meant.
        """
        with contextlib.suppress(NotFound):
            await self._api.delete(LEASES, self._namespace, name, uid=uid, resource_version=resource_version)

    def first(self, name: str) -> Json:
        """Return a Lease that does not exist yet."""
        metadata = {"name": name, "namespace": self._namespace, "ownerReferences": self._owners}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}

    def changed(self, lease: Json, annotations: dict[str, str], spec: Json) -> Json:
        """Return a Lease with other annotations, our labels, and some fields of its spec changed."""
        metadata = {**lease["metadata"], "annotations": annotations}
        if self._marks:
            metadata["labels"] = {**(metadata.get("labels") or {}), **self._marks}
        return {**lease, "metadata": metadata, "spec": {**(lease.get("spec") or {}), **spec}}


def holder_of(lease: Json | None) -> str:
    """Return who holds a Lease; nobody, if it is empty."""
    return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""


def duration_of(lease: Json) -> float:
    """Return for how many seconds a Lease lasts without being renewed; 0: it does not say."""
    return float((lease.get("spec") or {}).get("leaseDurationSeconds") or 0)


def transitions_of(lease: Json) -> int:
    """Return how often a Lease has changed hands."""
    return int((lease.get("spec") or {}).get("leaseTransitions") or 0)


def annotations_of(lease: Json | None) -> dict[str, str]:
    """Return a copy of a Lease's annotations; of none, none."""
    return dict((lease or {}).get("metadata", {}).get("annotations") or {})


def without_predecessor(annotations: dict[str, str]) -> dict[str, str]:
    """Return annotations without what the previous holder wrote, which is only for its successor."""
    return {key: value for key, value in annotations.items() if key not in (labels.HANDED_OVER, labels.LEADS_AT)}


def written_now() -> str:
    """Return the time for people who read the Lease; it is not used for decisions."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
