"""WorkerPools as they are known: their objects, what is wrong with them, and how their pods reach the operator.

This is memory: `pools` decides and acts; what waits for a pool's workers asks here why there are none.
"""

from collections.abc import Iterator

from hatchet_operator.decisions.pooling import OperatorAccess, pool_of, reach_of, template_hash
from hatchet_operator.decisions.rejoining import Reach
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod
from hatchet_operator.resources.reasons import ConditionType
from hatchet_operator.resources.workerpool import WorkerPool


class KnownPools:
    """All pools of the operator."""

    def __init__(self) -> None:
        self._pools: dict[ObjectRef, WorkerPool] = {}
        self._troubles: dict[ObjectRef, str] = {}
        self.access = OperatorAccess(grpc_address="")
        """How pods find the operator."""
        self.also_served: frozenset[str] = frozenset()
        """Addresses besides the one that pods are given now: from earlier settings, as long as pods have them."""
        self.has_pods = False
        """Whether pods are created (yet)."""

    def __contains__(self, ref: ObjectRef) -> bool:
        return ref in self._pools

    def __getitem__(self, ref: ObjectRef) -> WorkerPool:
        return self._pools[ref]

    def __iter__(self) -> Iterator[ObjectRef]:
        return iter(self._pools)

    def get(self, ref: ObjectRef) -> WorkerPool | None:
        return self._pools.get(ref)

    def put(self, ref: ObjectRef, pool: WorkerPool) -> None:
        """Keep the newest state of a pool."""
        self._pools[ref] = pool

    def forget(self, ref: ObjectRef) -> None:
        """Forget a pool that is gone."""
        self._pools.pop(ref, None)
        self._troubles.pop(ref, None)

    def note_trouble(self, ref: ObjectRef, trouble: str | None) -> bool:
        """Note what is wrong with a pool, if anything; return whether that has changed."""
        if trouble == self._troubles.get(ref):
            return False
        if trouble is None:
            del self._troubles[ref]
        else:
            self._troubles[ref] = trouble
        return True

    # --- What others ask

    def trouble_of(self, ref: ObjectRef) -> str | None:
        """Say why a pool has fewer workers than its work needs; None: nothing is known to be wrong."""
        return self._troubles.get(ref)

    def why_not_available(self, ref: ObjectRef) -> str | None:
        """Return what the pool's status says about pods that are still missing."""
        pool = self._pools.get(ref)
        conditions = pool.status.conditions if pool else ()
        unavailable = (one for one in conditions if one.type == ConditionType.AVAILABLE and one.status == "False")
        return next((one.message for one in unavailable), None)

    def template_of(self, ref: ObjectRef) -> str | None:
        """Return the hash of a pool's current pod template; None: there is no such pool, or no pods are created yet."""
        pool = self._pools.get(ref)
        return template_hash(pool, self.access) if pool and self.has_pods else None

    def reach_of(self, pod: Pod) -> Reach:
        """Return how a pod's worker finds this operator."""
        return reach_of(pod, self.access, served=self.also_served, pool=self._pools.get(pool_of(pod)))

    def slots_of(self, ref: ObjectRef) -> int | None:
        """Return how many slots a pool's workers have; None: they decide that."""
        pool = self._pools.get(ref)
        return pool.spec.slots if pool else None
