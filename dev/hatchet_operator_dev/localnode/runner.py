"""The life of one pod on a local node.

taken ──► start ──► running ──► ended ──► back-off ──► start …        until it is final, deleted, or the node stops
            └─ cannot start ─────────────────┘
"""

import asyncio
import contextlib
import logging
import shlex
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, Resource
from hatchet_operator.errors import Conflict, NotFound, Refused
from hatchet_operator.resources.base import GROUP, Json
from hatchet_operator_dev.localnode.environment import BadEnvironment, expand, resolve_environment
from hatchet_operator_dev.localnode.process import CannotStart, Ended, Process
from hatchet_operator_dev.localnode.status import next_back_off, resume_record, should_restart

log = logging.getLogger(__name__)

LOG_PATH_ANNOTATION = f"{GROUP}/log-path"
"""Annotation of a Pod: the file with its container's output."""

_DEFAULT_GRACE_SECONDS = 30


class PodRunner:
    """Runs the first container of a pod.

    Args:
        api: Where the pod is.
        pod: The pod, as first seen.
        node: Name of the node.
        inherited: What the command sees besides the container's own variables.
        logs: Directory for the container's log.
        stop_seconds: The longest that a command gets to end when the node stops.
        on_line: Called with each line of the container's output.
    """

    def __init__(
        self,
        api: Api,
        pod: Json,
        *,
        node: str,
        inherited: Mapping[str, str],
        logs: Path,
        stop_seconds: float,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        metadata = pod["metadata"]
        self._api = api
        self._pod = pod
        self._namespace, self._name, self._uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self._node = node
        self._inherited = inherited
        self._container: Json = pod["spec"]["containers"][0]
        self._log = logs / f"{self._namespace}_{self._name}_{self._uid}.log"
        self._on_line = on_line
        self._record = resume_record(pod)
        self._is_final = False
        self._deleted = asyncio.Event()
        self._gone = asyncio.Event()
        self._grace_seconds: float = _grace_seconds(pod)
        self._stop_seconds = stop_seconds

    def observe(self, pod: Json) -> None:
        """Take note of the pod's newest state."""
        if pod["metadata"].get("deletionTimestamp"):
            self._grace_seconds = _grace_seconds(pod)
            self._deleted.set()

    def forget(self) -> None:
        """Take note that there is no such pod any more."""
        self._grace_seconds = 0
        self._deleted.set()
        self._gone.set()

    async def run(self) -> None:
        """Run the pod until it is final or deleted. Cancelled: end its command and leave the pod."""
        try:
            self.observe(self._pod)
            if not self._pod["spec"].get("nodeName") and not self._deleted.is_set():
                await self._bind()
            await self._live()
            await self._deleted.wait()
            await self._api.until_answered(
                lambda: self._api.delete(PODS, self._namespace, self._name, uid=self._uid, grace_seconds=0)
            )
        except (NotFound, Conflict):
            log.debug("pod is gone, or taken by another node", extra=self._fields)
        except Refused as error:
            log.error("pod given up: the API server refused a write", extra=self._fields | {"error": str(error)})

    async def mark_stopped(self) -> None:
        """Write that the node ended the pod, as a kubelet does when its machine is shut down."""
        if self._record.container_id and not self._is_final:
            status = self._record.to_status("Failed")
            status |= {"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."}
            with contextlib.suppress(NotFound, Conflict):
                await self._write({"status": status}, subresource="status")

    @property
    def _fields(self) -> dict[str, str]:
        return {"pod": f"{self._namespace}/{self._name}"}

    async def _bind(self) -> None:
        binding = Resource(group="", version="v1", plural=f"pods/{self._name}/binding", kind="Binding")
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": self._name, "uid": self._uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._node},
        }
        await self._api.until_answered(lambda: self._api.create(binding, self._namespace, body))

    async def _live(self) -> None:
        """Return when the pod is final or deleted."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        left_over = self._record.state.get("terminated")  # from an earlier process of this node
        if left_over and not should_restart(policy, left_over["exitCode"]):
            return await self._write_final("Failed")
        await self._write({"metadata": {"annotations": {LOG_PATH_ANNOTATION: str(self._log)}}})
        back_off: float | None = None
        now = asyncio.get_running_loop().time
        while not self._deleted.is_set():
            started_at = now()
            try:
                process = await self._start()
            except BadEnvironment as error:
                self._record = self._record.waiting_for_start("CreateContainerConfigError", str(error))
            except CannotStart as error:
                self._record = self._record.waiting_for_start("CreateContainerError", str(error))
            else:
                ended = await self._watch_over(process)
                if self._deleted.is_set():
                    return None
                if not should_restart(policy, ended.exit_code):
                    return await self._write_final("Succeeded" if ended.exit_code == 0 else "Failed")
                why = f'container "{self._record.name}" ended ({ended.how}) and is started again after a pause'
                self._record = self._record.waiting_for_start("CrashLoopBackOff", why)
            await self._write_status("Running" if self._record.container_id else "Pending")
            back_off = next_back_off(back_off, ran_seconds=now() - started_at)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deleted.wait(), back_off)
        return None

    async def _start(self) -> Process:
        own = await self._api.until_answered(
            lambda: resolve_environment(self._api, self._pod, self._container, node=self._node)
        )
        words = [*(self._container.get("command") or ()), *(self._container.get("args") or ())]
        if not self._container.get("command"):
            raise CannotStart(f'container "{self._record.name}" has no command, and a local node has no images to ask')
        command = [expand(word, own) for word in words]
        directory = self._container.get("workingDir")
        process = await Process.start(
            command,
            environment={**self._inherited, **own},
            directory=Path(directory) if directory else None,
            log=self._log,
            on_line=self._on_line,
        )
        log.info("container started", extra=self._fields | {"pid": process.pid, "command": shlex.join(command)})
        return process

    async def _watch_over(self, process: Process) -> Ended:
        """Return how the command ended, by itself or because its pod was deleted. No process is left in any case."""
        self._record = self._record.with_start(f"local://{uuid.uuid4()}")
        ended = asyncio.create_task(process.wait())
        deleted = asyncio.create_task(self._deleted.wait())
        try:
            await self._write_status("Running")
            await asyncio.wait([ended, deleted], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(process)
        finally:
            deleted.cancel()
            if not ended.done():
                await process.end(min(self._grace_seconds, self._stop_seconds))
            how = await ended
            self._record = self._record.with_end(how)
            log.info("container ended", extra=self._fields | {"how": how.how})
        return how

    async def _end(self, process: Process) -> None:
        """End the command; at once when the pod is gone, whatever time it had when it was deleted."""
        ending = asyncio.create_task(process.end(self._grace_seconds))
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait([ending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            ending.cancel()  # kills, unless it has ended
        await process.wait()

    async def _write_final(self, phase: str) -> None:
        self._is_final = True
        await self._write_status(phase)

    async def _write_status(self, phase: str) -> None:
        await self._write({"status": self._record.to_status(phase)}, subresource="status")

    async def _write(self, patch: Json, *, subresource: str | None = None) -> None:
        # With the uid the write fails with a conflict if the name has been reused for another pod.
        patch = patch | {"metadata": {"uid": self._uid} | patch.get("metadata", {})}
        await self._api.until_answered(
            lambda: self._api.patch(PODS, self._namespace, self._name, patch, subresource=subresource)
        )


def _grace_seconds(pod: Json) -> float:
    """Return how long the command gets between being asked to end and being killed."""
    for value in (
        pod["metadata"].get("deletionGracePeriodSeconds"),
        pod["spec"].get("terminationGracePeriodSeconds"),
    ):
        if value is not None:
            return float(value)
    return _DEFAULT_GRACE_SECONDS
