"""Why no worker takes a waiting attempt, as far as that is known from pods, workers and workflows."""

from hatchet_operator.decisions.waiting import why_bound, why_nobody_fits, why_nobody_offers
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.dispatch.worker import Worker
from hatchet_operator.engine.pods.known_pools import KnownPools
from hatchet_operator.engine.pods.pods_of_runs import PodsOfRuns
from hatchet_operator.engine.workers.workers import Workers
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.worker_labels import StickyWorker


class Obstacles:
    """Asks every room that may know."""

    def __init__(self, *, pools: KnownPools, pods_of_runs: PodsOfRuns, workers: Workers, workflows: Workflows) -> None:
        self._pools = pools
        self._pods_of_runs = pods_of_runs
        self._workers = workers
        self._workflows = workflows

    def of(self, attempt: Attempt) -> str | None:
        """Say why no worker takes a waiting attempt."""
        if attempt.bound_to is not None and (absent := self._bound_to_absent(attempt, attempt.bound_to)) is not None:
            return absent
        if attempt.run_uid is not None:
            return self._nobody_fits(attempt) or self._pods_of_runs.trouble_of(attempt.run_uid)
        return self._nobody_fits(attempt) or self._of_pool(attempt)

    def starting(self, attempt: Attempt) -> str | None:
        """Say which workers of a pool are starting that a waiting attempt could go to."""
        return None if attempt.run_uid is not None else self._pools.why_not_available(attempt.pool_ref)

    def _of_pool(self, attempt: Attempt) -> str | None:
        ref = attempt.pool_ref
        if (trouble := self._pools.trouble_of(ref)) is not None:
            return trouble
        if (nobody_offers := self._nobody_offers(attempt)) is not None:
            return nobody_offers
        if (pool := self._pools.get(ref)) is None:
            return f'there is no WorkerPool "{ref.name}", and no other worker of that pool is connected'
        if pool.spec.largest == 0:
            return f'pool "{ref.name}" may have no pods (maxReplicas: 0)'
        return None

    def _nobody_offers(self, attempt: Attempt) -> str | None:
        """Say that the pool has workers but none with the step's code, if that is so."""
        ref, connected = attempt.pool_ref, self._connected(attempt)
        if not connected or any(attempt.step.action in worker.registration.actions for worker in connected):
            return None
        actions = {action for worker in connected for action in worker.registration.actions}
        return why_nobody_offers(
            ref.name,
            workflow=self._exact_name(attempt),
            step=attempt.step.name,
            workers=len(connected),
            offered=self._workflows.offered_by(ref.namespace, actions),
        )

    def _nobody_fits(self, attempt: Attempt) -> str | None:
        """Say that workers offer the step but none has the labels that it requires, if that is so."""
        able = [worker for worker in self._connected(attempt) if attempt.step.action in worker.registration.actions]
        if not able or not attempt.required:
            return None
        return why_nobody_fits(
            attempt.pool_ref.name,
            workflow=self._exact_name(attempt),
            step=attempt.step.name,
            required=attempt.required,
            workers=[worker.labels for worker in able],
        )

    def _bound_to_absent(self, attempt: Attempt, only: StickyWorker) -> str | None:
        """Say why the only worker that may take an attempt can't, if that is so."""
        worker = self._workers.get(only.id)
        return why_bound(
            only.shown,
            step=attempt.step.name,
            is_known=worker is not None,
            is_leaving=worker is not None and worker.draining,
            is_connected=worker is not None and worker.is_connected,
            offers_it=worker is not None and attempt.step.action in worker.registration.actions,
        )

    def _connected(self, attempt: Attempt) -> list[Worker]:
        workers = self._workers.of_pool(attempt.pool_ref)
        connected = [worker for worker in workers if worker.run_uid == attempt.run_uid and worker.is_connected]
        only = attempt.bound_to
        return connected if only is None else [worker for worker in connected if worker.id == only.id]

    def _exact_name(self, attempt: Attempt) -> str:
        workflow = self._workflows.get(ObjectRef(attempt.ref.namespace, attempt.graph.workflow))
        return workflow.exact_name if workflow else attempt.graph.workflow
