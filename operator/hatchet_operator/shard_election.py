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
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.election import Elector
from hatchet_operator.cluster.leases import (
    Leases,
    LeaseTimes,
    annotations_of,
    holder_of,
    monotonic,
    transitions_of,
    written_now,
)
from hatchet_operator.cluster.members import Members
from hatchet_operator.cluster.ownership import Owner
from hatchet_operator.cluster.shards_in_force import ShardsInForce
from hatchet_operator.decisions.shards import Deal, deal
from hatchet_operator.errors import AlreadyExists, Conflict
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

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
        self._leases = Leases(api, namespace, name, owner=owner, marks=self._marks(), clock=clock)
        self._changed = asyncio.Event()  # look at once
        self._member: Elector | None = None
        self._members = Members(
            self._leases, shards=shards, times=self._times, clock=clock, changed=self._changed, tried=self._tried
        )
        self._led: dict[int, _Led] = {}
        self._in_force = ShardsInForce(
            self._leases, name, shards=shards, times=self._times, clock=clock, changed=self._changed
        )
        self._alone = False
        self._failure: BaseException | None = None
        self.settled = False
        """Whether there was nothing to take or to give up when we last looked."""

    @property
    def identity(self) -> str:
        return self._member.identity if self._member is not None else ""

    @property
    def refused(self) -> str | None:
        """What the API server said when it refused the last request."""
        return self._leases.refused

    def is_leading(self, shard: int) -> bool:
        """Whether a shard can't be led by another yet."""
        led = self._led.get(shard)
        return led is not None and led.is_ours and self._is_member()

    def led(self) -> list[int]:
        """Return the shards that we lead."""
        return [shard for shard in sorted(self._led) if self.is_leading(shard)]

    def silent_for(self) -> float:
        """Return for how many seconds nothing was requested: the election's own heartbeat."""
        return self._leases.silent_for()

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
        return self._member is not None and self._member.is_leading() and self._clock() < self._in_force.in_force_until

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
        self._members.forget()
        was_member = self._is_member()
        self._in_force.forget()
        if was_member:
            await member.announce(None)  # before we stop to listen, or we would be taken for dead
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])
        if was_member and self._alone:
            await self._tried(self._in_force.release)
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
        if self._led and asked_at >= self._in_force.in_force_until:
            self._lose(range(self._shards), "the number of shards could not be kept in force")
        leases = await self._look()
        if leases is None:
            self._members.lose_sight()  # nor could the others renew: they may have ended for that, and may return
            return False
        alive = await self._members.alive(leases, self.identity)
        if self.identity not in alive:
            return False  # the task that keeps our Lease finds out, too
        self._alone = len(alive) == 1
        common = leases.get(self._name)
        await self._tried(lambda: self._in_force.keep(common, asked_at, rank=sorted(alive).index(self.identity)))
        mark = self._in_force.mark_of(common)
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
            found.update(await self._leases.all())
            common = self._name in found or await self._leases.read(self._name)
            if isinstance(common, dict):  # made by an operator that leads everything
                found[self._name] = common

        return found if await self._tried(read) else None

    async def _tried(self, step: Callable[[], Awaitable[object]]) -> bool:
        """Take a step; false: its outcome is unknown, or another was faster."""

        async def done() -> bool:
            try:
                await step()
            except (Conflict, AlreadyExists):
                return False
            return True

        return await self._leases.tried(done, within=self._times.answer) or False

    # --- Shards

    def _holder(self, lease: Json | None, mark: str | None) -> str | None:
        """Return who leads a shard; None: nobody, or somebody of a time when the number of shards was another."""
        if lease is None or mark is None or annotations_of(lease).get(labels.SHARDS) != mark:
            return None
        return holder_of(lease) or None

    async def _take(self, shard: int, lease: Json | None, mark: str) -> None:
        there = lease or self._leases.first(self._lease_of(shard))
        annotations = annotations_of(there)
        left_behind = annotations.pop(labels.HANDED_OVER, None)
        if annotations.get(labels.SHARDS) != mark or holder_of(there):
            left_behind = None  # of a time after which others led these namespaces, or its leader did not release it
        annotations[labels.SHARDS] = mark
        now, transitions = written_now(), transitions_of(there) + 1
        taken = {"holderIdentity": self.identity, "acquireTime": now, "renewTime": now, "leaseTransitions": transitions}
        body = self._leases.changed(there, annotations, taken)

        if await self._tried(lambda: self._leases.write(body)):
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
        lease = await self._leases.read(self._lease_of(shard))
        if lease is None or holder_of(lease) != self.identity:
            return
        annotations = annotations_of(lease)
        if hands_over is not None:
            annotations[labels.HANDED_OVER] = hands_over
        await self._leases.write(
            self._leases.changed(lease, annotations, {"holderIdentity": "", "renewTime": written_now()})
        )

    # --- Names

    def _lease_of(self, shard: int) -> str:
        return f"{self._name}-shard-{shard}"

    def _marks(self) -> dict[str, str]:
        return {labels.MANAGED_BY: labels.MANAGER, labels.ELECTION: self._name}
