"""Workers: who registered, what they have, and when they are dead.

A closed stream alone proves nothing. A worker in a Pod is dead when its Pod or its container is; any worker is dead
when it was silent for `worker_silent`. Its registration is kept on its Pod, so that a new operator knows it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from hatchet_operator.decisions.deaths import Life
from hatchet_operator.engine.records import Attempt
from hatchet_operator.identity import Caller
from hatchet_operator.resources.base import ResourceModel, Time
from hatchet_operator.resources.names import ObjectRef

DEFAULT_SLOTS = 100
_WAITING_PER_SLOT = 10


class Registration(ResourceModel):
    """What a worker said of itself; kept as an annotation of its Pod."""

    worker_id: str
    name: str
    pool: str
    actions: tuple[str, ...]
    slots: int = DEFAULT_SLOTS
    revisions: tuple[str, ...] = ()
    registered_at: Time
    container_after: Time | None = None  # container states that began before this belong to an earlier worker
    alive_at: Time | None = None  # when it registered, by its node's clock


@dataclass(frozen=True, slots=True)
class StartCommand:
    """Execute this attempt."""

    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCommand:
    """Stop this attempt."""

    attempt_id: str
    run: str
    step: str
    retry_count: int


Command = StartCommand | CancelCommand


class WorkerStream:
    """What one ListenV2 call sends: commands, until a newer call or the worker's end closes it.

    Args:
        may_command: Asked right before each command; the stream ends when it says no, as another operator leads then.
    """

    def __init__(self, may_command: Callable[[], bool]) -> None:
        self._commands: asyncio.Queue[Command | None] = asyncio.Queue()
        self._may_command = may_command

    def put(self, command: Command) -> None:
        self._commands.put_nowait(command)

    def close(self) -> None:
        self._commands.put_nowait(None)

    async def commands(self) -> AsyncIterator[Command]:
        while (command := await self._commands.get()) is not None and self._may_command():
            yield command


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """A registered worker."""

    namespace: str
    registration: Registration
    pod: ObjectRef | None = None
    pod_uid: str | None = None
    run_uid: str | None = None  # its Pod was made for this run, and takes nothing else
    registered_by: str | None = None  # UID of the Pod whose token it registered with
    slots: int
    stream: WorkerStream | None = None
    draining_since: float | None = None  # time.monotonic(): it gets nothing new
    idle_since: float = field(default_factory=time.monotonic)  # while it has no attempts
    reported: bool = True  # it said what it holds, or was never asked
    is_mute: bool = False  # it was there before this operator, and does not say what it holds
    out: dict[str, Attempt] = field(default_factory=dict)
    occupied: int = 0  # how many of `out` occupy a slot
    overrunning: int = 0  # attempts that go on in it though they were cancelled, by its own words
    suspects: set[Attempt] = field(default_factory=set)  # those of `out` that may have ended their last worker
    given_away: list[Attempt] = field(default_factory=list)  # never begun, so another has it; told when it comes back
    left_at: float | None = None  # the loop's clock: when its last stream ended
    says_what_it_holds: bool = True
    acknowledges: bool = (
        False  # it says STARTED when a step arrives and again when it begins, as of the last that ended
    )
    last_seen: float = 0.0  # the loop's clock
    life: Life = field(default_factory=Life)  # what is known of the container that it lives in
    silence: asyncio.TimerHandle | None = None
    dead: bool = False

    @property
    def id(self) -> str:
        return self.registration.worker_id

    @property
    def pool(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.registration.pool)

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller may speak for this worker: it is the Pod, or has the token of its pool."""
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
        """Attempts that occupy no slot: they await children, or gave their slot back."""
        return len(self.out) - self.occupied

    @property
    def free_slots(self) -> int:
        return self.slots - self.occupied - self.overrunning

    def has_begun(self, attempt: Attempt) -> bool:
        """Whether it said so, in whatever way it says it; nothing is known of one that says what it holds instead."""
        return attempt.starts > self.acknowledges

    def can_take(self, attempt: Attempt) -> bool:
        if self.free_slots <= 0:
            return False
        if (self.suspects or attempt.trial is not None) and not self._may_join(attempt):
            return False
        return not attempt.is_root or self.waiting < self.slots * _WAITING_PER_SLOT

    def _may_join(self, attempt: Attempt) -> bool:
        """Whether an attempt may run beside suspects, or as one beside what runs here already."""
        suspects = [other for other in self.suspects if other.occupies_slot]
        tried = sum(other.is_tried for other in suspects)
        if attempt.trial is None:
            return not tried
        if attempt.impatience < 2:
            return not suspects and (not self.occupied or attempt.impatience == 1)
        return tried < max(1, len(suspects) - tried)

    def take(self, attempt: Attempt) -> None:
        attempt.worker = self
        self.out[attempt.id] = attempt
        if attempt.trial is not None:
            self.suspects.add(attempt)
        self.occupied += attempt.occupies_slot

    def leave(self, attempt: Attempt) -> None:
        """The attempt ended here, one way or another."""
        self.suspects.discard(attempt)
        if self.out.pop(attempt.id, None) is not None:
            self.occupied -= attempt.occupies_slot
            if not self.out:
                self.idle_since = time.monotonic()

    def send(self, command: Command) -> None:
        """Hand a command to the open stream; without one, the worker learns of it when it listens again."""
        if self.stream is not None:
            self.stream.put(command)
