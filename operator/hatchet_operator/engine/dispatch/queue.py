"""Attempts that wait for a slot, and which worker gets which.

A queue contains the attempts of one action of one pool, in lanes of equal needs. An attempt goes to a worker as soon
as both are available. Suspects of a worker's death go first, to a worker where nothing else runs; then priorities take
turns, mostly the highest; within a priority trees of runs take turns, and within a tree the older goes first. What a
worker may not take is skipped and delays nothing else; what a rate limit blocks waits in a siding. Invariant: no worker
has room for something that waits, since whatever frees a slot also fills it.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from hatchet_operator.decisions.observed import Wait
from hatchet_operator.decisions.placing import choose_worker, fits, has_room
from hatchet_operator.decisions.turns import after_turn, whose_turn
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.lanes import Lane, Queue, first_of
from hatchet_operator.engine.dispatch.shares import FairShares
from hatchet_operator.engine.dispatch.sidings import Sidings
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.limits.buckets import Buckets

QueueKey = tuple[str, str | None, str, str | None]
"""Namespace, pool, action, and the run's UID if the run has pods of its own, which take nothing else."""

OnDemand = Callable[[str, str | None, str | None], None]
OnActivity = Callable[[str, str], None]


class AttemptQueue:
    """All queues of the operator.

    Args:
        assign: Called with an attempt and the worker that gets it.
        unserved: Called with the attempts that no connected worker can take now.
        on_demand: Called with namespace, pool and, if the run has pods of its own, its UID, when the demand changes.
        on_activity: Called with namespace and pool when an attempt waits for a slot there, or got one.
        buckets: The rate limits.
    """

    def __init__(
        self,
        *,
        assign: Callable[[Attempt, Worker], None],
        unserved: Callable[[list[Attempt]], None],
        on_demand: OnDemand,
        on_activity: OnActivity,
        buckets: Buckets,
    ) -> None:
        self._assign = assign
        self._on_activity = on_activity
        self.assigned: Counter[tuple[str, str | None]] = Counter()  # number of attempts, by namespace and pool
        self._unserved = unserved
        self.on_demand = on_demand
        self._queues: dict[QueueKey, Queue] = {}
        self._shares = FairShares()
        self._left: dict[tuple[str, str | None], dict[int, int]] = {}  # what a worker that disconnected had passed over
        self._numbers = itertools.count()
        self._sidings = Sidings(buckets, enter=self._enter, unserved=unserved, fill=self._fill_soon)
        self._to_fill: dict[Queue, asyncio.Handle] = {}
        self._is_over = False

    def end(self) -> None:
        """Assign nothing from now on: attempts that come wait for the next leader."""
        self._is_over = True

    def add(self, attempt: Attempt, now: datetime) -> None:
        """Assign the attempt to a worker at once, or keep it until one is free."""
        queue = self._queue(_key(attempt))
        attempt.due = self._shares.tag(_pool_of(attempt), attempt.priority, attempt.tree)
        if attempt.units:
            self._sidings.put(attempt, queue)
            if attempt.lane is not None:
                self._fill_now(queue)
            self._active(attempt)
        else:
            self._place(attempt, queue, now)

    def _place(self, attempt: Attempt, queue: Queue, now: datetime) -> None:
        needs = attempt.needs
        workers = () if self._is_over else queue.workers
        free = [worker for worker in workers if fits(worker, needs) and has_room(worker, needs)]
        if free and not queue.has_lane(needs, attempt.priority) and attempt.siding is None:
            self._assign_to(attempt, _best_of(free, attempt))
            return
        queue.lane_of(attempt, now).push(attempt, next(self._numbers))
        for worker in free:
            self.fill(worker)
        if attempt.lane is not None:
            self._active(attempt)
            self.on_demand(attempt.ref.namespace, attempt.graph.pool, attempt.run_uid)

    def _assign_to(self, attempt: Attempt, worker: Worker) -> None:
        self.assigned[_pool_of(attempt)] += 1
        self._shares.served(_pool_of(attempt), attempt.priority, attempt.due)
        self._active(attempt)
        self._assign(attempt, worker)

    def _active(self, attempt: Attempt) -> None:
        if attempt.run_uid is None and attempt.graph.pool is not None:
            self._on_activity(attempt.ref.namespace, attempt.graph.pool)

    def relax(self, attempt: Attempt, now: datetime) -> None:
        """Note that a suspect has waited long enough for a better place for its trial."""
        attempt.relaxed += 1
        self.place_again(attempt, now)

    def place_again(self, attempt: Attempt, now: datetime) -> None:
        """Requeue a waiting attempt under its current needs; it keeps its turn."""
        if attempt.lane is not None:
            queue = self._queue(_key(attempt))
            queue.remove(attempt)
            self._place(attempt, queue, now)

    def withdraw(self, attempt: Attempt) -> None:
        """Withdraw a waiting attempt."""
        if attempt.lane is not None or attempt.is_aside:
            key = _key(attempt)
            self._shares.withdrawn(key[:2], attempt.priority, attempt.tree, attempt.due)
            self._queue(key).remove(attempt)
            if attempt.siding is not None:
                self._sidings.withdraw(attempt, attempt.siding)
            if attempt.run_uid is not None:
                self._drop_if_unused(key)

    def wait_of(self, attempt: Attempt) -> Wait:
        """Return what an attempt in the queue waits for."""
        if attempt.is_aside and attempt.siding is not None:
            return self._sidings.wait_of(attempt, attempt.siding)
        unserved_since = attempt.lane.unserved_since if attempt.lane else None
        if unserved_since is not None and attempt.unblocked_at is not None:
            unserved_since = max(unserved_since, attempt.unblocked_at)
        return Wait(
            queued_at=attempt.queued_at,
            unserved_since=unserved_since,
            busy=attempt.busy if unserved_since is None else None,
            may_tell=attempt.may_tell or attempt.run_uid is not None or attempt.graph.pool is None,
        )

    def waiting_in(self, namespace: str, pool: str) -> list[Attempt]:
        """Return the attempts that wait for a slot of a pool."""
        return list(itertools.chain.from_iterable(self._queues_of(namespace, pool)))

    def first_in(self, namespace: str, pool: str, count: int, *, served: bool) -> list[Attempt]:
        """Return the attempts of a pool that would go first, in roughly that order; those behind them cost nothing.

        Args:
            namespace: The pool's.
            pool: Its name.
            count: How many at most.
            served: True: those that a connected worker could take, if it had a slot; False: the others.
        """
        lanes = [lane for queue in self._queues_of(namespace, pool) for lane in queue.all_lanes()]
        return first_of([lane for lane in lanes if (lane.unserved_since is None) is served], count)

    def depth(self) -> dict[QueueKey, int]:
        return {key: queue.waiting for key, queue in self._queues.items() if not queue.is_empty}

    def connect(self, worker: Worker) -> None:
        """Add a worker that is ready to take attempts; it continues the turns of one that left."""
        worker.passed_over = worker.passed_over or self._left.pop((worker.namespace, worker.registration.pool), {})
        for key in worker.queue_keys:
            queue = self._queue(key)
            queue.workers.add(worker)
            for lane in queue.lanes_for(worker):
                if fits(worker, lane.needs):
                    lane.unserved_since = None
        self.fill(worker)

    def disconnect(self, worker: Worker, now: datetime) -> None:
        """Remove a worker that takes no more attempts."""
        if worker.passed_over:
            self._left[worker.namespace, worker.registration.pool] = worker.passed_over
        for key in worker.queue_keys:
            queue = self._queue(key)
            queue.workers.discard(worker)
            self._report_unserved(worker, queue, now)
            self._drop_if_unused(key)

    def labels_changed(self, worker: Worker, now: datetime) -> None:
        """Update the queues for a connected worker that now fits other attempts than before."""
        for key in worker.queue_keys:
            queue = self._queue(key)
            for lane in queue.lanes_for(worker):
                if lane.unserved_since is not None and fits(worker, lane.needs):
                    lane.unserved_since = None
            self._report_unserved(worker, queue, now)
        self.fill(worker)

    def _report_unserved(self, worker: Worker, queue: Queue, now: datetime) -> None:
        """Report the attempts that no connected worker can take, now that this one can't any more."""
        served = (lane for lane in queue.lanes_for(worker) if lane.unserved_since is None)
        left = [lane for lane in served if not queue.is_served(lane.needs)]
        for lane in left:
            lane.unserved_since = now
        if left:
            behind = (siding for siding in queue.sidings.values() if siding.unserved_since)
            self._unserved(list(itertools.chain(*left, *behind)))

    def fill(self, worker: Worker) -> None:
        """Give a worker what it has slots for, the most urgent first, over all of its actions."""
        if self._is_over:
            return
        while worker.is_connected and worker.free_slots > 0 and (lane := self._next_lane(worker)) is not None:
            attempt = lane.head()[2]
            self._queue(_key(attempt)).remove(attempt)
            if attempt.siding is None or self._sidings.take_units(attempt, attempt.siding):
                self._assign_to(attempt, worker)
        if not worker.assigned:
            self.on_demand(worker.namespace, worker.registration.pool, worker.run_uid)  # the demand is lower now

    def _next_lane(self, worker: Worker) -> Lane | None:
        """Return the lane from which a worker takes its next attempt."""
        suspects: Lane | None = None
        first: dict[int, Lane] = {}  # the first of each priority
        for lane in self._lanes_for(worker):
            if lane.is_of_suspects:
                suspects = lane if suspects is None or lane.head() < suspects.head() else suspects
            elif (other := first.get(lane.priority)) is None or lane.head() < other.head():
                first[lane.priority] = lane
        if suspects is not None:
            return suspects
        if len(first) > 1:
            turn = whose_turn(first.keys(), worker.passed_over)
            worker.passed_over = after_turn(first.keys(), worker.passed_over, turn=turn)
            return first[turn]
        return next(iter(first.values()), None)

    def _lanes_for(self, worker: Worker) -> list[Lane]:
        """Return the lanes from which a worker may take something now."""
        queues = [queue for key in worker.queue_keys if (queue := self._queues.get(key)) is not None]
        lanes = (lane for queue in queues if not queue.is_empty for lane in queue.lanes_for(worker))
        return [lane for lane in lanes if fits(worker, lane.needs) and has_room(worker, lane.needs)]

    def waiting_for(self, namespace: str, pool: str) -> int:
        """How many attempts wait for a slot of a pool; those of runs with pods of their own do not."""
        return sum(
            queue.waiting + (self._sidings.could_go(queue) if queue.sidings else 0)
            for queue in self._queues_of(namespace, pool)
        )

    def blocked_in(self, namespace: str, pool: str, count: int) -> list[Attempt]:
        """Return some of the attempts of a pool that rate limits block, or that wait behind such attempts."""
        queues = [queue for queue in self._queues_of(namespace, pool) if queue.sidings]
        return list(itertools.islice((kept for queue in queues for kept in self._sidings.blocked(queue, count)), count))

    # --- What rate limits admit

    def _enter(self, attempt: Attempt, queue: Queue, now: datetime) -> None:
        """Queue an attempt that no rate limit blocks now; what it waits for instead may have to be reported."""
        queue.lane_of(attempt, now).push(attempt, next(self._numbers))
        if not queue.is_served(attempt.needs):
            self._unserved([attempt])

    def _fill_soon(self, queue: Queue) -> None:
        if queue not in self._to_fill:
            self._to_fill[queue] = asyncio.get_running_loop().call_soon(self._fill_now, queue)

    def _fill_now(self, queue: Queue) -> None:
        """Assign what just came into a queue, and have workers created for the rest."""
        if (soon := self._to_fill.pop(queue, None)) is not None:
            soon.cancel()
        for worker in sorted(queue.workers, key=lambda worker: worker.free_slots, reverse=True):
            if worker.free_slots > 0:
                self.fill(worker)
        if (lane := next(queue.all_lanes(), None)) is not None:
            attempt = lane.head()[2]
            self._active(attempt)
            self.on_demand(attempt.ref.namespace, attempt.graph.pool, attempt.run_uid)

    def demand_for(self, namespace: str, pool: str) -> int:
        """How many of these an additional worker could take: not those that wait for a particular, existing one."""
        queues = self._queues_of(namespace, pool)
        in_lanes = sum(lane.waiting for queue in queues for lane in queue.lanes.values())
        return in_lanes + sum(self._sidings.could_go(queue) for queue in queues if queue.sidings)

    def _queues_of(self, namespace: str, pool: str) -> list[Queue]:
        found = (queue for key, queue in self._queues.items() if key[:2] == (namespace, pool) and key[3] is None)
        return [queue for queue in found if not queue.is_empty]

    def _queue(self, key: QueueKey) -> Queue:
        if (queue := self._queues.get(key)) is None:
            queue = self._queues[key] = Queue()
        return queue

    def _drop_if_unused(self, key: QueueKey) -> None:
        """Drop an empty queue: runs with pods of their own have queues of their own, each used only once."""
        queue = self._queues.get(key)
        if key[3] is not None and queue is not None and not queue.workers and queue.is_empty:
            del self._queues[key]


def _key(attempt: Attempt) -> QueueKey:
    return attempt.ref.namespace, attempt.graph.pool, attempt.step.action, attempt.run_uid


def _best_of(free: list[Worker], attempt: Attempt) -> Worker:
    revision, desired, preferred = attempt.graph.revision, attempt.desired, attempt.preferred_worker
    return choose_worker(free, revision=revision, desired=desired, preferred=preferred)


def _pool_of(attempt: Attempt) -> tuple[str, str | None]:
    return attempt.ref.namespace, attempt.graph.pool
