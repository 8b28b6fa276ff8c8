"""Why pools can't have pods: refusals of the API server, and when the next try is due."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus

from hatchet_operator.backoff import POOL_POD_REFUSED
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.decisions.pool_status import Refusal
from hatchet_operator.decisions.pooling import without_generated_name
from hatchet_operator.decisions.quotas import is_for_lack_of_room
from hatchet_operator.engine.clock import Clock
from hatchet_operator.errors import Refused
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workerpool import WorkerPool

log = logging.getLogger(__name__)

_NAMESPACE_TERMINATING = "NamespaceTerminating"


class Refusals:
    """Remembers refusals, and reports them on the pools.

    Args:
        events: Records on a pool why it has no pod.
        clock: Tells the time.
        no_room: Called with the namespace of a quota that has no room for a pod.
    """

    def __init__(self, *, events: EventRecorder, clock: Clock, no_room: Callable[[str], None]) -> None:
        self._events = events
        self._no_room = no_room
        self._clock = clock
        self._failures: dict[ObjectRef, int] = {}  # in a row
        self._refusals: dict[ObjectRef, Refusal] = {}
        self._ending: set[ObjectRef] = set()  # their namespaces are being deleted
        self._lacking: Refusal | None = None

    def of(self, pool: ObjectRef) -> Refusal | None:
        """Return why a pool can't have pods; None: nothing was refused."""
        return self._lacking or self._refusals.get(pool)

    def is_ending(self, pool: ObjectRef) -> bool:
        """Whether there is nothing left to do, since the pool's namespace is being deleted."""
        return pool in self._ending

    def lack(self, what: str | None) -> None:
        """Have all pools say which CRD is missing; None: none is missing."""
        self._lacking = (
            Refusal(message=what, is_of_spec=False, generation=0, until=0.0, lacking=True) if what is not None else None
        )

    def time_left(self, ref: ObjectRef, pool: WorkerPool) -> timedelta | None:
        """Return how long to wait before the next try; None: try now, nothing was refused or the pool has changed."""
        refusal = self._refusals.get(ref)
        if refusal is None or refusal.generation != pool.metadata.generation:
            return None
        left = refusal.until - self._clock.loop_time()
        return timedelta(seconds=left) if left > 0 else None

    def invalid_template(self, ref: ObjectRef, pool: WorkerPool, problem: str) -> None:
        """Remember that the pool's template makes no valid pod."""
        generation = pool.metadata.generation
        self._refusals[ref] = Refusal(message=problem, is_of_spec=True, generation=generation, until=float("inf"))
        self._events.warn(pool, Reason.INVALID_SPEC, problem)

    def refused(self, ref: ObjectRef, pool: WorkerPool, error: Refused) -> timedelta | None:
        """Remember why there is no pod, and report it; return when to try again."""
        if _NAMESPACE_TERMINATING in error.causes:  # permanent, and the pool is deleted as well: no need to report it
            log.info("pool left alone, its namespace is being deleted", extra={"pool": str(ref)})
            self._ending.add(ref)
            return None
        pause = self.pause_after_failure(ref)
        self._refusals[ref] = refusal = Refusal(
            message="the API server refused the pool's pod: "
            + without_generated_name(error.message, pool=pool.metadata.name),
            is_of_spec=_is_of_spec(error),
            generation=pool.metadata.generation,
            until=self._clock.loop_time() + pause.total_seconds(),
        )
        self._events.warn(pool, refusal.reason, refusal.message)
        if is_for_lack_of_room(refusal.message):
            self._no_room(ref.namespace)
        return pause

    def pause_after_failure(self, ref: ObjectRef) -> timedelta:
        """Return the pause before the next try: a new namespace refuses pods for a moment, a quota perhaps for days."""
        self._failures[ref] = failures = self._failures.get(ref, 0) + 1
        return timedelta(seconds=POOL_POD_REFUSED.jittered_after(failures))

    def over(self, pool: ObjectRef) -> None:
        """Forget a refusal: nothing keeps the pool from having pods."""
        self._refusals.pop(pool, None)

    def succeeded(self, pool: ObjectRef) -> None:
        """Note that a pool's pods were created."""
        self._failures.pop(pool, None)
        self._refusals.pop(pool, None)

    def there_may_be_room(self, namespace: str) -> list[ObjectRef]:
        """Return the pools for which a quota had no room, to be tried again at once."""
        found = [
            (pool, refusal)
            for pool, refusal in self._refusals.items()
            if pool.namespace == namespace and is_for_lack_of_room(refusal.message)
        ]
        for pool, refusal in found:
            self._refusals[pool] = replace(refusal, until=0.0)
            self._failures.pop(pool, None)
        return [pool for pool, _ in found]

    def forget(self, pool: ObjectRef) -> None:
        """Forget a pool that is gone."""
        self._failures.pop(pool, None)
        self._refusals.pop(pool, None)
        self._ending.discard(pool)


def _is_of_spec(error: Refused) -> bool:
    """Whether the template itself makes no valid pod; admission policies and webhooks deny with the same codes."""
    return error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY) and "denied" not in error.message
