"""What the cluster holds at this moment, kept fresh by watching, and a way to wait for a change."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from hatchet_cli.tree import RunNode, make_tree
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import PODS, RUNS, WORKFLOWS
from hatchet_operator.engine.workers.registrations import read_registration
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workflow import Workflow
from hatchet_operator_dev.worker_pool import NAMESPACE, POOL_NAME

T = TypeVar("T")


class WorkerPod:
    """A pod of the pool, as far as ``dev`` is concerned."""

    def __init__(self, pod: Json) -> None:
        self._pod = pod
        self.name: str = pod["metadata"]["name"]
        self.uid: str = pod["metadata"]["uid"]
        self.is_leaving: bool = "deletionTimestamp" in pod["metadata"]

    @property
    def is_registered(self) -> bool:
        """Whether its worker has told the operator what it can do, and is running."""
        return labels.REGISTRATION in (self._pod["metadata"].get("annotations") or {}) and self.trouble is None

    @property
    def actions(self) -> frozenset[str]:
        """What its worker registered."""
        metadata = self._pod["metadata"]
        registration = read_registration(metadata["name"], metadata.get("annotations") or {})
        return frozenset(registration.actions if registration else ())

    @property
    def trouble(self) -> str | None:
        """Why its command does not run: it ended or could not start; None while all is well."""
        for container in (self._pod.get("status") or {}).get("containerStatuses") or []:
            waiting = container["state"].get("waiting")
            if waiting and waiting.get("message"):
                return str(waiting["message"])
        return None

    @property
    def restarts(self) -> int:
        """How often its command was started again."""
        statuses = (self._pod.get("status") or {}).get("containerStatuses") or []
        return int(statuses[0]["restartCount"]) if statuses else 0

    @property
    def last_exit_code(self) -> int | None:
        for container in (self._pod.get("status") or {}).get("containerStatuses") or []:
            if ended := (container.get("lastState") or {}).get("terminated"):
                return int(ended["exitCode"])
        return None


class View:
    """Runs, workflows and the pool's pods."""

    def __init__(self, api: Api) -> None:
        self.runs: dict[str, WorkflowRun] = {}
        self.workflows: dict[str, Workflow] = {}
        self.pods: dict[str, WorkerPod] = {}
        self._changed = asyncio.Event()
        self._informers = (
            Informer(api, RUNS, on_change=self._keeper(self.runs, WorkflowRun.model_validate), namespace=NAMESPACE),
            Informer(api, WORKFLOWS, on_change=self._keeper(self.workflows, Workflow.model_validate)),
            Informer(
                api,
                PODS,
                on_change=self._keeper(self.pods, WorkerPod),
                namespace=NAMESPACE,
                label_selector=f"{labels.POOL}={POOL_NAME}",
            ),
        )

    async def run(self) -> None:
        """Keep refreshing the view, forever."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run())

    async def change(self, *, within_seconds: float | None = None) -> None:
        """Return after the next change, or when the time is up."""
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), within_seconds)

    def tree(self, root_uid: str) -> RunNode | None:
        return make_tree(self.runs.values(), root_uid, names=self.names())

    def names(self) -> dict[str, str]:
        """Return the exact names of the workflows by object name."""
        return {workflow.metadata.name: workflow.exact_name for workflow in self.registered_workflows()}

    def names_of(self, pod: WorkerPod) -> list[str]:
        """Return the exact names of the workflows that a pod's worker has, sorted."""
        actions = pod.actions
        return sorted(
            workflow.exact_name
            for workflow in self.registered_workflows()
            if workflow.status.definition is not None
            and any(step.action in actions for step in workflow.status.definition.steps)
        )

    def registered_workflows(self) -> Iterator[Workflow]:
        return (workflow for workflow in self.workflows.values() if workflow.status.definition is not None)

    def _keeper(self, objects: dict[str, T], parse: Callable[[Json], T]) -> Callable[[str, Json], None]:
        def keep(change: str, obj: Json) -> None:
            if change == "DELETED":
                objects.pop(obj["metadata"]["uid"], None)
            else:
                objects[obj["metadata"]["uid"]] = parse(obj)
            self._changed.set()

        return keep
