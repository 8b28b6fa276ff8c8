"""What programs ask about runs: pages of those that they look for, and acts on runs, each with its own result."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.acts import Act
from hatchet_operator.decisions.run_filter import RunFilter
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.reader import RunReader
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.errors import Gone, InvalidRequest, NotFound, UnknownObject
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.run_acts.acts import Done, act_on

_ACTS_AT_A_TIME = 16
_READ_AT_A_TIME = 16
_PASSED_IN_ONE_TURN = 2_000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPage:
    """Some runs, and a token for the next page; "": there is none."""

    runs: list[WorkflowRun]
    next_token: str = ""


class AskedRuns:
    """Finds runs, and acts on them.

    Args:
        api: Where they are: finished runs are not entirely in memory.
        store: Knows names by UIDs, and what is remembered of all runs.
        observer: Observes what the API server answers, so that who asks after an act is told what it changed.
        reader: Reads objects of finished runs.
        looks_at: Of how many runs the objects are read for one call.
    """

    def __init__(self, api: Api, store: RunStore, *, observer: RunObserver, reader: RunReader, looks_at: int) -> None:
        self._api = api
        self._store = store
        self._observer = observer
        self._reader = reader
        self._looks_at = looks_at
        self._turns = asyncio.Semaphore(_ACTS_AT_A_TIME)

    async def page(self, namespace: str, wanted: RunFilter, *, limit: int, token: str) -> RunPage:
        """Return runs in the order of their names; fewer than the limit if many had to be looked at.

        Raises:
            InvalidRequest: The token is too old, or the tree's root is not a root.
            UnknownObject: There is no such root.
        """
        if wanted.tree is not None and not token and (alone := await self._lonely_root(namespace, wanted)) is not None:
            return alone
        found: list[WorkflowRun] = []
        looked_at = 0
        while True:
            # no more than are missing: the rest could not be returned
            items, token = await self._read(namespace, wanted, limit=limit - len(found), token=token)
            looked_at += len(items)
            found += [run for run in map(WorkflowRun.model_validate, items) if wanted.takes(run)]
            if not token or len(found) >= limit or looked_at >= self._looks_at:
                return RunPage(runs=found, next_token=token)

    async def _read(
        self, namespace: str, wanted: RunFilter, *, limit: int, token: str
    ) -> tuple[list[dict[str, object]], str]:
        try:
            return await self._api.until_answered(
                self._api.list_page,
                RUNS,
                namespace,
                limit=limit,
                token=token,
                label_selector=wanted.label_selector,
                field_selector=wanted.field_selector,
            )
        except Gone as error:
            raise InvalidRequest("the previous page is too old to continue from; list from the beginning") from error

    async def _lonely_root(self, namespace: str, wanted: RunFilter) -> RunPage | None:
        """Return a page with only the root, if it has spawned nothing: it may have no label then."""
        assert wanted.tree is not None, "asked for trees only"
        try:
            obj = await self._api.until_answered(self._api.get, RUNS, namespace, wanted.tree)
        except NotFound:
            raise UnknownObject(f'there is no run "{wanted.tree}" in namespace "{namespace}"') from None
        root = WorkflowRun.model_validate(obj)
        if root.spec.parent is not None:
            of = root.metadata.labels.get(labels.ROOT, "?")
            raise InvalidRequest(f'run "{wanted.tree}" is one of tree "{of}"; ask for that')
        if labels.ROOT in root.metadata.labels:
            return None
        return RunPage(runs=[root] if wanted.takes(root) else [])

    async def newest(
        self, namespace: str, wanted: RunFilter, *, skip: int, limit: int, show: Callable[[WorkflowRun], T]
    ) -> tuple[list[T], int]:
        """Return what is shown of a page of runs, those created last first, and how many there are on all pages.

        What is in memory decides, as far as it can: an object is read only if it is shown or a criterion needs it.

        Raises:
            InvalidRequest: More objects would have to be read than one call may cost.
            Refused: The API server does not return one.
        """
        found = await self.matching(namespace, wanted)
        if wanted.needs_object:
            taken = 0

            def show_if_on_page(run: WorkflowRun) -> T | None:
                nonlocal taken
                if not wanted.takes(run):
                    return None
                taken += 1
                return show(run) if skip < taken <= skip + limit else None

            shown = await self._read_all(found, show_if_on_page)
            return shown, taken
        return await self._read_all(found[skip : skip + limit], show), len(found)

    async def ids(self, namespace: str, wanted: RunFilter) -> list[str]:
        """Return the UIDs of all runs that are looked for, those created last first; raises what `newest` does."""
        found = await self.matching(namespace, wanted)
        if wanted.needs_object:
            return await self._read_all(found, lambda run: run.metadata.uid if wanted.takes(run) else None)
        return [record.uid for record in found]

    async def matching(self, namespace: str, wanted: RunFilter) -> list[RunRecord]:
        """Return the runs that may be meant, by what is remembered of them; those created last first."""
        found = []
        of_parent = self._store.children_of(wanted.parent_uid) if wanted.parent_uid is not None else None
        for position, record in enumerate(self._store if of_parent is None else of_parent):
            if position % _PASSED_IN_ONE_TURN == _PASSED_IN_ONE_TURN - 1:
                await asyncio.sleep(0)  # there may be a hundred thousand, and others wait for the loop
            if record.ref.namespace == namespace and wanted.may_take(
                workflow=record.workflow,
                phase=record.phase,
                created_at=record.created_at,
                parent_uid=record.parent_uid,
            ):
                found.append(record)
        return sorted(found, key=lambda record: (-record.created_at, record.ref.name))

    async def _read_all(self, records: list[RunRecord], show: Callable[[WorkflowRun], T | None]) -> list[T]:
        """Return what is shown of runs, in their order, without those that are gone or of which nothing is."""
        if len(records) > self._looks_at:
            raise InvalidRequest(
                f"{len(records)} runs would have to be read to find those that are asked for, and one call reads at "
                f"most {self._looks_at}: narrow it by time, workflow or status"
            )
        shown: list[T] = []
        for start in range(0, len(records), _READ_AT_A_TIME):  # an object is let go of once it is shown
            runs = await asyncio.gather(
                *(self._reader.read(record) for record in records[start : start + _READ_AT_A_TIME])
            )
            shown += [each for run in runs if run is not None and (each := show(run)) is not None]
        return shown

    async def act(self, namespace: str, act: Act, run_id: str) -> list[Done] | str:
        """Apply an act to a run; return a message if there is no such run.

        Raises:
            ApiError: The API server refuses.
        """
        record = self._store.find(namespace, run_id)
        async with self._turns:
            try:
                done = await act_on(
                    self._api, act, record.ref if record else ObjectRef(namespace, run_id), is_patient=True
                )
            except UnknownObject as error:
                return str(error)
        for each in done:
            if each.written is not None:
                self._observer.observe("MODIFIED", each.written)
        return done
