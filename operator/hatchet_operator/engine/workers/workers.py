"""The workers that are known, by id and by Pod, and the Pods of pools as the watch last saw them. In memory only."""

from collections.abc import Iterator

from hatchet_operator.decisions.pooling import address_of, is_ours, pool_of
from hatchet_operator.decisions.run_pods import has_ended
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod


class Workers:
    """All workers, and the Pods that they may run in."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._by_pod: dict[str, set[Worker]] = {}
        self._pods: dict[str, Pod] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def get(self, worker_id: str | None) -> Worker | None:
        return self._workers.get(worker_id or "")

    def of_pool(self, pool: ObjectRef) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.pool == pool]

    def shared_of(self, pool: ObjectRef) -> list[Worker]:
        """Return the workers of a pool, without those in pods that serve only one run."""
        return [worker for worker in self.of_pool(pool) if worker.run_uid is None]

    def is_offered(self, pool: ObjectRef, action: str) -> bool:
        """Return whether a worker of a pool may be given the action."""
        return any(action in worker.registration.actions for worker in self.of_pool(pool))

    def in_pod(self, uid: str) -> list[Worker]:
        return list(self._by_pod.get(uid, ()))

    def add(self, worker: Worker) -> None:
        self._workers[worker.id] = worker
        if worker.pod_uid is not None:
            self._by_pod.setdefault(worker.pod_uid, set()).add(worker)

    def remove(self, worker: Worker) -> None:
        """Forget a worker: it is dead, or has registered again."""
        worker.dead = True
        if worker.silence is not None:
            worker.silence.cancel()
        self._workers.pop(worker.id, None)
        if worker.pod_uid is not None and (others := self._by_pod.get(worker.pod_uid)) is not None:
            others.discard(worker)
            if not others:
                del self._by_pod[worker.pod_uid]

    # --- Pods

    def saw_pod(self, kind: str, pod: Pod) -> None:
        """Observe a Pod, as the watch of Pods saw it."""
        if kind == "DELETED":
            self._pods.pop(pod.uid, None)
        else:
            self._pods[pod.uid] = pod

    def find_pod(self, uid: str) -> Pod | None:
        """Return a Pod that belongs to a pool, as the watch last saw it."""
        return self._pods.get(uid)

    def pod_of(self, worker: Worker) -> Pod | None:
        """Return the Pod that a worker runs in; None: it runs in none, or its Pod is gone."""
        return self._pods.get(worker.pod_uid or "")

    def addresses_in_use(self) -> set[str]:
        """Return the addresses of the operator that Pods of pools were given."""
        found = (address_of(pod) for pod in self._pods.values() if not has_ended(pod))
        return {address for address in found if address is not None}

    def pods_of(self, pool: ObjectRef) -> list[Pod]:
        """Return the Pods of a pool that we created, including those that serve only one run."""
        return [pod for pod in self._pods.values() if pool_of(pod) == pool and is_ours(pod)]


def run_of(pod: Pod | None) -> str | None:
    """Return the UID of the run that a Pod was created for; None: it serves any run."""
    return pod.labels.get(labels.RUN_UID) if pod else None
