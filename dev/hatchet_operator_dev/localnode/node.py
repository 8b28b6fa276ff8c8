"""Pods of an API server that run here: each one bound to this node, and those that no node has taken yet."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.errors import ApiError
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.localnode.environment import inherited_environment
from hatchet_operator_dev.localnode.runner import PodRunner

log = logging.getLogger(__name__)

OutputHandler = Callable[[str, str], None]
"""Called with a pod's name and a line of its output."""

_FINAL = ("Succeeded", "Failed")


class LocalNode:
    """Runs pods as child processes.

    Args:
        api: Where the pods are.
        state_directory: Holds the containers' logs, in ``logs/``.
        name: Name of the node, as in a pod's ``spec.nodeName``.
        namespace: Pods of one namespace; None: all.
        takes_unbound: Also take pods that have no node yet, since there is no scheduler.
        inherited: What commands see besides their containers' variables; None: the little that they need to run.
        stop_seconds: The longest that a command gets to end when the node stops.
        farewell_seconds: How long to try to say then that they have ended.
        on_output: Called with each line that a container writes.
    """

    def __init__(
        self,
        api: Api,
        *,
        state_directory: Path,
        name: str = "local",
        namespace: str | None = None,
        takes_unbound: bool = True,
        inherited: Mapping[str, str] | None = None,
        stop_seconds: float = 5.0,
        farewell_seconds: float = 2.0,
        on_output: OutputHandler | None = None,
    ) -> None:
        self._api = api
        self._name = name
        self._takes_unbound = takes_unbound
        self._inherited = inherited_environment() if inherited is None else inherited
        self._stop_seconds = stop_seconds
        self._farewell_seconds = farewell_seconds
        self._on_output = on_output
        self._logs = state_directory / "logs"
        self._runners: dict[str, PodRunner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._informer = Informer(api, PODS, on_change=self._observe, namespace=namespace)

    @property
    def synced(self) -> asyncio.Event:
        """Set once the pods that were there at the start are known."""
        return self._informer.synced

    async def run(self, stop: asyncio.Event) -> None:
        """Run pods until ``stop`` is set, then end their commands; no process is left when this returns or raises."""
        self._logs.mkdir(parents=True, exist_ok=True)
        async with self._group as group:
            watching = group.create_task(self._informer.run())
            await stop.wait()
            watching.cancel()
            for task in self._tasks.values():
                task.cancel()
        try:
            async with asyncio.timeout(self._farewell_seconds):
                await asyncio.gather(*(runner.mark_stopped() for runner in self._runners.values()))
        except (ApiError, TimeoutError) as error:
            log.warning("pods not marked as stopped", extra={"node": self._name, "error": repr(error)})

    def _observe(self, change: str, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if change == "DELETED":
            if runner := self._runners.pop(uid, None):
                runner.forget()
        elif runner := self._runners.get(uid):
            runner.observe(pod)
        elif self._is_ours(pod):
            self._take(uid, pod)

    def _is_ours(self, pod: Json) -> bool:
        if (pod.get("status") or {}).get("phase") in _FINAL and not pod["metadata"].get("deletionTimestamp"):
            return False
        bound_to = pod["spec"].get("nodeName")
        return bound_to == self._name or (not bound_to and self._takes_unbound)

    def _take(self, uid: str, pod: Json) -> None:
        name = pod["metadata"]["name"]
        handler = self._on_output
        runner = self._runners[uid] = PodRunner(
            self._api,
            pod,
            node=self._name,
            inherited=self._inherited,
            logs=self._logs,
            stop_seconds=self._stop_seconds,
            on_line=(lambda line: handler(name, line)) if handler else None,
        )
        task = self._tasks[uid] = self._group.create_task(runner.run(), name=f"pod {name}")
        task.add_done_callback(lambda _: self._tasks.pop(uid))
