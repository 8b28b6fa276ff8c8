"""What clients and workers ask about workflows and runs, where it takes more than one room to answer."""

from collections.abc import Mapping

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.pooling import pool_template_of
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.results import Results
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.spawning.spawning import Spawning
from hatchet_operator.engine.spawning.trigger import Trigger
from hatchet_operator.engine.streams.readers import Reader
from hatchet_operator.engine.streams.streams import Streams
from hatchet_operator.engine.workers.registry import Registry
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import IdempotencyCollision, UnknownObject
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import WorkflowDefinition


class ClientCalls:
    """Handles what clients ask.

    Args:
        store: What is known of runs.
        observer: Observes runs that are looked up.
        reader: Reads runs that are over.
        results: Looks up runs that are not known.
        spawning: Starts runs.
        streams: What runs publish.
        workflows: What runs execute.
        registry: The workers, and their Pods.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        observer: RunObserver,
        reader: RunReader,
        results: Results,
        spawning: Spawning,
        streams: Streams,
        workflows: Workflows,
        registry: Registry,
    ) -> None:
        self._store = store
        self._observer = observer
        self._reader = reader
        self._results = results
        self._spawning = spawning
        self._streams = streams
        self._workflows = workflows
        self._registry = registry

    async def register_workflow(self, caller: Caller, definition: WorkflowDefinition) -> str:
        """Put a worker's definition into effect; return the name of its revision."""
        pod = await self._registry.pod_of(caller)
        template = pool_template_of(pod) if pod else None
        return await self._workflows.register(caller.namespace, caller.pool, definition, template=template)

    async def trigger(self, trigger: Trigger) -> str:
        """Ensure that a run exists; return the id that its client knows it by."""
        try:
            return self.run_id(trigger.caller, await self._spawning.trigger(trigger))
        except IdempotencyCollision as error:
            raise IdempotencyCollision(self.run_id(trigger.caller, error.run)) from None

    def run_id(self, caller: Caller, name: str) -> str:
        """Return the id by which a caller knows a run: its name, or otherwise its UID, while we know that."""
        record = None if caller.takes_names else self._store.get(ObjectRef(caller.namespace, name))
        return record.uid if record else name

    def is_light(self, caller: Caller, run_id: str) -> bool:
        """Whether a run has no object yet."""
        record = self._store.find(caller.namespace, run_id)
        return record is not None and record.light is not None

    async def find_run(self, caller: Caller, run_id: str) -> tuple[WorkflowRun, Graph | None] | None:
        """Return a run of the caller's namespace by its name or UID, and its graph; None: there is none."""
        record = await self._find_record(caller, run_id)
        if record is None:  # none, or another controller's, about which nothing is remembered
            obj = await self._results.look_up(caller.namespace, run_id)
            return None if obj is None else (WorkflowRun.model_validate(obj), None)
        run = await self._reader.read(record)
        return None if run is None else (run, self._workflows.graph_of(run))

    async def _find_record(self, caller: Caller, run_id: str) -> RunRecord | None:
        record = self._store.find(caller.namespace, run_id)
        if record is None and (obj := await self._results.look_up(caller.namespace, run_id)) is not None:
            self._observer.observe("MODIFIED", obj)
            record = self._store.find(caller.namespace, run_id)
        return record

    async def read_stream(self, caller: Caller, run_id: str, *, seen: Mapping[str, int]) -> Reader:
        """Listen to a run of the caller's namespace.

        Raises:
            UnknownObject: There is none.
        """
        record = await self._find_record(caller, run_id)
        if record is None:
            raise UnknownObject(f"run {run_id} was deleted, or never existed")
        return self._streams.read(record, seen=seen)
