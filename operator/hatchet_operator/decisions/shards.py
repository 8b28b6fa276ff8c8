"""Which shard a namespace is in, and which replica leads which shard. Pure.

    namespace ─ a hash that never changes ─► shard ─ dealt among the replicas that are alive ─► replica

All of a run's family lives in one namespace, so two shards have nothing in common. The deal is each replica's own
decision: it gives up what it has too much, and takes what is free and nobody before it in the line is to take. Two that
see different things may want the same shard; its Lease decides between them, not this.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

MOST_SHARDS = 64

_NAMESPACE = re.compile(rb'"namespace":"([^"\\]*)"')


@lru_cache(maxsize=16_384)
def shard_of(namespace: str, shards: int) -> int:
    """Return the shard of a namespace, from 0 on.

    It follows from the name alone, for all versions: operators that disagreed would both act on a namespace.
    """
    # not a CRC: those of names that differ in one digit are not spread evenly
    return int.from_bytes(sha256(namespace.encode()).digest()[:8]) % shards


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """The namespaces that a term acts on.

    Attributes:
        namespaces: The only ones that this operator serves; empty: all of the cluster.
        shards: Into how many shards these are dealt.
        shard: Whose namespaces these are; None: all.
    """

    namespaces: tuple[str, ...] = ()
    shards: int = 1
    shard: int | None = None

    @property
    def is_shard(self) -> bool:
        """Whether there are namespaces that others act on."""
        return self.shard is not None

    @property
    def shown(self) -> str:
        """The namespaces that were named, in words."""
        return f"namespace{'s' if len(self.namespaces) > 1 else ''} {', '.join(self.namespaces)}"

    @property
    def places(self) -> tuple[str | None, ...]:
        """What has to be listed to see everything: each namespace that was named, or (None) the whole cluster."""
        return self.named if self.namespaces else (None,)

    @property
    def named(self) -> tuple[str, ...]:
        """The namespaces that were named, of those that these are."""
        return tuple(name for name in self.namespaces if self.covers(name))

    def is_served(self, namespace: str) -> bool:
        """Whether this operator serves a namespace, in whichever shard it is."""
        return not self.namespaces or namespace in self.namespaces

    def covers(self, namespace: str) -> bool:
        return self.is_served(namespace) and (self.shard is None or shard_of(namespace, self.shards) == self.shard)


def may_concern(event: bytes, covers: Callable[[str], bool]) -> bool:
    """Tell, without parsing it, whether a watch event may be about an object of certain namespaces.

    Args:
        event: Its JSON text, as the API server writes it: compact.
        covers: Tells of a namespace whether it is one of these.

    Returns:
        False: certainly not. A text or a key inside the object may look like its namespace, so true says nothing.
    """
    named = set(_NAMESPACE.findall(event))
    return not named or any(covers(name.decode("utf-8", "replace")) for name in named)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deal:
    """What one replica changes.

    Attributes:
        take: Shards that it should try to lead.
        give_up: Shards that it should hand over.
    """

    take: tuple[int, ...] = ()
    give_up: tuple[int, ...] = ()


def quotas(leaders: Sequence[str | None], alive: Collection[str]) -> dict[str, int]:
    """Return how many shards each replica should lead: shares that differ by one at most.

    The larger shares go to those that lead most already, so that as few shards as possible move.

    Args:
        leaders: Who leads each shard; None, or a replica that is not alive: nobody.
        alive: The replicas.
    """
    led = Counter(leader for leader in leaders if leader in alive)
    share, larger = divmod(len(leaders), max(len(alive), 1))
    line = sorted(alive, key=lambda replica: (-led[replica], replica))
    return {replica: share + (place < larger) for place, replica in enumerate(line)}


def deal(leaders: Sequence[str | None], alive: Collection[str], me: str) -> Deal:
    """Decide what a replica takes and gives up.

    A shard that another leads is never taken: that one gives it up first.

    Args:
        leaders: Who leads each shard; None, or a replica that is not alive: nobody.
        alive: The replicas; this one is among them.
        me: This one.
    """
    wanted = quotas(leaders, alive)
    mine = [shard for shard, leader in enumerate(leaders) if leader == me]
    if len(mine) > wanted[me]:
        return Deal(give_up=tuple(mine[wanted[me] :]))
    led = Counter(leader for leader in leaders if leader in alive)
    missing = {replica: wanted[replica] - led[replica] for replica in alive if wanted[replica] > led[replica]}
    free = [shard for shard, leader in enumerate(leaders) if leader not in alive]
    start = 0
    for replica in sorted(missing, key=lambda replica: (-missing[replica], replica)):
        if replica == me:
            return Deal(take=tuple(free[start : start + missing[replica]]))
        start += missing[replica]
    return Deal()
