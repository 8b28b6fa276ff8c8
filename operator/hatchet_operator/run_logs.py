"""``hatchet-operator logs RUN``: from a run to the lines that its steps wrote, out of the logs of their pods.

A pool's pod writes lines of many runs; the SDK names run and step in each line of ``context.log``, and these are shown.
A pod that was made for the run writes of nothing else, so all of its log is. The run's status names the worker of each
step's last attempt, once the step lasts longer than a second or has ended.
"""

import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator.cluster.api import Api, Json, always, back_off
from hatchet_operator.cluster.kinds import PODS, RUNS
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ApiError, Gone, NotFound, OperatorError, Refused, Transient, UnknownObject
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import WorkflowRun

_INTERRUPTED = 130


def show_logs(run: str, *, namespace: str | None, kubeconfig: Path | None, follow: bool) -> int:
    """Print the log of a run; return the exit code of the process."""
    try:
        return asyncio.run(_show(run, namespace=namespace, kubeconfig=kubeconfig, follow=follow))
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


async def _show(run: str, *, namespace: str | None, kubeconfig: Path | None, follow: bool) -> int:
    endpoint = find_endpoint(kubeconfig)
    async with Api(endpoint, user_agent="hatchet-operator-logs", may_write=always) as api:
        logs = RunLogs(api, ObjectRef(namespace or endpoint.namespace, run), write=_write_line)
        await (logs.follow() if follow else logs.show())
    for problem in logs.problems:
        sys.stderr.write(f"error: {problem}\n")
    if logs.silence:
        sys.stderr.write(f"{logs.silence}\n")
    return 1 if logs.problems else 0


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class _Source:
    """A pod that steps of the run were on."""

    pod: str
    is_the_runs: bool  # made for this run


class _KnownLines:
    """Tells which lines of a log are new when it is read again.

    Lines that differ from those read before are another log: that of the container after its restart. How often it was
    restarted does not tell, as that is known later than the log begins.
    """

    def __init__(self) -> None:
        self._hashes: list[int] = []
        self._again: list[str] = []
        self._place = 0

    def begin(self) -> None:
        """The log is read from its start."""
        self._again.clear()
        self._place = 0

    def new(self, line: str) -> list[str]:
        """Take the next line; return those not read before."""
        known, found = self._hashes[self._place : self._place + 1], hash(line)
        if known == [found]:
            self._again.append(line)
            self._place += 1
            return []
        begun_alike = self._again[:] if known else []
        del self._hashes[self._place :]
        self._hashes.append(found)
        self._again.clear()
        self._place += 1
        return [*begun_alike, line]


class RunLogs:
    """The lines of one run.

    Args:
        api: Where run and pods are.
        ref: The run.
        write: Called with each line.
    """

    def __init__(self, api: Api, ref: ObjectRef, *, write: Callable[[str], None]) -> None:
        self._api = api
        self._ref = ref
        self._write = write
        self._of_run = re.compile(rf"(?:^|\s){re.escape(ref.name)} [^:]+: ")
        self._known: defaultdict[_Source, _KnownLines] = defaultdict(_KnownLines)  # shown or not
        self._read = dict[str, None]()  # names of pods, in the order in which they were read
        self._is_silent = True
        self.problems: list[str] = []

    @property
    def silence(self) -> str | None:
        """Why nothing was written, though logs were read."""
        if not self._read or not self._is_silent:
            return None
        commands = "; ".join(f"kubectl logs -n {self._ref.namespace} {pod}" for pod in self._read)
        return f"no step of run {self._ref} has called context.log; for all that its workers wrote: {commands}"

    async def show(self) -> None:
        """Write what there is.

        Raises:
            UnknownObject: There is no such run.
        """
        run = await self._find()
        sources = await self._sources(run)
        if not sources:
            why = run.status.message or "its steps have not begun, or not lasted for a second yet"
            self.problems.append(f"no pod is known to have a step of run {self._ref} ({run.status.phase}): {why}")
        for source in sources:
            await self._show_rest(source)

    async def follow(self) -> None:
        """Write what comes, until the run is final.

        Raises:
            UnknownObject: There is no such run, or it was deleted.
        """
        run = await self._find()
        following: dict[_Source, asyncio.Task[None]] = {}
        try:
            while True:
                for source in await self._sources(run):
                    if source not in following or following[source].done():
                        following[source] = asyncio.create_task(self._copy(source, follow=True))
                if run.status.phase.is_final:
                    break
                run = await self._change_of(run)
            for source, task in following.items():
                if not source.is_the_runs:  # such a pod goes with its run, and its log ends by itself
                    task.cancel()
                await asyncio.wait([task])
                await self._show_rest(source, may_be_gone=source.is_the_runs)
        finally:
            for task in following.values():
                task.cancel()
            await asyncio.gather(*following.values(), return_exceptions=True)

    # --- The run

    async def _find(self) -> WorkflowRun:
        try:
            return WorkflowRun.model_validate(await self._api.get(RUNS, self._ref.namespace, self._ref.name))
        except NotFound as error:
            raise UnknownObject(
                f'there is no run "{self._ref.name}" in namespace "{self._ref.namespace}"; see kubectl get wfr -A'
            ) from error

    async def _change_of(self, run: WorkflowRun) -> WorkflowRun:
        """Return the run's next state."""
        failures = 0
        while True:
            try:
                async for kind, obj in self._api.watch(
                    RUNS,
                    self._ref.namespace,
                    resource_version=run.metadata.resource_version,
                    field_selector=f"metadata.name={self._ref.name}",
                ):
                    if kind == "DELETED":
                        raise UnknownObject(f"run {self._ref} was deleted")
                    if kind != "BOOKMARK":
                        return WorkflowRun.model_validate(obj)
            except (Gone, Transient):
                failures += 1
                await asyncio.sleep(back_off(failures, longest_seconds=5))
                return await self._api.until_answered(self._find)

    async def _sources(self, run: WorkflowRun) -> list[_Source]:
        """Return the pods, in the order in which the run came to them."""
        selector = f"{labels.RUN_UID}={run.metadata.uid}"
        items, _ = await self._api.list_all(PODS, self._ref.namespace, label_selector=selector)
        items.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
        own = [_Source(pod["metadata"]["name"], True) for pod in items]
        names = dict.fromkeys(state.worker for state in run.status.steps.values() if state.worker)
        return own + [_Source(name, False) for name in names if name not in {source.pod for source in own}]

    # --- Logs

    async def _show_rest(self, source: _Source, *, may_be_gone: bool = False) -> None:
        try:
            await self._copy(source)
        except NotFound:
            if not may_be_gone:
                self.problems.append(
                    f'pod "{source.pod}" is gone, and its log with it: pods of runs are deleted when these end, others '
                    "when their pool needs less (or it is a worker outside of Pods)"
                )
        except (Refused, Transient) as error:
            self.problems.append(f'log of pod "{source.pod}": {error}')

    async def _copy(self, source: _Source, *, follow: bool = False) -> None:
        """Write the run's lines that were not read before."""
        known = self._known[source]
        known.begin()
        try:
            container = _worker_of(await self._api.get(PODS, self._ref.namespace, source.pod))
            lines = self._api.log_lines(self._ref.namespace, source.pod, container=container, follow=follow)
            async for line in lines:
                for new in known.new(line):
                    if source.is_the_runs or self._of_run.search(new):
                        self._is_silent = False
                        self._write(new)
            self._read[source.pod] = None
        except ApiError:
            if not follow:
                raise  # else what is left is asked for when the run has ended


def _worker_of(pod: Json) -> str:
    name: str = pod["spec"]["containers"][0]["name"]
    return name
