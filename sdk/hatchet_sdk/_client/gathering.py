"""Awaiting many runs of which some may fail."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic

from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._client.typed import ResultT
from hatchet_sdk.errors import TooManyFailures, WorkflowRunFailed

if TYPE_CHECKING:
    from hatchet_sdk.contracts.dispatcher_pb2 import WorkflowRunEvent

_PERCENT = re.compile(r"(\d{1,3})%", re.ASCII)
_EXPECTED = 'expected a number of runs, 0 or more, or a share like "10%"'


@dataclass(frozen=True, kw_only=True, slots=True)
class GatheredRuns(Generic[ResultT]):
    """How runs that were awaited together ended.

    Attributes:
        results: What the successful ones returned, in the order of the references.
        failures: Why the others failed, in the same order; each says which run it was.
    """

    results: list[ResultT]
    failures: list[WorkflowRunFailed]


async def gather_runs(refs: Sequence[WorkflowRunRef[ResultT]], *, max_failed: int | str = 0) -> GatheredRuns[ResultT]:
    """Wait for runs of which some may fail, be cancelled or be deleted.

    Args:
        refs: References to runs, as spawns and `run_workflow` return them.
        max_failed: How many may fail: a number, or a share of them such as "10%", rounded down.

    Raises:
        TooManyFailures: More failed. It is raised at once; runs that are not over continue.
        TypeError, ValueError: An argument is invalid.
    """
    gathering = _Gathering(refs, max_failed)
    waiting = [asyncio.ensure_future(_end_of(end, position)) for end, position in gathering.ends()]
    try:
        for next_end in asyncio.as_completed(waiting):
            gathering.take(*await next_end)
    finally:
        for each in waiting:
            each.cancel()
    return gathering.gathered()


async def _end_of(end: "Future[WorkflowRunEvent]", position: int) -> "tuple[int, WorkflowRunEvent]":
    return position, await asyncio.wrap_future(end)


def sync_gather_runs(refs: Sequence[WorkflowRunRef[ResultT]], *, max_failed: int | str = 0) -> GatheredRuns[ResultT]:
    """Block until runs are over, of which some may fail; for sync steps and scripts. See `gather_runs`.

    Raises:
        AttemptCancelled: The step that spawned them was cancelled or timed out, and its grace period is over.
        RuntimeError: Called in an async step, whose loop it would block.
    """
    gathering = _Gathering(refs, max_failed)
    for ref in refs[:1]:
        ref._client.refuse_to_block_steps("sync_gather_runs()", 'write "await gather_runs(refs)"')
    ends = dict(gathering.ends(blocking=True))
    try:
        for end in as_completed(ends):
            gathering.take(ends[end], end.result())
    finally:
        for end in ends:
            end.cancel()
    return gathering.gathered()


def most_failures(max_failed: int | str, runs: int) -> int:
    """Return how many of so many runs may fail.

    Raises:
        TypeError, ValueError: It is neither a number nor a share.
    """
    if isinstance(max_failed, str):
        share = _PERCENT.fullmatch(max_failed)
        if share is None or int(share[1]) > 100:
            raise ValueError(f"gather_runs: max_failed is {max_failed!r} ({_EXPECTED})")
        return runs * int(share[1]) // 100
    if not isinstance(max_failed, int) or isinstance(max_failed, bool):
        raise TypeError(f"gather_runs: max_failed is {max_failed!r} ({_EXPECTED})")
    if max_failed < 0:
        raise ValueError(f"gather_runs: max_failed is {max_failed} ({_EXPECTED})")
    return max_failed


@dataclass(slots=True)
class _Gathering(Generic[ResultT]):
    refs: Sequence[WorkflowRunRef[ResultT]]
    max_failed: int | str
    most: int = 0
    failed: int = 0
    ended: dict[int, ResultT | WorkflowRunFailed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.refs, str) or not isinstance(self.refs, Sequence):
            raise TypeError(f"gather_runs: refs is {self.refs!r} (expected a list of references to runs)")
        for position, ref in enumerate(self.refs):
            if not isinstance(ref, WorkflowRunRef):
                raise TypeError(
                    f"gather_runs: refs[{position}] is {ref!r} (expected a reference to a run: await the spawn first)"
                )
        self.most = most_failures(self.max_failed, len(self.refs))

    def ends(self, *, blocking: bool = False) -> "Iterator[tuple[Future[WorkflowRunEvent], int]]":
        for position, ref in enumerate(self.refs):
            yield ref._end(blocking=blocking), position

    def take(self, position: int, end: "WorkflowRunEvent") -> None:
        try:
            self.ended[position] = self.refs[position]._result_of(end)
        except WorkflowRunFailed as failure:
            self.ended[position] = failure
            self.failed += 1
            if self.failed > self.most:
                raise self._too_many() from failure

    def gathered(self) -> GatheredRuns[ResultT]:
        inorder = [end for _, end in sorted(self.ended.items(), key=lambda item: item[0])]
        return GatheredRuns(
            results=[end for end in inorder if not isinstance(end, WorkflowRunFailed)],
            failures=[end for end in inorder if isinstance(end, WorkflowRunFailed)],
        )

    def _too_many(self) -> TooManyFailures:
        so_far = self.gathered()
        shown = "; ".join(f"{failure.workflow_run_id}: {str(failure)[:200]}" for failure in so_far.failures[:3])
        more = "; …" if len(so_far.failures) > 3 else ""
        return TooManyFailures(
            f"{len(so_far.failures)} of {len(self.refs)} runs failed, and max_failed={self.max_failed!r} "
            f"({shown}{more})",
            results=so_far.results,
            failures=so_far.failures,
        )
