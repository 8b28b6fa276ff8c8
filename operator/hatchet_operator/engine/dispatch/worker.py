"""Workers: their registrations, the attempts that they have, and their streams of commands.

A closed stream alone proves nothing. A worker in a Pod is dead when its Pod or its container is; any worker is dead
when it has been silent for `worker_silent`. Its registration is kept on its Pod, so that a new operator knows it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.claims import ClaimState
from hatchet_operator.decisions.deaths import Life
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.resources.base import ResourceModel, Time
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.worker_labels import LabelValue

DEFAULT_SLOTS = 100


class Registration(ResourceModel):
    """What a worker said about itself; kept as an annotation of its Pod."""

    worker_id: str
    name: str
    pool: str
    actions: tuple[str, ...]
    slots: int = DEFAULT_SLOTS
    revisions: tuple[str, ...] = ()
    labels: dict[str, LabelValue] = {}
    registered_at: Time
    container_after: Time | None = None  # container states that began before this belong to an earlier worker
    alive_at: Time | None = None  # when it registered, by its node's clock


@dataclass(frozen=True, slots=True)
class StartCommand:
    """Execute this attempt; ``texts``: what the references in its run stand for, if the worker can't read them."""

    attempt: Attempt
    texts: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCommand:
    """Stop this attempt."""

    attempt_id: str
    run: str
    step: str
    retry_count: int


Command = StartCommand | CancelCommand


class WorkerStream:
    """The commands that one ListenV2 call sends, until a newer call or the worker's end closes it.

    Args:
        may_command: Checked right before each command; the stream ends if it returns False: another operator leads.
    """

    def __init__(self, may_command: Callable[[], bool]) -> None:
        self._commands: asyncio.Queue[Command | None] = asyncio.Queue()
        self._may_command = may_command

    def put(self, command: Command) -> None:
        self._commands.put_nowait(command)

    def close(self) -> None:
        self._commands.put_nowait(None)

    async def commands(self, *, at_once: int = 1) -> AsyncIterator[list[Command]]:
        """Yield commands as they come, as lists of up to ``at_once`` that are queued at the same time."""
        while (command := await self._commands.get()) is not None and self._may_command():
            found = [command]
            while not self._commands.empty() and len(found) < at_once:
                if (another := self._commands.get_nowait()) is None:
                    yield found
                    return
                found.append(another)
            yield found


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """A registered worker."""

    namespace: str
    registration: Registration
    pod: ObjectRef | None = None
    pod_uid: str | None = None
    run_uid: str | None = None  # its Pod was created for this run, and takes nothing else
    registered_by: str | None = None  # UID of the Pod whose token it registered with
    slots: int
    stream: WorkerStream | None = None
    draining_since: float | None = None  # loop time: since then it gets nothing new
    idle_since: float = 0.0  # loop time, while it has no attempts
    claim_state: ClaimState = ClaimState.MADE  # whether it said which attempts it has from before this operator
    assigned: dict[str, Attempt] = field(default_factory=dict)
    occupied: int = 0  # how many of `assigned` occupy a slot
    overrunning: int = 0  # attempts that still run in it although cancelled, as it reports
    suspects: set[Attempt] = field(default_factory=set)  # those of `assigned` that may have killed their last worker
    passed_over: dict[int, int] = field(default_factory=dict)  # by priority, see decisions/turns.py
    given_away: list[Attempt] = field(default_factory=list)  # never begun, so reassigned; it is told when it reconnects
    left_at: float | None = None  # loop time: when its last stream ended
    makes_claims: bool = True
    # Whether it says STARTED when a step arrives and again when it begins, judging by the last attempt that ended.
    acknowledges: bool = False
    last_seen: float = 0.0  # loop time
    life: Life = field(default_factory=Life)  # what is known of the container that it runs in
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while its registration is written
    silence: asyncio.TimerHandle | None = None
    dead: bool = False

    @property
    def id(self) -> str:
        return self.registration.worker_id

    @property
    def pool(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.registration.pool)

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller may act for this worker: it is its Pod, or has the token of its pool."""
        if self.pool != caller.pool_ref:
            return False
        return caller.pod_uid is None or caller.pod_uid in (self.pod_uid, self.registered_by)

    @property
    def shown_name(self) -> str:
        return self.pod.name if self.pod else self.registration.name

    @property
    def revisions(self) -> frozenset[str]:
        return frozenset(self.registration.revisions)

    @property
    def labels(self) -> dict[str, LabelValue]:
        return self.registration.labels

    @property
    def queue_keys(self) -> list[tuple[str, str | None, str, str | None]]:
        return [(self.namespace, self.registration.pool, action, self.run_uid) for action in self.registration.actions]

    @property
    def draining(self) -> bool:
        return self.draining_since is not None

    @property
    def is_connected(self) -> bool:
        return self.stream is not None and not self.draining and not self.dead

    @property
    def waiting(self) -> int:
        """How many attempts occupy no slot: they await children, or gave their slot back."""
        return len(self.assigned) - self.occupied

    @property
    def free_slots(self) -> int:
        return self.slots - self.occupied - self.overrunning

    def has_begun(self, attempt: Attempt) -> bool:
        """Whether the attempt runs: a worker that also acknowledges receipt says STARTED twice, others once."""
        return attempt.starts > self.acknowledges

    @property
    def running_suspects(self) -> int:
        return sum(suspect.occupies_slot for suspect in self.suspects) if self.suspects else 0

    @property
    def tried_suspects(self) -> int:
        return sum(suspect.is_tried for suspect in self.suspects)

    def take(self, attempt: Attempt) -> None:
        attempt.worker = self
        self.assigned[attempt.id] = attempt
        if attempt.trial is not None:
            self.suspects.add(attempt)
        self.occupied += attempt.occupies_slot

    def leave(self, attempt: Attempt, *, at: float) -> None:
        """Remove an attempt that this worker no longer has; ``at`` is the loop time."""
        self.suspects.discard(attempt)
        if self.assigned.pop(attempt.id, None) is not None:
            self.occupied -= attempt.occupies_slot
            if not self.assigned:
                self.idle_since = at

    def send(self, command: Command) -> None:
        """Send a command on the open stream; without one, drop it: the worker hears of it when it listens again."""
        if self.stream is not None:
            self.stream.put(command)
