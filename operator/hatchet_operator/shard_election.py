"""Which of several operators leads which shards: Leases, of which each operator renews its own and no other.

    <name>              held by all together: "12 shards". Operators with another number wait until it is free
    <name>-member-<id>  an operator's own, renewed once a second: that it is alive
    <name>-shard-<n>    names the operator that leads the shard; written when it is taken, and when it is released

An operator leads a shard while the shard's Lease names it and its own is renewed in time. Another takes the shard once
it has *deleted* that operator's Lease, as it was when it was found not to be renewed: so the one that is late can't
renew any more, and everybody sees the same. Who should lead what is decided in `decisions.shards`; two that decide
differently meet at the shard's Lease, of whose two writers one has a resourceVersion that is old.

As in `election`, clocks of two machines are never compared, and whoever acts asks `is_leading` first.
"""

import asyncio
import contextlib
import logging
import math
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.election import (
    Elector,
    LeaseTimes,
    LeaseWatch,
    annotations_of,
    monotonic,
    written_now,
)
from hatchet_operator.cluster.kinds import LEASES
from hatchet_operator.cluster.leader_sight import LeaderSight
from hatchet_operator.cluster.ownership import Owner, owners_with
from hatchet_operator.decisions.shards import Deal, deal
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

_NEVER = float("-inf")

Lead = Callable[[int, asyncio.Event, str | None], Awaitable[str | None]]
"""Leads a shard until the event is set: with what the last leader handed over, returning what to hand over."""


@dataclass(slots=True)
class _Led:
    """A shard that we lead, or are about to.

    Attributes:
        over: Set when it is to end.
        is_ours: Whether its Lease names us, as far as we know.
        leading: The task.
    """

    over: asyncio.Event = field(default_factory=asyncio.Event)
    is_ours: bool = True
    leading: asyncio.Task[None] | None = None


class ShardElection:
    """Takes part in dealing shards.

    Args:
        api: The API server; a session of its own, since renewals must not queue behind other writes.
        namespace: Where the Leases are.
        name: What their names begin with.
        shards: How many there are.
        process: Our name, for people.
        lead: Leads one.
        times: How long things take.
        owner: The Leases' owner.
        address: Where others see that this process exists; None: nowhere.
        clock: Monotonic seconds, which also count while this process is paused.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        shards: int,
        process: str,
        lead: Lead,
        times: LeaseTimes | None = None,
        owner: Owner | None = None,
        address: str | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self._shards = shards
        self._process = process
        self._lead = lead
        self._times = times or LeaseTimes()
        self._owner = owner
        self._address = address
        self._clock = clock
        self._changed = asyncio.Event()  # look at once
        self._member: Elector | None = None
        self._watches: dict[str, LeaseWatch] = {}
        self._sights: dict[str, LeaderSight] = {}
        self._led: dict[int, _Led] = {}
        self._common_watch = LeaseWatch(self._times)
        self._in_force_until = _NEVER
        self._common_version = ""
        self._asked_before = _NEVER
        self._alone = False
        self._failure: BaseException | None = None
        self.last_look = clock()
        """When the last request ended, whatever its outcome."""
        self.refused: str | None = None
        """What the API server said when it refused the last request."""
        self.settled = False
        """Whether there was nothing to take or to give up when we last looked."""

    @property
    def identity(self) -> str:
        return self._member.identity if self._member is not None else ""

    def is_leading(self, shard: int) -> bool:
        """Whether a shard can't be led by another yet."""
        led = self._led.get(shard)
        return led is not None and led.is_ours and self._is_member()

    def led(self) -> list[int]:
        """Return the shards that we lead."""
        return [shard for shard in sorted(self._led) if self.is_leading(shard)]

    def silent_for(self) -> float:
        """Return for how many seconds nothing was requested: the election's own heartbeat."""
        return self._clock() - self.last_look

    def look(self) -> None:
        """Look at once, and not only when the pause is over."""
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Take part until ``stop`` is set; what is led then is handed over."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._be_member(stopping)
        finally:
            stopping.cancel()

    def _is_member(self) -> bool:
        return self._member is not None and self._member.is_leading() and self._clock() < self._in_force_until

    async def _be_member(self, stopping: asyncio.Task[bool]) -> None:
        """Be one member, until we are to stop or could not renew: then what it led is over, and another one begins."""
        number = uuid.uuid4().hex[:8]
        member = self._member = Elector(
            self._api,
            namespace=self._namespace,
            name=f"{self._name}-member-{number}",
            identity=f"{self._process}_{number}",
            times=self._times,
            owner=self._owner,
            marks=self._marks() | {labels.MEMBER_OF: str(self._shards)},
            role="taking part",
            clock=self._clock,
        )
        joining = asyncio.create_task(member.acquire())
        keeping: asyncio.Task[None] | None = None
        try:
            await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                return
            joining.result()
            keeping = asyncio.create_task(member.keep())
            await member.announce(self._address)
            while not (stopping.done() or keeping.done() or self._failure is not None):
                await self._turn()
                await self._pause(stopping, keeping)
        finally:
            await self._end(member, joining, keeping)

    async def _end(self, member: Elector, joining: asyncio.Task[None], keeping: asyncio.Task[None] | None) -> None:
        joining.cancel()
        await asyncio.wait([joining])
        while self._led:  # what they end with needs our Leases to be renewed
            for led in self._led.values():
                led.over.set()
            if keeping is not None and not keeping.done():
                await self._turn(ending=True)
            leading = [led.leading for led in self._led.values() if led.leading is not None]
            await asyncio.wait(leading, timeout=self._times.retry, return_when=asyncio.FIRST_COMPLETED)
            self._forget_ended()
        await self._leave(member, keeping)
        if self._failure is not None:
            raise self._failure

    async def _leave(self, member: Elector, keeping: asyncio.Task[None] | None) -> None:
        for sight in self._sights.values():
            sight.forget()
        self._sights.clear()
        was_member = self._is_member()
        self._in_force_until = _NEVER
        if was_member:
            await member.announce(None)  # before we stop to listen, or we would be taken for dead
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])
        if was_member and self._alone:
            await self._tried(self._release_common)
        await member.remove()
        self._member = None

    # --- Turns

    async def _pause(self, stopping: asyncio.Task[bool], keeping: asyncio.Task[None]) -> None:
        """Wait until it is time to look again, or something has happened."""
        jitter = random.uniform(0.8, 1.0)  # noqa: S311  # it guards nothing
        waking = asyncio.create_task(self._changed.wait())
        leading = [led.leading for led in self._led.values() if led.leading is not None]
        try:
            await asyncio.wait(
                (stopping, keeping, waking, *leading),
                timeout=self._times.retry * jitter,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waking.cancel()
            self._changed.clear()
        self._forget_ended()

    def _forget_ended(self) -> None:
        """Forget what has ended, but not its error, which ends the process."""
        for shard, led in list(self._led.items()):
            if led.leading is not None and led.leading.done():
                del self._led[shard]
                self._failure = self._failure or led.leading.exception()

    async def _turn(self, *, ending: bool = False) -> None:
        """Look at all Leases, and do what follows."""
        self.settled = await self._look_and_act(ending=ending)

    async def _look_and_act(self, *, ending: bool) -> bool:
        """Return whether there was nothing to do."""
        asked_at = self._clock()
        if self._led and asked_at >= self._in_force_until:
            self._lose(range(self._shards), "the number of shards could not be kept in force")
        leases = await self._look()
        if leases is None:
            for sight in self._sights.values():
                sight.forget()  # nor could the others renew: they may have ended for that, and may return
            return False
        alive = await self._alive(leases)
        if self.identity not in alive:
            return False  # the task that keeps our Lease finds out, too
        self._alone = len(alive) == 1
        common = leases.get(self._name)
        await self._tried(lambda: self._keep_common(common, asked_at, rank=sorted(alive).index(self.identity)))
        mark = self._mark_of(common)
        holders = [self._holder(leases.get(self._lease_of(shard)), mark) for shard in range(self._shards)]
        self._lose([shard for shard in self._led if holders[shard] != self.identity], "its Lease does not name us")
        if ending or not self._is_member() or mark is None:
            return False
        plan = deal(holders, alive, self.identity)
        for shard in plan.give_up:
            await self._give_up(shard)
        # One that we lost is not taken again before its term has ended.
        takes = [shard for shard in plan.take if shard not in self._led]
        await asyncio.gather(*(self._take(shard, leases.get(self._lease_of(shard)), mark) for shard in takes))
        for shard, holder in enumerate(holders):
            if holder == self.identity and shard not in self._led and shard not in plan.give_up:
                self._begin(shard, None)  # the answer to our write was lost
        return plan == Deal()

    async def _look(self) -> dict[str, Json] | None:
        """Return all Leases by name; None: the API server does not answer."""
        found: dict[str, Json] = {}

        async def read() -> None:
            leases, _ = await self._api.list_all(
                LEASES, self._namespace, label_selector=f"{labels.ELECTION}={self._name}"
            )
            found.update({lease["metadata"]["name"]: lease for lease in leases})
            if self._name not in found:  # made by an operator that leads everything, or not at all
                with contextlib.suppress(NotFound):
                    found[self._name] = await self._api.get(LEASES, self._namespace, self._name)

        return found if await self._tried(read) else None

    async def _tried(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Take a step; false: its outcome is unknown, or another was faster."""
        try:
            async with asyncio.timeout(self._times.answer):
                await step()
        except (Conflict, AlreadyExists):
            return False  # another was faster
        except (ApiError, TimeoutError) as error:
            self.refused = error.message if isinstance(error, Refused) else None
            log.warning("leases not reached", extra={"lease": self._shown, "error": repr(error)})
            return False
        else:
            self.refused = None
            return True
        finally:
            self.last_look = self._clock()

    # --- Who is alive

    async def _alive(self, leases: dict[str, Json]) -> set[str]:
        """Return the identities of the members; those that do not renew their Leases lose them, and are none."""
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
            identity = (lease.get("spec") or {}).get("holderIdentity") or ""
            if identity == self.identity or not (self._is_dead(name, lease) and await self._bury(name, lease)):
                alive.add(identity)
        return alive - {""}

    def _is_dead(self, name: str, lease: Json) -> bool:
        spec = lease.get("spec") or {}
        watch = self._watches.setdefault(name, LeaseWatch(self._times))
        unchanged_for = watch.look_at(lease, self._clock())
        if unchanged_for >= float(spec.get("leaseDurationSeconds") or self._times.duration):
            return True
        sight = self._sights.setdefault(name, LeaderSight(self._changed))
        is_gone = sight.look_at(spec.get("holderIdentity") or "", annotations_of(lease).get(labels.LEADS_AT))
        # One that is alive would have renewed it meanwhile.
        return is_gone and unchanged_for >= self._times.retry * 1.5

    async def _bury(self, name: str, lease: Json) -> bool:
        """Delete the Lease of one that seems dead, unless it was renewed just now; return whether it is gone."""
        metadata = lease["metadata"]

        async def delete() -> None:
            with contextlib.suppress(NotFound):
                await self._api.delete(
                    LEASES,
                    self._namespace,
                    name,
                    uid=metadata["uid"],
                    resource_version=metadata["resourceVersion"],
                )

        if not await self._tried(delete):
            return False
        log.warning("operator is gone", extra={"lease": name, "identity": lease["spec"]["holderIdentity"]})
        return True

    # --- What all hold together

    async def _keep_common(self, lease: Json | None, asked_at: float, *, rank: int) -> None:
        """Take or renew the Lease that says how many shards there are.

        The first member does; the others in line, each a pause later, if it does not.
        """
        asked_before, self._asked_before = self._asked_before, asked_at
        if lease is None:
            await self._write_common(self._first(self._name), asked_at)
            return
        unchanged_for = self._common_watch.look_at(lease, self._clock())
        version = lease["metadata"]["resourceVersion"]
        version_before, self._common_version = self._common_version, version
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder == self._together:
            if version_before not in ("", version):
                # Somebody renewed it, after we had asked the time before: another counts from then on at the earliest.
                self._in_force_until = max(self._in_force_until, asked_before + self._times.renew_deadline)
            if unchanged_for >= self._times.retry * rank or self._clock() >= self._in_force_until:
                await self._write_common(lease, asked_at)
            return
        self._in_force_until = _NEVER
        if not holder or unchanged_for >= float(spec.get("leaseDurationSeconds") or 0):
            await self._write_common(lease, asked_at)
            self._changed.set()
            log.info("shards in force", extra={"lease": self._shown, "shards": self._shards, "before": holder})

    async def _write_common(self, lease: Json, asked_at: float) -> None:
        spec = lease.get("spec") or {}
        annotations = annotations_of(lease)
        transitions = int(spec.get("leaseTransitions") or 0)
        if annotations.get(labels.SHARDS) != f"{self._shards}@{transitions}":
            transitions += 1
        annotations[labels.SHARDS] = f"{self._shards}@{transitions}"
        for ended in (labels.HANDED_OVER, labels.LEADS_AT):  # from one that led everything, and only for its successor
            annotations.pop(ended, None)
        now = written_now()
        taken = {} if spec.get("holderIdentity") == self._together else {"acquireTime": now}
        body = self._written(
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
        written = await self._write(body)
        self._common_version = written["metadata"]["resourceVersion"]
        self._in_force_until = asked_at + self._times.renew_deadline

    async def _release_common(self) -> None:
        lease = await self._api.get(LEASES, self._namespace, self._name)
        if (lease.get("spec") or {}).get("holderIdentity") == self._together:
            released = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": written_now()}
            await self._write(self._written(lease, annotations_of(lease), released))

    def _mark_of(self, common: Json | None) -> str | None:
        """Return since when so many shards are in force, as shards' Leases say it; None: they are not."""
        if common is None or (common.get("spec") or {}).get("holderIdentity") != self._together:
            return None
        return annotations_of(common).get(labels.SHARDS)

    @property
    def _together(self) -> str:
        return f"{self._shards} shards"

    # --- Shards

    def _holder(self, lease: Json | None, mark: str | None) -> str | None:
        """Return who leads a shard; None: nobody, or somebody of a time when the number of shards was another."""
        if lease is None or mark is None or annotations_of(lease).get(labels.SHARDS) != mark:
            return None
        return (lease.get("spec") or {}).get("holderIdentity") or None

    async def _take(self, shard: int, lease: Json | None, mark: str) -> None:
        there = lease or self._first(self._lease_of(shard))
        annotations = annotations_of(there)
        left_behind = annotations.pop(labels.HANDED_OVER, None)
        if annotations.get(labels.SHARDS) != mark or (there.get("spec") or {}).get("holderIdentity"):
            left_behind = None  # of a time after which others led these namespaces, or its leader did not release it
        annotations[labels.SHARDS] = mark
        spec = there.get("spec") or {}
        now = written_now()
        transitions = int(spec.get("leaseTransitions") or 0) + 1
        taken = {"holderIdentity": self.identity, "acquireTime": now, "renewTime": now, "leaseTransitions": transitions}
        body = self._written(there, annotations, taken)

        async def write() -> None:
            await self._write(body)

        if await self._tried(write):
            self._begin(shard, left_behind)

    def _begin(self, shard: int, left_behind: str | None) -> None:
        log.info("leading a shard", extra={"shard": shard, "lease": self._lease_of(shard), "identity": self.identity})
        led = self._led[shard] = _Led()
        led.leading = asyncio.create_task(self._lead_until_over(shard, led, left_behind))

    def _lose(self, shards: Iterable[int], why: str) -> None:
        for shard in shards:
            led = self._led.get(shard)
            if led is not None and led.is_ours:
                log.error("shard is lost", extra={"shard": shard, "identity": self.identity, "error": why})
                led.is_ours = False
                led.over.set()

    async def _give_up(self, shard: int) -> None:
        led = self._led.get(shard)
        if led is None:  # its release failed
            await self._tried(lambda: self._release(shard, None))
        elif not led.over.is_set():
            log.info("handing a shard over", extra={"shard": shard, "lease": self._lease_of(shard)})
            led.over.set()

    async def _lead_until_over(self, shard: int, led: _Led, left_behind: str | None) -> None:
        hands_over = await self._lead(shard, led.over, left_behind)
        was_leading, led.is_ours = self.is_leading(shard), False
        if was_leading:
            await self._tried(lambda: self._release(shard, hands_over))
            log.info("shard is free", extra={"shard": shard, "lease": self._lease_of(shard)})

    async def _release(self, shard: int, hands_over: str | None) -> None:
        lease = await self._api.get(LEASES, self._namespace, self._lease_of(shard))
        if (lease.get("spec") or {}).get("holderIdentity") != self.identity:
            return
        annotations = annotations_of(lease)
        if hands_over is not None:
            annotations[labels.HANDED_OVER] = hands_over
        await self._write(self._written(lease, annotations, {"holderIdentity": "", "renewTime": written_now()}))

    # --- Writing

    def _lease_of(self, shard: int) -> str:
        return f"{self._name}-shard-{shard}"

    def _marks(self) -> dict[str, str]:
        return {labels.MANAGED_BY: labels.MANAGER, labels.ELECTION: self._name}

    def _first(self, name: str) -> Json:
        metadata = {"name": name, "namespace": self._namespace, "ownerReferences": owners_with({}, self._owner)}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}

    def _written(self, lease: Json, annotations: dict[str, str], spec: Json) -> Json:
        metadata = lease["metadata"]
        marks = {**(metadata.get("labels") or {}), **self._marks()}
        return {
            **lease,
            "metadata": {**metadata, "labels": marks, "annotations": annotations},
            "spec": {**(lease.get("spec") or {}), **spec},
        }

    async def _write(self, lease: Json) -> Json:
        """Create or replace a Lease: its resourceVersion decides between two writers."""
        metadata = lease["metadata"]
        if "resourceVersion" not in metadata:
            return await self._api.create(LEASES, self._namespace, lease)
        return await self._api.replace(LEASES, self._namespace, metadata["name"], lease)

    @property
    def _shown(self) -> str:
        return f"{self._namespace}/{self._name}"
