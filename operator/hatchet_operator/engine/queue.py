"""Attempts that wait for a slot, and who gets which.

A queue holds the attempts of one action of one pool. An attempt goes to a worker as soon as both are there; within a
queue suspects of a worker's death go first, where nothing else runs; then the higher priority, then the older. A
worker whose steps mostly wait for children takes no more runs without a parent, since these would spawn yet more, but
always takes children: they are what the others wait for.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from hatchet_operator.decisions.observed import Wait
from hatchet_operator.decisions.scheduling import choose_worker
from hatchet_operator.engine.records import Attempt
from hatchet_operator.engine.workers import Worker

QueueKey = tuple[str, str | None, str, str | None]
"""Namespace, pool, action; and the run's UID, if the run has pods of its own, which take nothing else."""

OnDemand = Callable[[str, str | None, str | None], None]
OnActivity = Callable[[str, str], None]

_Heap = list[tuple[int, int, Attempt]]
_Urgency = tuple[bool, int, int]

_SWEPT_FROM = 100


@dataclass(slots=True)
class _Queue:
    suspects: _Heap = field(default_factory=list)  # those that began last before their worker's end go first
    roots: _Heap = field(default_factory=list)
    children: _Heap = field(default_factory=list)
    workers: set[Worker] = field(default_factory=set)
    unserved_since: datetime | None = None
    waiting: int = 0

    @property
    def heaps(self) -> tuple[_Heap, _Heap, _Heap]:
        return self.suspects, self.roots, self.children

    def sweep(self) -> None:
        """Drop what was withdrawn, once that is most of it: without a worker, nobody else ever does."""
        if sum(map(len, self.heaps)) <= 2 * self.waiting + _SWEPT_FROM:
            return
        for heap in self.heaps:
            heap[:] = [entry for entry in heap if not entry[2].withdrawn]
            heapq.heapify(heap)


class AttemptQueue:
    """All queues of the operator.

    Args:
        assign: Called with an attempt and the worker that gets it.
        unserved: Called with the attempts that no connected worker could take any more.
        on_demand: Called with namespace, pool and, for one with pods of its own, run, when more or less is to do.
        on_activity: Called with namespace and pool when an attempt waits for a slot there, or got one.
    """

    def __init__(
        self,
        *,
        assign: Callable[[Attempt, Worker], None],
        unserved: Callable[[list[Attempt]], None],
        on_demand: OnDemand,
        on_activity: OnActivity,
    ) -> None:
        self._assign = assign
        self._on_activity = on_activity
        self.given: Counter[tuple[str, str | None]] = Counter()  # attempts, by namespace and pool
        self._unserved = unserved
        self.on_demand = on_demand
        self._queues: dict[QueueKey, _Queue] = {}
        self._numbers = itertools.count()

    def add(self, attempt: Attempt, now: datetime) -> None:
        """Give the attempt to a worker at once, or keep it until one is free."""
        queue = self._queue(_key(attempt))
        if not queue.waiting:
            free = [worker for worker in queue.workers if worker.can_take(attempt)]
            if free:
                self._give(attempt, choose_worker(free, revision=attempt.graph.revision))
                return
        if attempt.trial is not None:
            entry = (round(attempt.trial.total_seconds() * 1000), next(self._numbers), attempt)
            heapq.heappush(queue.suspects, entry)
        else:
            heap = queue.roots if attempt.is_root else queue.children
            heapq.heappush(heap, (-attempt.priority, next(self._numbers), attempt))
        queue.waiting += 1
        if not queue.workers and queue.unserved_since is None:
            queue.unserved_since = now
        for worker in [worker for worker in queue.workers if worker.can_take(attempt)]:
            self.fill(worker)  # those that wait may be roots that are held back, and this a child
        if queue.waiting:
            self._active(attempt)
            self.on_demand(attempt.ref.namespace, attempt.graph.pool, attempt.run_uid)

    def _give(self, attempt: Attempt, worker: Worker) -> None:
        self.given[attempt.ref.namespace, attempt.graph.pool] += 1
        self._active(attempt)
        self._assign(attempt, worker)

    def _active(self, attempt: Attempt) -> None:
        if attempt.run_uid is None and attempt.graph.pool is not None:
            self._on_activity(attempt.ref.namespace, attempt.graph.pool)

    def grow_impatient(self, attempt: Attempt) -> None:
        """A suspect has waited long enough for a better place to be tried."""
        attempt.impatience += 1
        if attempt.worker is None and not attempt.withdrawn and (queue := self._queues.get(_key(attempt))) is not None:
            for worker in list(queue.workers):
                self.fill(worker)

    def withdraw(self, attempt: Attempt) -> None:
        """Take back an attempt that waits."""
        if not attempt.withdrawn and attempt.worker is None:
            attempt.withdrawn = True
            queue = self._queue(_key(attempt))
            queue.waiting -= 1
            queue.sweep()
            self._drop_if_unused(_key(attempt))

    def wait_of(self, attempt: Attempt) -> Wait:
        queue = self._queues.get(_key(attempt))
        unserved_since = queue.unserved_since if queue else None
        return Wait(
            queued_at=attempt.queued_at,
            unserved_since=unserved_since,
            busy=attempt.busy if unserved_since is None else None,
            may_tell=attempt.may_tell or attempt.run_uid is not None or attempt.graph.pool is None,
        )

    def is_offered(self, attempt: Attempt) -> bool:
        """Whether a connected worker could take an attempt, if it had a slot."""
        queue = self._queues.get(_key(attempt))
        return queue is not None and bool(queue.workers)

    def waiting_in(self, namespace: str, pool: str) -> list[Attempt]:
        """Return the attempts that wait for a slot of a pool."""
        queues = [queue for key, queue in self._queues.items() if _is_of_pool(key, namespace, pool)]
        return [attempt for queue in queues for attempt in _in_heaps(queue)]

    def first_in(self, namespace: str, pool: str, count: int) -> list[Attempt]:
        """Return the attempts of a pool that would go first, in that order; those behind them cost nothing."""
        queues = [queue for key, queue in self._queues.items() if _is_of_pool(key, namespace, pool) and queue.waiting]
        heaps = [heap for queue in queues for heap in queue.heaps if heap]
        # Of each heap only the entries below those that were taken already can be the next.
        frontier = [(_urgency(heap[0]), number, 0) for number, heap in enumerate(heaps)]
        heapq.heapify(frontier)
        found: list[Attempt] = []
        while frontier and len(found) < count:
            _, number, index = heapq.heappop(frontier)
            heap = heaps[number]
            if not heap[index][2].withdrawn:
                found.append(heap[index][2])
            for below in (2 * index + 1, 2 * index + 2):
                if below < len(heap):
                    heapq.heappush(frontier, (_urgency(heap[below]), number, below))
        return found

    def depth(self) -> dict[QueueKey, int]:
        return {key: queue.waiting for key, queue in self._queues.items() if queue.waiting}

    def connect(self, worker: Worker) -> None:
        """A worker is ready to take attempts."""
        for key in worker.queue_keys:
            queue = self._queue(key)
            queue.workers.add(worker)
            queue.unserved_since = None
        self.fill(worker)

    def disconnect(self, worker: Worker, now: datetime) -> None:
        """A worker takes no attempts any more."""
        for key in worker.queue_keys:
            queue = self._queue(key)
            queue.workers.discard(worker)
            if not queue.workers and queue.waiting and queue.unserved_since is None:
                queue.unserved_since = now
                self._unserved(list(_in_heaps(queue)))
            self._drop_if_unused(key)

    def fill(self, worker: Worker) -> None:
        """Give a worker what it has slots for, the most urgent first, over all of its actions."""
        while worker.is_connected:
            best: tuple[_Urgency, _Queue, _Heap] | None = None
            for key in worker.queue_keys:
                queue = self._queues.get(key)
                if queue is None or not queue.waiting:
                    continue
                for heap in queue.heaps:
                    while heap and heap[0][2].withdrawn:
                        heapq.heappop(heap)
                    if not heap or not worker.can_take(heap[0][2]):
                        continue
                    urgency = _urgency(heap[0])
                    if best is None or urgency < best[0]:
                        best = (urgency, queue, heap)
            if best is None:
                break
            _, queue, heap = best
            attempt = heapq.heappop(heap)[2]
            queue.waiting -= 1
            self._give(attempt, worker)
        if not worker.out:
            self.on_demand(worker.namespace, worker.registration.pool, worker.run_uid)  # there is less of it

    def waiting_for(self, namespace: str, pool: str) -> int:
        """How many attempts wait for a slot of a pool; those of runs with pods of their own do not."""
        return sum(queue.waiting for key, queue in self._queues.items() if _is_of_pool(key, namespace, pool))

    def _queue(self, key: QueueKey) -> _Queue:
        return self._queues.setdefault(key, _Queue())

    def _drop_if_unused(self, key: QueueKey) -> None:
        """Runs with pods of their own have queues of their own, of which each is used once."""
        queue = self._queues.get(key)
        if key[3] is not None and queue is not None and not queue.workers and not queue.waiting:
            del self._queues[key]


def _key(attempt: Attempt) -> QueueKey:
    return attempt.ref.namespace, attempt.graph.pool, attempt.step.action, attempt.run_uid


def _is_of_pool(key: QueueKey, namespace: str, pool: str) -> bool:
    return key[:2] == (namespace, pool) and key[3] is None


def _urgency(entry: tuple[int, int, Attempt]) -> _Urgency:
    """Suspects first; then as in their heap."""
    return entry[2].trial is None, entry[0], entry[1]


def _in_heaps(queue: _Queue) -> Iterator[Attempt]:
    for _, _, attempt in itertools.chain(*queue.heaps):
        if not attempt.withdrawn:
            yield attempt
