"""How programs find and manage runs: through the operator, without any right to the Kubernetes API."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hatchet_sdk._client.arguments import checked_text
from hatchet_sdk.errors import RequestRefused, RunNotFound

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client

RunPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Cancelled"]
_PHASES = ", ".join(get_args(RunPhase))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run in its current state.

    Attributes:
        run_id: Its name.
        uid: The UID of its object.
        workflow: Name of the Workflow object.
        phase: Pending, Running, Succeeded, Failed or Cancelled.
        reason: Why, as one word, such as Paused, Suspended or StepFailed; may be "".
        message: Why, as a sentence.
        created_at: When it was created.
        started_at: When its first step was assigned to a worker.
        finished_at: When it ended.
        parent_run_id: The run that spawned it.
        parent_step: The step that spawned it.
        key: Its key among the children of that step.
        reruns: How often it was run again.
        is_suspended: Whether it is suspended.
        is_cancelled: Whether its cancellation was requested.
        additional_metadata: The run's.
        children: How many it has, by "total", "succeeded", "failed" and "cancelled".
    """

    run_id: str
    uid: str
    workflow: str
    phase: str
    reason: str
    message: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    parent_run_id: str | None
    parent_step: str | None
    key: str | None
    reruns: int
    is_suspended: bool
    is_cancelled: bool
    additional_metadata: dict[str, Any]
    children: dict[str, int]

    @property
    def is_paused(self) -> bool:
        """Whether it waits for a person because a step failed without retries left."""
        return self.reason == "Paused"


@dataclass(frozen=True, kw_only=True)
class RunStep:
    """A step of a run; ``attempt`` is that of the current or last one, from 0."""

    name: str
    phase: str
    reason: str
    attempt: int
    worker: str
    error: str | None
    output: Any
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """A run with its input and its steps by name."""

    run: Run
    input: dict[str, Any]
    steps: dict[str, RunStep]


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """Some runs; ``next_page`` is the token of the next ones, None if there are none."""

    runs: list[Run]
    next_page: str | None


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """The criteria for runs; absent ones do not apply.

    Attributes:
        workflow: Name of their workflow.
        phases: Any of them.
        since: Created then or later; a time without a zone is local.
        until: Created before.
        metadata: All of these must be in their additional metadata; values other than texts as compact JSON.
        tree: Id of a root run: it and all below it.
    """

    workflow: str | None = None
    phases: Sequence[RunPhase] = ()
    since: datetime | None = None
    until: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tree: str | None = None

    def __post_init__(self) -> None:
        for name, text in (("workflow", self.workflow), ("tree", self.tree)):
            if text is not None:
                checked_text(text, what=f"RunFilter: {name}")
        if isinstance(self.phases, str) or not isinstance(self.phases, Sequence):
            raise TypeError(f"RunFilter: phases is {self.phases!r} (expected a list of {_PHASES})")
        for phase in self.phases:
            if phase not in get_args(RunPhase):
                raise ValueError(f"RunFilter: phases has {phase!r} (expected {_PHASES})")
        for name, at in (("since", self.since), ("until", self.until)):
            if at is not None and not isinstance(at, datetime):
                raise TypeError(f"RunFilter: {name} is {at!r} (expected a datetime)")
        if not isinstance(self.metadata, Mapping):
            raise TypeError(f"RunFilter: metadata is {self.metadata!r} (expected a mapping of texts to texts)")
        for key, value in self.metadata.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(f"RunFilter: metadata has {key!r}: {value!r} (expected a text for a text)")


@dataclass(frozen=True, kw_only=True)
class RunActResult:
    """The result of an act on one run.

    Attributes:
        run_id: The run.
        outcome: "done", "unchanged" (it was so already), "refused" or "not_found".
        message: An explanation.
    """

    run_id: str
    outcome: str
    message: str

    @property
    def is_well(self) -> bool:
        """Whether the run is as requested."""
        return self.outcome in ("done", "unchanged")


RunActResults: TypeAlias = list[RunActResult]


class Runs:
    """Finds and manages the runs of the worker's namespace; ``aio`` has the same methods for async code.

    An act on one run that is refused raises an exception; an act on many returns a result for each.
    """

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client
        self._aio = RunsAio(client)

    @property
    def aio(self) -> "RunsAio":
        """The same methods for async code."""
        return self._aio

    def list(self, which: RunFilter | None = None, *, limit: int = 100, page: str | None = None) -> RunPage:
        """Return runs in the order of their ids, a page at a time.

        Args:
            which: The criteria for runs.
            limit: The size of a page, up to 1000. Pages before the last may have fewer runs, even none.
            page: `RunPage.next_page` of the previous page.

        Raises:
            RequestRefused: The operator refused, for example since the page's token has expired.
            OperatorUnavailable: It did not answer for a minute.
        """
        return self._client().runs.list(_or_all(which), limit=limit, page=page).result()

    def get(self, run_id: str) -> RunDetails:
        """Return a run with its input and steps.

        Raises:
            RunNotFound: There is none.
        """
        return self._client().runs.get(run_id).result()

    def cancel(self, run_id: str) -> None:
        """Cancel a run, with all below it.

        Raises:
            RunNotFound: There is none.
            RequestRefused: It has ended.
        """
        _only(self._client().runs.act("CANCEL", [run_id]).result())

    def replay(self, run_id: str, *, afresh: bool = False) -> None:
        """Run again what failed in the tree of a run, or all of it.

        Args:
            run_id: The finished run, or a paused one, whose failed step is retried.
            afresh: Whether all steps run again, with new children; otherwise what succeeded is kept.

        Raises:
            RunNotFound: There is none.
            RequestRefused: It is still running, nothing in it failed, or a person cancelled it.
        """
        _only(self._client().runs.act(_replay(afresh), [run_id]).result())

    def suspend(self, run_id: str) -> None:
        """Suspend a run: running steps finish, no others start; see `cancel` for errors."""
        _only(self._client().runs.act("SUSPEND", [run_id]).result())

    def resume(self, run_id: str) -> None:
        """Resume a run that was suspended, or paused because a step failed; see `cancel` for errors."""
        _only(self._client().runs.act("RESUME", [run_id]).result())

    def bulk_cancel(self, runs: Sequence[str] | RunFilter) -> RunActResults:
        """Cancel many runs: those with these ids, or all that match a filter."""
        return self._client().runs.act_on_many("CANCEL", runs).result()

    def bulk_replay(self, runs: Sequence[str] | RunFilter, *, afresh: bool = False) -> RunActResults:
        """Replay many runs; see `replay`."""
        return self._client().runs.act_on_many(_replay(afresh), runs).result()

    def bulk_suspend(self, runs: Sequence[str] | RunFilter) -> RunActResults:
        """Suspend many runs."""
        return self._client().runs.act_on_many("SUSPEND", runs).result()

    def bulk_resume(self, runs: Sequence[str] | RunFilter) -> RunActResults:
        """Resume many runs."""
        return self._client().runs.act_on_many("RESUME", runs).result()


class RunsAio:
    """`Runs` for async code."""

    def __init__(self, client: "Callable[[], Client]") -> None:
        self._client = client

    async def list(self, which: RunFilter | None = None, *, limit: int = 100, page: str | None = None) -> RunPage:
        """Return a page of runs; see `Runs.list`."""
        return await asyncio.wrap_future(self._client().runs.list(_or_all(which), limit=limit, page=page))

    async def get(self, run_id: str) -> RunDetails:
        """Return a run with its input and steps; see `Runs.get`."""
        return await asyncio.wrap_future(self._client().runs.get(run_id))

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; see `Runs.cancel`."""
        _only(await self._act("CANCEL", run_id))

    async def replay(self, run_id: str, *, afresh: bool = False) -> None:
        """Replay a run; see `Runs.replay`."""
        _only(await self._act(_replay(afresh), run_id))

    async def suspend(self, run_id: str) -> None:
        """Suspend a run; see `Runs.suspend`."""
        _only(await self._act("SUSPEND", run_id))

    async def resume(self, run_id: str) -> None:
        """Resume a run; see `Runs.resume`."""
        _only(await self._act("RESUME", run_id))

    async def bulk_cancel(self, runs: Sequence[str] | RunFilter) -> RunActResults:
        """Cancel many runs; see `Runs.bulk_cancel`."""
        return await asyncio.wrap_future(self._client().runs.act_on_many("CANCEL", runs))

    async def bulk_replay(self, runs: Sequence[str] | RunFilter, *, afresh: bool = False) -> RunActResults:
        """Replay many runs; see `Runs.bulk_replay`."""
        return await asyncio.wrap_future(self._client().runs.act_on_many(_replay(afresh), runs))

    async def bulk_suspend(self, runs: Sequence[str] | RunFilter) -> RunActResults:
        """Suspend many runs."""
        return await asyncio.wrap_future(self._client().runs.act_on_many("SUSPEND", runs))

    async def bulk_resume(self, runs: Sequence[str] | RunFilter) -> RunActResults:
        """Resume many runs."""
        return await asyncio.wrap_future(self._client().runs.act_on_many("RESUME", runs))

    async def _act(self, act: str, run_id: str) -> RunActResults:
        return await asyncio.wrap_future(self._client().runs.act(act, [run_id]))


def _or_all(which: RunFilter | None) -> RunFilter:
    return RunFilter() if which is None else which


def _replay(afresh: bool) -> str:
    return "REPLAY" if afresh else "RETRY"


def _only(results: RunActResults) -> None:
    """Raise the first refusal."""
    for result in results:
        if not result.is_well:
            raise (RunNotFound if result.outcome == "not_found" else RequestRefused)(result.message)
