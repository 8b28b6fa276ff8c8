"""What creating roots and children have in common: find the workflow, create the object, read what exists."""

import difflib

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.spawning.trigger import Trigger, workflow_ref_of
from hatchet_operator.engine.workflows.workflows import Workflows
from hatchet_operator.errors import (
    InvalidRequest,
    NotFound,
    Refused,
    UnknownObject,
    Unsupported,
)
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import (
    ObjectRef,
)
from hatchet_operator.resources.reasons import Stickiness
from hatchet_operator.resources.run import WorkflowRun


class Creation:
    """Creates runs' objects, and reads those that exist already.

    Args:
        api: Where they are.
        observer: Observes what the API server answers.
        workflows: What can be run.
    """

    def __init__(self, api: Api, *, observer: RunObserver, workflows: Workflows) -> None:
        self._api = api
        self._observer = observer
        self._workflows = workflows

    def known_workflow(self, trigger: Trigger) -> ObjectRef:
        """Return the Workflow that is asked for.

        Raises:
            UnknownObject: No worker registered it; the message lists what is registered, and guesses what was meant.
            Unsupported: The run is to stay with one worker, but the workflow is not sticky.
        """
        ref = workflow_ref_of(trigger)
        workflow = self._workflows.get(ref)
        if workflow is None or ref not in self._workflows or workflow.exact_name != trigger.workflow:
            known = sorted(other.exact_name for _, other in self._workflows.in_namespace(trigger.namespace))
            shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "") if known else "none"
            raise UnknownObject(
                f'workflow "{trigger.workflow}" is not registered in namespace "{trigger.namespace}" '
                f"(registered: {shown}){_guess(trigger.workflow, known)} Check the name, or start the worker that "
                "registers it (again, if the workflow was deleted)"
            )
        self._check_sticky(trigger, ref)
        return ref

    def _check_sticky(self, trigger: Trigger, ref: ObjectRef) -> None:
        """Refuse, as Hatchet does, a request for a worker if the workflow is not sticky."""
        graph = self._workflows.current_graph(ref)
        if trigger.worker_id is not None and graph is not None and graph.sticky is Stickiness.NONE:
            raise Unsupported(
                f'the run of workflow "{trigger.workflow}" asks for one worker (sticky=True), but the workflow is not '
                "sticky; declare it with sticky=StickyStrategy.SOFT or HARD, or spec.sticky, or leave the option out"
            )

    def pool_of(self, ref: ObjectRef) -> str | None:
        """Return the pool whose workers run a workflow; None: it is unknown, or any."""
        workflow = self._workflows.get(ref)
        return (workflow.spec.pool or workflow.status.pool) if workflow else None

    async def create(self, trigger: Trigger, body: Json) -> Json:
        """Create a run's object, and return it.

        Raises:
            AlreadyExists: There is a run of this name.
            InvalidRequest: The API server refused it.
        """
        try:
            return await self._api.until_answered(self._api.create, RUNS, trigger.namespace, body)
        except Refused as error:
            raise InvalidRequest(f'a run of workflow "{trigger.workflow}" was refused: {error.message}') from error

    async def read(self, ref: ObjectRef) -> WorkflowRun | None:
        """Read a run from the API server; None: there is none of this name."""
        obj = await self.read_object(ref)
        return WorkflowRun.model_validate(obj) if obj is not None else None

    async def read_object(self, ref: ObjectRef) -> Json | None:
        """Read a run as JSON, which is observed as well; None: there is none of this name."""
        try:
            obj = await self._api.until_answered(self._api.get, RUNS, ref.namespace, ref.name)
        except NotFound:
            return None
        self._observer.observe("MODIFIED", obj)
        return obj


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else "."
