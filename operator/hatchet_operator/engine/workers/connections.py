"""The stream of each connected worker: while it is open, the queue assigns attempts to the worker."""

import logging
from collections.abc import Callable, Iterable

from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.queue import AttemptQueue
from hatchet_operator.engine.dispatch.worker import Worker, WorkerStream
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.errors import NotReady

log = logging.getLogger(__name__)


class Connections:
    """The streams of all workers.

    Args:
        queue: Assigns attempts to those that are connected.
        metrics: Counts them.
        clock: Tells the time.
        may_command: See `WorkerStream`.
    """

    def __init__(self, queue: AttemptQueue, *, metrics: Metrics, clock: Clock, may_command: Callable[[], bool]) -> None:
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._may_command = may_command
        self._are_over = False

    def check_open(self) -> None:
        """Raise `NotReady` once `end` was called: a worker that listens again has to do so at the next leader."""
        if self._are_over:
            raise NotReady("this operator is about to end and assigns nothing more; listen to the next one")

    def open(self, worker: Worker) -> WorkerStream:
        """Open a worker's stream, replacing the one that it had; until `let_in`, nothing is assigned to it."""
        self.check_open()
        self.close(worker)
        stream = worker.stream = WorkerStream(self._may_command)
        self._metrics.workers.inc()
        return stream

    def let_in(self, worker: Worker) -> None:
        """Have the queue assign attempts to the worker, unless it is draining."""
        if not worker.draining:
            self._queue.connect(worker)
        log.info("worker listening", extra={"worker": worker.id, "draining": worker.draining})

    def labels_changed(self, worker: Worker) -> None:
        """Have the queue assign what the worker may take with its new labels."""
        if worker.is_connected:
            self._queue.labels_changed(worker, self._clock.now())

    def close(self, worker: Worker) -> None:
        """Close the worker's stream, if one is open; nothing more is assigned to it."""
        if worker.stream is None:
            return
        worker.stream.close()
        worker.stream = None
        worker.left_at = self._clock.loop_time()
        self._metrics.workers.dec()
        self._queue.disconnect(worker, self._clock.now())

    def end(self, workers: Iterable[Worker]) -> None:
        """Close all streams, for good: from now on no worker gets anything, whoever listens and whatever it reports.

        The handover says which worker has what as of this moment: the next leader would assign to another worker what
        was assigned after it.
        """
        self._are_over = True
        self._queue.end()
        for worker in workers:
            if worker.stream is not None:
                worker.stream.close()

    def drain(self, worker: Worker) -> None:
        """Give the worker nothing new; what it has, it finishes."""
        if worker.draining_since is None:
            worker.draining_since = self._clock.loop_time()
            self._queue.disconnect(worker, self._clock.now())
            log.info("worker draining", extra={"worker": worker.shown_name, "attempts": len(worker.assigned)})
