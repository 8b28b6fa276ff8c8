"""Reads the lines of a run, or of a tree of runs, from the logs of the pods that its attempts were on.

A step's worker is in the run's status once the step lasts longer than a second or has ended, and those of earlier
attempts stay there. Kubernetes keeps a pod's log as long as the pod, and the last two of a container that was
restarted: missing logs are reported, with the attempts that they belonged to.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, RUNS
from hatchet_operator.errors import ApiError, NotFound, Refused, Transient, UnknownObject
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.run_logs.lines import Line, Wanted, error_lines, wanted_lines
from hatchet_operator.run_logs.places import Place, places_of, wanted_in_vain

LOOK_SECONDS = 0.5
"""While following: how often the runs are read."""

_EVERYTHING = Wanted()
_KEPT_LOGS = 2  # kept of a container that was restarted


class KnownLines:
    """Tells which lines of a log are new when it is read again.

    Lines that differ from those read before are another log: that of the container after its restart. The restart
    count does not show this, as it is updated later than the log begins.
    """

    def __init__(self) -> None:
        self._hashes: list[int] = []
        self._again: list[str] = []
        self._place = 0

    def begin(self) -> None:
        """Note that the log is being read from its start."""
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


_IS_UID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class _Reading:
    """What is known of a pod's log."""

    lines: KnownLines
    was_read: bool = False
    restarts: int = 0
    following: asyncio.Task[None] | None = None


class RunLogs:
    """The lines of one run, or of it and all runs below.

    Args:
        api: Where runs and pods are.
        ref: The run.
        write: Called with each line.
        wanted: Which lines.
        children: Whether to include the runs below.
        as_json: Whether lines are objects.
    """

    def __init__(
        self,
        api: Api,
        ref: ObjectRef,
        *,
        write: Callable[[str], None],
        wanted: Wanted = _EVERYTHING,
        children: bool = False,
        as_json: bool = False,
    ) -> None:
        self._api = api
        self._ref = ref
        self._write = write
        self._wanted = wanted
        self._with_children = children
        self._as_json = as_json
        self._runs: dict[str, WorkflowRun] = {}
        self._own: set[str] = set()
        self._readings: defaultdict[str, _Reading] = defaultdict(lambda: _Reading(KnownLines()))
        self._found: set[tuple[str, str, int]] = set()  # attempts of which a line was seen
        self._is_silent = True
        self.problems: list[str] = []

    @property
    def silence(self) -> str | None:
        """Say why nothing was written, though logs were read."""
        read = [pod for pod, reading in self._readings.items() if reading.was_read]
        if not read or not self._is_silent:
            return None
        commands = "; ".join(f"kubectl logs -n {self._ref.namespace} {pod}" for pod in read)
        what = " that was asked for" if not self._wanted.is_all else ""
        return (
            f"no line{what} is known to be of run {self._ref}. What subprocesses, C code or the published SDK print "
            f"names no run; to see all that its workers printed: {commands}"
        )

    async def show(self) -> None:
        """Write what there is.

        Raises:
            UnknownObject: There is no such run.
        """
        places = await self._look()
        found: list[Line] = []
        for place in places.values():
            await self._read(place, found.append)
        # Within a pod's log lines keep their order, which their times may not show.
        if len(places) > 1 and all(line.time is not None for line in found):
            found.sort(key=lambda line: (line.time is None, line.time))
        for line in found:
            self._show(line)
        self._finish(places)

    async def follow(self) -> None:
        """Write lines as they come, until the runs are final.

        Raises:
            UnknownObject: There is no such run, or it was deleted.
        """
        try:
            while True:
                places = await self._api.until_answered(self._look)
                for place in places.values():
                    reading = self._readings[place.pod]
                    if reading.following is None or reading.following.done():
                        reading.following = asyncio.create_task(self._follow(place))
                if all(run.status.phase.is_final for run in self._runs.values()):
                    break
                await asyncio.sleep(LOOK_SECONDS)
            for place in places.values():
                reading = self._readings[place.pod]
                assert reading.following is not None, "one was started above"
                if not place.is_the_runs:  # such a pod ends with its run, and so does its log
                    reading.following.cancel()
                await asyncio.wait([reading.following])
                await self._read(place, self._show, may_be_gone=place.is_the_runs and reading.was_read)
            self._finish(places)
        finally:
            tasks = [reading.following for reading in self._readings.values() if reading.following is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _show(self, line: Line) -> None:
        self._is_silent = False
        self._write(line.to_json() if self._as_json else line.shown(with_run=self._with_children))

    def _finish(self, places: dict[str, Place]) -> None:
        """Write the errors, and note what is missing."""
        for run in self._runs.values():
            for line in error_lines(run, self._wanted):
                self._show(line)
        if (vain := wanted_in_vain(self._runs.values(), self._wanted)) is not None:
            self.problems.append(f"run {self._ref} {vain}")
        elif not places and not self.problems:
            run = self._runs[self._ref.name]
            why = run.status.message or "its steps have not begun, or not lasted for a second yet"
            self.problems.append(f"no pod is known to have a step of run {self._ref} ({run.status.phase}): {why}")
        for place in places.values():
            restarts = self._readings[place.pod].restarts
            lost = Place(pod=place.pod, attempts=[one for one in place.attempts if one not in self._found])
            if restarts >= _KEPT_LOGS and lost.attempts:
                self.problems.append(
                    f'pod "{place.pod}" was restarted {restarts} times, and the last two logs, which Kubernetes keeps, '
                    f"have nothing of {lost.in_words(with_run=self._with_children)}"
                )

    # --- Runs and pods

    async def _look(self) -> dict[str, Place]:
        """Read the runs; return the pods, in the order in which the runs came to them."""
        root = await self._find()
        runs = [root]
        if self._with_children:
            root_uid = root.metadata.labels.get(labels.ROOT_UID, root.metadata.uid)
            items, _ = await self._api.list_all(
                RUNS, self._ref.namespace, label_selector=f"{labels.ROOT_UID}={root_uid}"
            )
            runs += _below(root, [WorkflowRun.model_validate(item) for item in items])
        self._runs = {run.metadata.name: run for run in runs}
        uids = {run.metadata.uid for run in runs}
        places: dict[str, Place] = {}
        selector = labels.RUN_UID if self._with_children else f"{labels.RUN_UID}={root.metadata.uid}"
        pods, _ = await self._api.list_all(PODS, self._ref.namespace, label_selector=selector)
        for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
            if pod["metadata"]["labels"][labels.RUN_UID] in uids:
                self._own.add(pod["metadata"]["name"])
                places[pod["metadata"]["name"]] = Place(pod=pod["metadata"]["name"])
        for name, place in places_of(runs, self._wanted).items():
            places.setdefault(name, place).attempts = place.attempts
        for place in places.values():
            place.is_the_runs = place.pod in self._own
        return places

    async def _find(self) -> WorkflowRun:
        try:
            return WorkflowRun.model_validate(await self._api.get(RUNS, self._ref.namespace, self._ref.name))
        except NotFound as error:
            if self._runs:
                raise UnknownObject(f"run {self._ref} was deleted") from error
            if (found := await self._find_by_uid()) is not None:
                self._ref = found.ref
                return found
            raise UnknownObject(
                f'there is no run "{self._ref.name}" in namespace "{self._ref.namespace}"; see kubectl get wfr -A'
            ) from error

    async def _find_by_uid(self) -> WorkflowRun | None:
        """Find the run whose UID was given as its name, as published clients print it; a GET can't."""
        if not _IS_UID.fullmatch(self._ref.name):
            return None
        items, _ = await self._api.list_all(RUNS, self._ref.namespace)
        found = (item for item in items if item["metadata"]["uid"] == self._ref.name)
        return next((WorkflowRun.model_validate(item) for item in found), None)

    # --- Logs

    async def _follow(self, place: Place) -> None:
        try:
            await self._copy(place, self._show, follow=True)
        except ApiError:
            return  # the rest is read when the runs have ended

    async def _read(self, place: Place, take: Callable[[Line], None], *, may_be_gone: bool = False) -> None:
        try:
            await self._copy(place, take)
        except NotFound:
            if not may_be_gone:
                had = place.in_words(with_run=self._with_children)
                self.problems.append(
                    f'pod "{place.pod}" is gone, and its log with it{f" ({had})" if had else ""}: pods of runs are '
                    "deleted when these end, others when their pool needs less of them or others (or it is a worker "
                    "outside of Pods)"
                )
        except (Refused, Transient) as error:
            self.problems.append(f'log of pod "{place.pod}": {error}')

    async def _copy(self, place: Place, take: Callable[[Line], None], *, follow: bool = False) -> None:
        """Pass on the wanted lines that were not read before."""
        reading = self._readings[place.pod]
        container: str | None = None
        try:
            pod = await self._api.get(PODS, self._ref.namespace, place.pod)
        except NotFound:  # a development server may have kept its log
            pass
        else:
            container, reading.restarts = _worker_of(pod)
            if reading.restarts and not reading.was_read:
                await self._copy_previous(place, container, take)
        reading.lines.begin()
        lines = self._api.log_lines(self._ref.namespace, place.pod, container=container, follow=follow)
        async for line in lines:
            reading.was_read = True
            for new in reading.lines.new(line):
                self._hand_on(new, place, take)
        reading.was_read = True

    async def _copy_previous(self, place: Place, container: str, take: Callable[[Line], None]) -> None:
        try:
            async for line in self._api.log_lines(self._ref.namespace, place.pod, container=container, previous=True):
                self._hand_on(line, place, take)
        except (Refused, NotFound):  # it is not kept
            return

    def _hand_on(self, raw: str, place: Place, take: Callable[[Line], None]) -> None:
        for line in wanted_lines(
            raw, runs=self._runs, wanted=self._wanted, pod=place.pod, is_the_runs=place.is_the_runs
        ):
            if line.run is not None:
                self._found.add((line.run, line.step, line.attempt))
            take(line)


def _below(root: WorkflowRun, runs: list[WorkflowRun]) -> list[WorkflowRun]:
    """Return the runs below one, parents before children."""
    children: defaultdict[str, list[WorkflowRun]] = defaultdict(list)
    for run in runs:
        if run.spec.parent is not None:
            children[run.spec.parent.uid].append(run)
    found: list[WorkflowRun] = []
    todo = [root]
    while todo:
        todo = [child for run in todo for child in children.pop(run.metadata.uid, ())]
        found += todo
    return found


def _worker_of(pod: Json) -> tuple[str, int]:
    """Return the name of the worker's container, and how often it was restarted."""
    name: str = pod["spec"]["containers"][0]["name"]
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    restarts = next((int(status["restartCount"]) for status in statuses if status["name"] == name), 0)
    return name, restarts
