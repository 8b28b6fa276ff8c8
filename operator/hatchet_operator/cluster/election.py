"""Who of several operators acts: a Lease, held by one at a time.

    standby ─ nobody holds it, or its holder was not heard of for as long as the Lease says ─► leader
       ▲                                                                                        │
       └── another took it, or it could not be renewed in time: lost, before it can be another's ┘

Clocks of two machines are never compared: a standby measures with its own how long the Lease stays as it is, a leader
how long ago it *asked* for the renewal that succeeded last. What it does meanwhile is fenced by resourceVersions.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import LEASES
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseTimes:
    """How long a Lease lasts, in seconds.

    Attributes:
        duration: A standby takes over when the Lease stayed as it is for so long.
        renew_deadline: A leader that could not renew for so long is none any more; well below ``duration``, since
            stopping takes time too.
        retry: Between two tries to renew, or two looks of a standby.
    """

    duration: float = 10.0
    renew_deadline: float = 6.0
    retry: float = 1.5


class Elector:
    """Takes part in the election for one Lease.

    Args:
        api: The API server.
        namespace: Where the Lease is.
        name: Its name.
        identity: Who we are; unique for each process.
        times: How long things take.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self.identity = identity
        self._times = times or LeaseTimes()
        self._clock = clock or asyncio.get_running_loop().time
        self._seen: tuple[str, float] | None = None  # resourceVersion of the Lease, and since when we see it so
        self._lease: Json | None = None
        self._renewed_at = float("-inf")

    async def acquire(self) -> None:
        """Return as soon as the Lease is ours."""
        while True:
            asked_at = self._clock()
            try:
                if await self._try_to_take():
                    self._renewed_at = asked_at
                    log.info("leading", extra={"lease": f"{self._namespace}/{self._name}", "identity": self.identity})
                    return
            except ApiError as error:
                log.warning("lease not taken", extra={"error": str(error)})
            await asyncio.sleep(self._times.retry * random.uniform(0.8, 1.2))  # noqa: S311  # jitter

    async def keep(self) -> None:
        """Renew the Lease; return when it is lost, which is before it can be another's."""
        while True:
            left = self._renewed_at + self._times.renew_deadline - self._clock()
            if left <= 0:
                log.error("lease could not be renewed in time", extra={"identity": self.identity})
                return
            asked_at = self._clock()
            try:
                async with asyncio.timeout(left):
                    await self._renew()
                self._renewed_at = asked_at
            except (Conflict, NotFound):
                if not await self._is_still_ours(left):
                    log.error("lease was taken by another", extra={"identity": self.identity})
                    return
                continue
            except (ApiError, TimeoutError) as error:
                log.warning("lease not renewed yet", extra={"error": repr(error)})
            await asyncio.sleep(min(self._times.retry, max(left, 0)))

    async def release(self) -> None:
        """Give the Lease up, so that a standby need not wait for its end. Best effort."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        lease["spec"].update(holderIdentity="", leaseDurationSeconds=1, renewTime=_now())
        try:
            async with asyncio.timeout(self._times.retry):
                await self._api.replace(LEASES, self._namespace, self._name, lease)
        except (ApiError, TimeoutError) as error:
            log.warning("lease not released", extra={"error": repr(error)})

    async def _try_to_take(self) -> bool:
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
        except NotFound:
            return await self._create()
        spec: dict[str, Any] = lease["spec"]
        holder = spec.get("holderIdentity") or ""
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock())
        unchanged_for = self._clock() - self._seen[1]
        if holder not in ("", self.identity) and unchanged_for < float(spec.get("leaseDurationSeconds") or 0):
            return False
        spec.update(
            holderIdentity=self.identity,
            leaseDurationSeconds=round(self._times.duration),
            acquireTime=_now(),
            renewTime=_now(),
            leaseTransitions=int(spec.get("leaseTransitions") or 0) + 1,
        )
        try:
            self._lease = await self._api.replace(LEASES, self._namespace, self._name, lease)
        except Conflict:
            return False
        return True

    async def _create(self) -> bool:
        lease: Json = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": round(self._times.duration),
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }
        try:
            self._lease = await self._api.create(LEASES, self._namespace, lease)
        except AlreadyExists:
            return False
        return True

    async def _renew(self) -> None:
        assert self._lease is not None, "keep() comes after acquire()"
        self._lease["spec"]["renewTime"] = _now()
        self._lease = await self._api.replace(LEASES, self._namespace, self._name, self._lease)

    async def _is_still_ours(self, left: float) -> bool:
        """A conflict may be our own renewal, whose answer was lost."""
        try:
            async with asyncio.timeout(left):
                lease = await self._api.get(LEASES, self._namespace, self._name)
        except NotFound:
            return False
        except (ApiError, TimeoutError):
            return True  # not known; the deadline decides
        if lease["spec"].get("holderIdentity") != self.identity:
            return False
        self._lease = lease
        return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
