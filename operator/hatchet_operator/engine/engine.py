"""The operator's engine: its parts, wired together, and the steps of its start."""

import asyncio
import base64
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, SECRETS, WORKFLOWS
from hatchet_operator.cluster.ownership import is_owned_by, owners_with
from hatchet_operator.decisions.observed import Outcome, Report
from hatchet_operator.decisions.outputs import output_problem
from hatchet_operator.decisions.pooling import OperatorAccess, pool_template_of
from hatchet_operator.decisions.waiting import why_nobody_offers
from hatchet_operator.engine.callers import Callers
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.offers import Offers
from hatchet_operator.engine.pools import Pools
from hatchet_operator.engine.records import Attempt, RunStore
from hatchet_operator.engine.registry import Registry
from hatchet_operator.engine.rejoin import HandedOver
from hatchet_operator.engine.results import Results
from hatchet_operator.engine.run_pods import RunPods
from hatchet_operator.engine.runs import Runs
from hatchet_operator.engine.spawning import Spawning, Trigger
from hatchet_operator.engine.waiting import Waiting
from hatchet_operator.engine.workers import Worker
from hatchet_operator.engine.workflows import Workflows
from hatchet_operator.errors import (
    AlreadyExists,
    ApiError,
    ConfigurationError,
    Conflict,
    NotFound,
    NotPermitted,
    NotReady,
    StaleAttempt,
)
from hatchet_operator.identity import Caller
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.workflow import WorkflowDefinition
from hatchet_operator.settings import Settings, Tls

log = logging.getLogger(__name__)

_KEY_SECRET = "hatchet-operator-tokens"  # noqa: S105  # the name of an object
_LIST_ENDS_AFTER_SECONDS = 1.0
_RESYNC_SECONDS = 60.0


class Engine:
    """Everything that the operator knows and does, but for kopf and gRPC."""

    def __init__(
        self,
        api: Api,
        settings: Settings,
        *,
        token_key: str,
        is_leading: Callable[[], bool],
        on_absence: Callable[[], None],
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self._on_absence = on_absence
        self._listed_anew: asyncio.TimerHandle | None = None
        self._resyncing: set[asyncio.Task[None]] = set()
        self._ttls: dict[ObjectRef, timedelta] = {}
        self.events = EventRecorder(api)
        self.store = RunStore()
        # The parts need each other: what is made later is looked up when it is asked.
        self.workflows = Workflows(
            api,
            events=self.events,
            on_change=self._workflow_changed,
            template_of=lambda pool: self.pools.template_of(pool),
            pool_exists=self._pool_is_there,
            revisions_in_use=self._revisions_in_use,
            is_offered=lambda pool, action: self.registry.is_offered(pool, action),
        )
        self.runs = Runs(
            api,
            store=self.store,
            workflows=self.workflows,
            events=self.events,
            metrics=self.metrics,
            settings=settings,
            clock=lambda: datetime.now(UTC),
            on_end=lambda record: self.run_pods.ended(record),
            trouble_of=self._trouble_of,
            awaited_for=lambda record: self.registry.rejoin.told_of(record),
            starting=lambda attempt: None if attempt.run_uid else self.pools.why_not_available(attempt.pool_ref),
            ending_of=lambda attempt: self.run_pods.ending_of(attempt.run_uid) if attempt.run_uid else None,
            told_to_stop=lambda worker, attempt_id, at: self.run_pods.told_to_stop(worker, attempt_id, at),
            on_demand=self._demand_changed,
            on_activity=lambda namespace, pool: self.waiting.active(namespace, pool),
        )
        self.results = Results(
            api,
            self.store,
            observe=self.runs.observe,
            read=self.runs.read,
            slot_changed=lambda attempt: self._slot_changed(attempt.id),
        )
        self.spawning = Spawning(
            api,
            store=self.store,
            runs=self.runs,
            workflows=self.workflows,
            events=self.events,
            metrics=self.metrics,
        )
        self.pools = Pools(
            api,
            events=self.events,
            token_key=token_key,
            workers_of=self._pool_workers,
            drain=lambda worker: self.registry.drain_worker(worker),
            queued=lambda pool: self.runs.attempts.queue.waiting_for(pool.namespace, pool.name),
            awaited=lambda pool: self.registry.rejoin.told_of_pool(pool),
            pods_of=lambda pool: self.registry.pods_of(pool),
            trouble_changed=self._pool_trouble_changed,
        )
        self.waiting = Waiting(
            self.runs.attempts.queue,
            workers_of=self._pool_workers,
            pool_of=self.pools.get,
            tell=self.runs.reconcile_waiting,
            load_changed=self.pools.loaded,
            told_after=settings.waiting_told_after,
            clock=lambda: datetime.now(UTC),
        )
        self.offers = Offers(self.workflows, workers_of=self._pool_workers, is_settled=lambda: not self.runs.holding)
        self.registry = Registry(
            api,
            store=self.store,
            runs=self.runs,
            results=self.results,
            metrics=self.metrics,
            settings=settings,
            slots_of_pool=self.pools.slots_of,
            on_change=self._workers_changed,
            on_death=lambda worker: self.run_pods.worker_died(worker),
            may_command=is_leading,
            reach_of=self.pools.reach_of,
            end_pod=self.pools.end_pod,
        )
        self.run_pods = RunPods(
            api,
            events=self.events,
            store=self.store,
            pools=self.pools,
            graph_of=lambda record: (self.workflows.graph_of(record.whole) if record.whole else None) or record.graph,
            workers_in=self.registry.workers_in_pod,
            drain=self.registry.drain_worker,
            trouble_changed=self.runs.reconcile,
            cancel_grace=settings.cancel_grace,
        )
        self.callers = Callers(
            api,
            key=token_key,
            audience=settings.token_audience,
            namespace=settings.namespace,
            find_pod=self.registry.find_pod,
        )
        self._api = api
        namespace = settings.namespace
        silence = settings.watch_silence.total_seconds()
        self.run_informer = Informer(
            api,
            RUNS,
            on_change=self.runs.observe,
            on_relist=self.runs.listed,
            on_absence=on_absence,
            on_failure=self.metrics.not_observed.labels(resource=RUNS.plural).inc,
            namespace=namespace,
            silence_seconds=silence,
        )
        self.pod_informer = Informer(
            api,
            PODS,
            on_change=self._observe_pod,
            on_failure=self.metrics.not_observed.labels(resource=PODS.plural).inc,
            namespace=namespace,
            label_selector=labels.POOL,
            silence_seconds=silence,
        )
        self._informing: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read everything there is; afterwards workers may be let in.

        Workflows first, since a run without its workflow would be said to wait for it; Pods before runs, since what
        the workers that are known may hold must not be given out.
        """
        await self.resync()
        await self.registry.know_from_leases()
        for informer in (self.pod_informer, self.run_informer):
            informing = asyncio.create_task(informer.run())
            self._informing.append(informing)
            await _unless_ended(informing, informer.synced)
        await self.runs.loaded()
        await self.workflows.wait_until_loaded()

    async def watch(self) -> None:
        """Go on until a watch ends, which is an error of ours."""
        await asyncio.gather(*self._informing, self._resync_now_and_then())

    async def _resync_now_and_then(self) -> None:
        """Kopf shows no sign of a list that is empty, so that nobody would notice that the last object is gone."""
        while True:
            await asyncio.sleep(_RESYNC_SECONDS)
            try:
                await self.resync()
            except ApiError as error:
                log.warning("workflows and pools not compared", extra={"error": str(error)})

    def admit_workers(self, grpc_address: str, handed_over: HandedOver | None = None) -> None:
        """The gRPC server listens: make pods, and wait for what known workers hold.

        Args:
            grpc_address: Where.
            handed_over: What the last leader gave to whom; None: it could not say.
        """
        secure = self.settings.tls is not Tls.NONE
        self.pools.admit(
            OperatorAccess(
                grpc_address=grpc_address,
                token_audience=self.settings.token_audience,
                tls=secure,
                own_ca=self.pools.ca_pem is not None,
                token_key=self.pools.token_key_id,
            )
        )
        self.run_pods.start()
        self.registry.begin_rejoin(handed_over)

    async def resync(self) -> None:
        """Compare what is known of Workflows and WorkerPools with what is there.

        kopf forgets deletions that happen while it can't watch; after each of its relists this finds them.
        """
        for resource, keeper in ((WORKFLOWS, self.workflows), (POOLS, self.pools)):
            try:
                items, version = await self._api.until_answered(self._api.list_all, resource, self.settings.namespace)
            except NotFound:
                self._on_absence()
                raise
            present = {ObjectRef(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}
            for item in items:
                keeper.observe("MODIFIED", item)
            for ref in keeper.known():
                if ref not in present and keeper.version_of(ref) <= int(version):  # else it is newer than the list
                    keeper.forget(ref)

    def listed_anew(self) -> None:
        """Have `resync` called a moment after the last sign of a list that kopf made."""
        if self._listed_anew is not None:
            self._listed_anew.cancel()
        self._listed_anew = asyncio.get_running_loop().call_later(_LIST_ENDS_AFTER_SECONDS, self._resync_soon)

    def _resync_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self.resync())
        self._resyncing.add(task)
        task.add_done_callback(self._resyncing.discard)

    async def stop(self) -> None:
        """Leave no task and no timer behind: whoever leads next must not be disturbed by what this engine knew."""
        self.runs.stopped = True
        if self._listed_anew is not None:
            self._listed_anew.cancel()
        reading = [*self._informing, *self._resyncing]
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        self.waiting.stop()
        self.offers.stop()
        self.registry.stop()
        await self.callers.stop()
        await self.run_pods.stop()
        await self.pools.stop()
        await self.workflows.stop()
        await self.runs.stop()
        await self.events.stop()

    # --- What workers say of attempts and of their code

    async def register_workflow(self, caller: Caller, definition: WorkflowDefinition) -> str:
        """Put a worker's definition into effect; return the name of its revision."""
        pod = await self.registry.pod_of(caller)
        template = pool_template_of(pod) if pod else None
        return await self.workflows.register(caller.namespace, caller.pool, definition, template=template)

    async def trigger(self, trigger: Trigger) -> str:
        """Make sure that a run exists; return the id that its client knows it by."""
        return self.run_id(trigger.caller, await self.spawning.trigger(trigger))

    def run_id(self, caller: Caller, name: str) -> str:
        """Return by which id a caller knows a run: its name, or else its UID, while we know that."""
        record = None if caller.takes_names else self.store.get(ObjectRef(caller.namespace, name))
        return record.uid if record else name

    def attempt(self, caller: Caller, attempt_id: str) -> Attempt | None:
        """Return an attempt that is in the queue or out; None: the caller's namespace has none of that id.

        Raises:
            NotPermitted: It was given to somebody else.
            NotReady: It was given to nobody yet, as far as this operator knows.
        """
        attempt = self.runs.attempts.get(attempt_id)
        if attempt is None or attempt.ref.namespace != caller.namespace:
            return None
        if not attempt.is_of(caller):
            if attempt.worker is None and caller.pool_ref == attempt.pool_ref:
                # Two may lead for a moment: the other may have given it out, and we will when this worker has a slot.
                raise NotReady(f'step "{attempt.step.name}" of run "{attempt.ref.name}" is queued; repeat the call')
            raise NotPermitted(f'{caller} was not given step "{attempt.step.name}" of run "{attempt.ref.name}"')
        return attempt

    def may_log(self, caller: Caller, attempt_id: str) -> Attempt:
        """Return the attempt that a line is of: one that the caller has, or had a moment ago.

        Raises:
            NotPermitted: It is somebody else's.
            NotReady: It was given to nobody yet, as far as this operator knows.
            StaleAttempt: Nobody knows whose it is.
        """
        if (attempt := self.attempt(caller, attempt_id)) is not None:
            return attempt
        known = self.runs.attempts.get(attempt_id) or self.runs.attempts.over(attempt_id)
        if known is None:
            raise StaleAttempt(f'there is no attempt "{attempt_id}", or it ended long ago; the line was dropped')
        if known.ref.namespace != caller.namespace or not known.is_of(caller):
            raise NotPermitted(f'attempt "{attempt_id}" was not given to {caller}; the line was dropped')
        return known

    def started(self, caller: Caller, attempt_id: str) -> None:
        """A worker that does not say what it holds says at least that it has begun."""
        if (attempt := self.attempt(caller, attempt_id)) is not None:
            attempt.starts += 1

    async def report(
        self,
        caller: Caller,
        attempt_id: str,
        outcome: Outcome,
        *,
        run_uid: str | None = None,
        payload: str = "",
        may_retry: bool = True,
        retry_after: timedelta | None = None,
    ) -> None:
        """Take in how an attempt ended, and return when it is written down (or does not matter any more)."""
        self.run_pods.attempt_ended(caller, attempt_id)
        if not self.may_report(caller, attempt_id, run_uid):
            return  # as for any attempt that is not there
        self.registry.ended(self.runs.attempts.get(attempt_id))
        now = datetime.now(UTC)
        report = Report(
            attempt_id=attempt_id,
            outcome=outcome,
            at=now,
            output=payload or None if outcome is Outcome.COMPLETED else None,
            error=payload if outcome is Outcome.FAILED else None,
            may_retry=may_retry,
            retry_after=retry_after,
        )
        if outcome is Outcome.COMPLETED and (problem := self._output_problem(attempt_id, payload)) is not None:
            report = Report(attempt_id=attempt_id, outcome=Outcome.FAILED, at=now, error=problem)
        acknowledged = self.runs.report(attempt_id, report, run_uid=run_uid)
        if acknowledged is not None:
            await acknowledged

    def may_report(self, caller: Caller, attempt_id: str, run_uid: str | None) -> bool:
        """Whether a report of this attempt would matter.

        Raises:
            NotPermitted: The attempt was given to somebody else.
            NotReady: Nobody knows yet to whom it was given.
        """
        if attempt_id in self.runs.attempts:
            return self.attempt(caller, attempt_id) is not None
        record = self.store.by_uid(run_uid) if run_uid else None
        if record is None or record.ref.namespace != caller.namespace:
            return record is None
        return self.runs.step_of(record, attempt_id) is None or self.runs.may_have_unclaimed(caller, record)

    def _output_problem(self, attempt_id: str, payload: str) -> str | None:
        attempt = self.runs.attempts.get(attempt_id)
        record = self.store.get(attempt.ref) if attempt else None
        return output_problem(
            payload,
            step=f'step "{attempt.step.name}"' if attempt else "the step",
            run=record.run if record else None,
            pending=record.reports.values() if record else (),
        )

    def refresh_timeout(self, caller: Caller, attempt_id: str, by: timedelta) -> datetime | None:
        """Let an attempt run longer; None: it is not the current one."""
        attempt = self.attempt(caller, attempt_id)
        if attempt is None or attempt.deadline is None:
            return None
        attempt.deadline += by
        return attempt.deadline

    def release_slot(self, caller: Caller, attempt_id: str) -> None:
        attempt = self.attempt(caller, attempt_id)
        if attempt is not None:
            attempt.change_slot(lambda: setattr(attempt, "released", True))
            self._slot_changed(attempt_id)

    # --- Wiring

    def _slot_changed(self, attempt_id: str) -> None:
        attempt = self.runs.attempts.get(attempt_id)
        if attempt is not None and attempt.worker is not None:
            self.runs.attempts.queue.fill(attempt.worker)

    def _observe_pod(self, kind: str, pod: Json) -> None:
        self.callers.observe_pod(kind, pod)
        self.registry.observe_pod(kind, pod)
        self.pools.observe_pod(kind, pod)
        self.run_pods.observe_pod(kind, pod)

    def _demand_changed(self, namespace: str, pool: str | None, run_uid: str | None) -> None:
        if run_uid is not None:
            self.run_pods.changed(run_uid)
        else:
            self.pools.changed(ObjectRef(namespace, pool or ""))

    def _trouble_of(self, attempt: Attempt) -> str | None:
        """Say why nobody takes an attempt that waits, as far as that is known."""
        if attempt.run_uid is not None:
            return self.run_pods.trouble_of(attempt.run_uid)
        ref = attempt.pool_ref
        if (trouble := self.pools.trouble_of(ref)) is not None:
            return trouble
        if (nobody_offers := self._nobody_offers(attempt)) is not None:
            return nobody_offers
        if (pool := self.pools.get(ref)) is None:
            return f'there is no WorkerPool "{ref.name}", and no other worker of that pool is connected'
        if pool.spec.largest == 0:
            return f'pool "{ref.name}" may have no pods (maxReplicas: 0)'
        return None

    def _nobody_offers(self, attempt: Attempt) -> str | None:
        """Say that workers of the pool are there without the code of a step, if that is so."""
        ref = attempt.pool_ref
        connected = [worker for worker in self._pool_workers(ref) if worker.is_connected]
        if not connected or any(attempt.step.action in worker.registration.actions for worker in connected):
            return None
        actions = {action for worker in connected for action in worker.registration.actions}
        offered = self.workflows.offered_by(ref.namespace, actions)
        workflow = self.workflows.get(ObjectRef(ref.namespace, attempt.graph.workflow))
        return why_nobody_offers(
            ref.name,
            workflow=workflow.exact_name if workflow else attempt.graph.workflow,
            step=attempt.step.name,
            workers=len(connected),
            offered=offered,
        )

    def _workers_changed(self, pool: ObjectRef) -> None:
        self.pools.changed(pool)
        self.offers.changed(pool)

    def _pool_workers(self, pool: ObjectRef) -> list[Worker]:
        return [worker for worker in self.registry.workers_of_pool(pool) if worker.run_uid is None]

    def _pool_trouble_changed(self, pool: ObjectRef) -> None:
        self.runs.reconcile_waiting(self.runs.attempts.queue.waiting_in(pool.namespace, pool.name))

    def _pool_is_there(self, pool: ObjectRef) -> bool:
        return pool in self.pools or any(worker.is_connected for worker in self.registry.workers_of_pool(pool))

    def _revisions_in_use(self, workflow: ObjectRef) -> set[str]:
        return {
            record.run.status.definition or record.graph.revision
            if record.graph
            else record.run.status.definition or ""
            for record in self.store.unfinished_of(workflow)
        }

    def _workflow_changed(self, workflow: ObjectRef) -> None:
        seen = self.workflows.get(workflow)
        ttl = seen.spec.ttl if seen else None
        # finished runs, of which there may be many, ask for no more
        ttl_changed = self._ttls.pop(workflow, None) != ttl
        if ttl is not None:
            self._ttls[workflow] = ttl
        records = self.store.unfinished_of(workflow)
        for record in records:
            self.runs.follow_pool(record)
        self.runs.reconcile_all(records)
        if ttl_changed:
            finished = (
                record
                for record in self.store
                if record.is_final and record.parent_uid is None and record.is_of(workflow)
            )
            self.runs.reconcile_all(finished)


async def find_token_key(api: Api, settings: Settings) -> str:
    """Return the key that pool tokens are signed with: a setting, or kept in a Secret made at the first start."""
    if settings.token_key:
        return settings.token_key
    namespace, owner = settings.operator_namespace, settings.owner
    metadata = {"name": _KEY_SECRET, "namespace": namespace, "labels": {labels.MANAGED_BY: labels.MANAGER}}
    body: Json = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**metadata, "ownerReferences": owners_with({}, owner)},
        "stringData": {"key": secrets.token_hex(32)},
    }
    while True:
        try:
            return _decode(await api.until_answered(api.create, SECRETS, namespace, body))
        except AlreadyExists:
            pass
        try:
            secret = await api.until_answered(api.get, SECRETS, namespace, _KEY_SECRET)
            if not is_owned_by(owner, secret):
                secret["metadata"]["ownerReferences"] = owners_with(secret, owner)
                secret = await api.until_answered(api.replace, SECRETS, namespace, _KEY_SECRET, secret)
        except (NotFound, Conflict):
            continue  # another operator was quicker, or it went with an earlier owner
        return _decode(secret)


def _decode(secret: Json) -> str:
    try:
        return base64.b64decode(secret["data"]["key"]).decode()
    except (KeyError, ValueError) as error:
        raise ConfigurationError(
            f'Secret "{_KEY_SECRET}" has no readable "key"; delete it to have a new one made'
        ) from error


async def _unless_ended(task: asyncio.Task[None], event: asyncio.Event) -> None:
    """Wait for an event that a task is to set; raise what ended the task before."""
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        waiting.cancel()
