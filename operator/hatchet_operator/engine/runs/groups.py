"""Concurrency groups: which unfinished runs are in which, and which of them go on.

    a run of a limited workflow is decided about ─► join: its keys, once ─► plan_group (pure) ─► goes on, waits or ends
    a run is over ─► leave ─► plan_group of its groups ─► those that are admitted or cancelled are requeued

A run is in one group for each limit of its workflow, and goes on when all of them admit it. This is only persisted with
statuses that are written anyway: after a start, a run that may be assigned counts as admitted until that is known.
"""

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from hatchet_operator.decisions.concurrency import SeenGroup, plan_group, why_cancelled, why_it_waits
from hatchet_operator.decisions.expressions import UnusableKeyError, group_key
from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.inputs import input_object
from hatchet_operator.decisions.observed import GroupState
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.reasons import LimitStrategy, Phase
from hatchet_operator.resources.workflow import GROUP_KEY_STEP, RUNS_SHOWN, ConcurrencyLimit

_TOLD_AT_MOST = 20

_GroupKey = tuple[str, str]
"""Expression, and its value for the input."""
_Order = tuple[int, datetime, int]
"""Sort key: the less urgent or younger, the higher."""


@dataclass(slots=True, eq=False)
class _Member:
    """A run in its groups."""

    record: RunRecord
    limits: tuple[ConcurrencyLimit, ...]
    order: _Order
    groups: list["_Group"] = field(default_factory=list)
    goes_on: bool = False
    is_assumed: bool = False  # to go on, since it may have been assigned before the start
    may_tell: bool = True
    cancelled_for: str | None = None
    problem: str | None = None


@dataclass(slots=True, eq=False)
class _Group:
    """The unfinished runs of one key, oldest first."""

    identity: _GroupKey
    limit: ConcurrencyLimit
    going: list[_Member] = field(default_factory=list)
    leaving: list[_Member] = field(default_factory=list)  # they were admitted, and are being cancelled
    waiting: list[_Member] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.identity[1]

    @property
    def has_room(self) -> bool:
        return len(self.going) + len(self.leaving) < self.limit.max_runs

    @property
    def seen(self) -> SeenGroup:
        return SeenGroup(
            expression=self.limit.expression,
            key=self.key,
            active=len(self.leaving) + len(self.going),
            waiting=len(self.waiting),
            active_runs=_names([*self.leaving[:RUNS_SHOWN], *self.going[:RUNS_SHOWN]]),
            waiting_runs=_names(self.waiting),
        )

    def drop(self, member: _Member) -> None:
        for members in (self.going, self.leaving, self.waiting):
            if member in members:
                members.remove(member)
                return


class Groups:
    """All concurrency groups.

    Args:
        clock: Tells the time.
        requeue: Has a run reconciled that may go on now, or must be cancelled.
    """

    def __init__(self, *, clock: Clock, requeue: Callable[[RunRecord], None]) -> None:
        self._clock = clock
        self._requeue = requeue
        self._members: dict[RunRecord, _Member] = {}
        self._groups: dict[ObjectRef, dict[_GroupKey, _Group]] = {}
        self.on_change: list[Callable[[ObjectRef], None]] = []
        """Called with a workflow whose groups have other members, or members that now go on."""

    def seen(self, workflow: ObjectRef) -> list[SeenGroup]:
        """Return the groups of a workflow that have unfinished runs."""
        return [group.seen for group in self._groups.get(workflow, {}).values()]

    def state_of(self, record: RunRecord) -> GroupState | None:
        """Return the state of a run; None: it is in no group, as its workflow has no limits or it waits outside."""
        member = self._members.get(record)
        return None if member is None else _state(member)

    def follow(self, record: RunRecord, graph: Graph) -> None:
        """Have an unfinished run in the groups that its workflow's limits put it into now."""
        version = record.version
        member = self._members.get(record)
        if member is not None and member.limits != graph.concurrency and not member.goes_on:
            self._leave(member)  # a person changed them
            version = member.order[-1]
            member = None
        if member is None:
            if graph.concurrency and not (graph.asks_for_group and _told_key(record) is None):
                self._join(record, graph, version=version)
        elif member.is_assumed and not record.may_be_assigned:
            self._know(member)

    def run_changed(self, change: RunChange) -> None:
        """React to a change: a run that is over makes room."""
        record = change.record
        if (change.gone or record.is_final) and (member := self._members.get(record)) is not None:
            self._leave(member)

    def leave(self, record: RunRecord) -> None:
        """Take a run out of its groups, as it must not go on at this time."""
        if (member := self._members.get(record)) is not None:
            self._leave(member)

    # --- Joining and leaving

    def _join(self, record: RunRecord, graph: Graph, *, version: int) -> _Member:
        run = record.run
        # The version orders runs created in the same second: nobody writes to a run before it goes on or waits long.
        # It is that of the first time, as what a waiting run says of itself is written to it.
        created = run.metadata.creation_timestamp or self._clock.now()
        priority = run.spec.priority or graph.priority if all(map(_is_queue, graph.concurrency)) else 0
        order = (-priority, created, version)
        member = self._members[record] = _Member(record, graph.concurrency, order)
        given, metadata = input_object(run.spec), run.spec.additional_metadata or {}
        told = _told_key(record) if graph.asks_for_group else None
        try:
            keys = [
                group_key(limit.expression, input=given, metadata=metadata, told=told) for limit in graph.concurrency
            ]
        except UnusableKeyError as error:
            member.problem = str(error)
            return member
        for limit, key in zip(graph.concurrency, keys, strict=True):
            identity = (limit.expression, key)
            of_workflow = self._groups.setdefault(record.workflow_ref, {})
            group = of_workflow.setdefault(identity, _Group(identity, limit))
            if group not in member.groups:  # of two limits with the same expression the first applies
                group.limit = limit
                member.groups.append(group)
        began = _has_begun(record)
        if began or record.may_be_assigned:
            member.is_assumed = not began
            self._admit(member)
        else:
            self._wait(member)
        for group in member.groups:
            self._plan(group, but=member)
        self._changed(member)
        return member

    def _know(self, member: _Member) -> None:
        """Note that it is known by now whether a run was assigned before the start."""
        member.is_assumed = False
        if _has_begun(member.record) or member.cancelled_for is not None:
            return
        for group in member.groups:
            group.drop(member)
        member.goes_on = False
        self._wait(member)
        for group in member.groups:
            self._plan(group, but=member)
        self._changed(member)

    def _leave(self, member: _Member) -> None:
        del self._members[member.record]
        for group in member.groups:
            group.drop(member)
        workflow = member.record.workflow_ref
        of_workflow = self._groups.get(workflow, {})
        for group in member.groups:
            if group.waiting or group.going or group.leaving:
                self._plan(group)
            elif of_workflow.get(group.identity) is group:  # one that was cancelled may outlive its group
                del of_workflow[group.identity]
        if not of_workflow:
            self._groups.pop(workflow, None)
        self._changed(member)

    def _changed(self, member: _Member) -> None:
        if member.groups:
            for told in self.on_change:
                told(member.record.workflow_ref)

    def _wait(self, member: _Member) -> None:
        for group in member.groups:
            member.may_tell = member.may_tell and len(group.waiting) < _TOLD_AT_MOST
            insort(group.waiting, member, key=lambda member: member.order)

    def _admit(self, member: _Member) -> None:
        member.goes_on = True
        for group in member.groups:
            group.drop(member)
            insort(group.going, member, key=lambda member: member.order)

    # --- Planning

    def _plan(self, group: _Group, *, but: _Member | None = None) -> None:
        """Admit or cancel a group's runs; all are requeued, except ``but``, which is being decided about already."""
        plan = plan_group(
            group.limit,
            going=group.going,
            leaving=len(group.leaving),
            waiting=iter(group.waiting),
            may_go=lambda member: all(other.has_room for other in member.groups if other is not group),
        )
        for member in plan.cancel:
            member.cancelled_for = why_cancelled(group.limit, group.key)
            for other in member.groups:
                other.drop(member)
                if member.goes_on:
                    other.leaving.append(member)
        for member in plan.admit:
            if all(other.has_room for other in member.groups):  # each one admitted takes some of it
                self._admit(member)
        for member in (*plan.cancel, *plan.admit):
            if member is not but:
                self._requeue(member.record)


def _state(member: _Member) -> GroupState:
    waits = None
    if not member.goes_on and member.problem is None and member.cancelled_for is None:
        full = next((group for group in member.groups if not group.has_room), member.groups[0])
        waits = why_it_waits(full.limit, full.key)
    return GroupState(
        keys=tuple(group.key for group in member.groups),
        waits=waits,
        cancelled_for=member.cancelled_for,
        problem=member.problem,
        may_tell=member.may_tell,
    )


def _names(members: Sequence[_Member]) -> tuple[str, ...]:
    return tuple(member.record.ref.name for member in members[:RUNS_SHOWN])


def _is_queue(limit: ConcurrencyLimit) -> bool:
    return limit.strategy in (LimitStrategy.QUEUE_NEWEST, LimitStrategy.GROUP_ROUND_ROBIN)


def _has_begun(record: RunRecord) -> bool:
    steps = record.run.status.steps
    if GROUP_KEY_STEP in steps:  # which ran before the run was in any group
        if any(state.started_at is not None for name, state in steps.items() if name != GROUP_KEY_STEP):
            return True
    elif record.run.status.started_at is not None:
        return True
    return any(attempt.worker is not None for attempt in record.attempts.values())


def _told_key(record: RunRecord) -> str | None:
    """Return the key that the worker's method returned; None: it has not yet."""
    state = record.run.status.steps.get(GROUP_KEY_STEP)
    if state is None or state.phase is not Phase.SUCCEEDED:
        return None
    said = orjson.loads(state.output or "{}")
    return str(said.get("key", "")) if isinstance(said, dict) else ""
