"""Turns what steps and runs do into events for readers.

    put (a step published)      ─┐
    started (it was assigned)   ─┼─► event ─► buffer, if the run has one ─► readers of the run
    run_changed (it progressed) ─┘

A run has a buffer once one of its steps has published something, until a minute after its end. Steps and runs that
publish nothing and have no reader cost a lookup in two empty dicts.
"""

import asyncio
from collections.abc import Mapping, Sequence

from hatchet_operator.decisions.step_events import EventKind, StepEvent, end_of_run, step_events
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.engine.streams.buffer import Buffer, StreamEvent
from hatchet_operator.engine.streams.readers import Metadata, Reader
from hatchet_operator.resources.run import StepStatus

KEPT_SECONDS = 60.0  # after a run's end, so that a late reader still finds its stream


class Streams:
    """All streams of one operator's term: the next one begins with none.

    Args:
        store: All runs.
        clock: Tells the time.
        just_over_seconds: How long who listens by metadata hears of a run that has ended.
    """

    def __init__(self, store: RunStore, *, clock: Clock, just_over_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._just_over_seconds = just_over_seconds
        self._buffer = Buffer()
        self._readers: dict[str, set[Reader]] = {}  # by run
        self._by_metadata: set[Reader] = set()
        self._steps: dict[str, Mapping[str, StepStatus]] = {}  # of the runs that have readers, as last published
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._just_over: dict[str, Mapping[str, object]] = {}  # metadata of runs that spoke and ended a moment ago

    @property
    def readers(self) -> int:
        """How many listen: to runs, or to what has some metadata."""
        return sum(map(len, self._readers.values())) + len(self._by_metadata)

    # --- What is published

    def put(self, attempt: Attempt, chunks: Sequence[str], *, first_index: int | None, at: int) -> None:
        """Add chunks of a step's stream; those that came before are recognized by their indices."""
        record = self._store.get(attempt.ref)
        if record is None:
            return
        expected = self._buffer.next_index(record.uid, attempt.id)
        first = expected if first_index is None else first_index
        for index, chunk in enumerate(chunks, start=first):
            if index >= expected:
                self._add(
                    StreamEvent(
                        run=record.uid,
                        name=record.ref.name,
                        kind=EventKind.STREAM,
                        step=attempt.step.name,
                        attempt_id=attempt.id,
                        retry_count=attempt.number,
                        payload=chunk,
                        index=index,
                        at=at,
                    ),
                    keep=True,
                )
        if record.is_final:
            self._expire_later(record.uid)

    def started(self, attempt: Attempt) -> None:
        """Tell readers that an attempt was assigned to its worker."""
        if not self._readers:
            return
        record = self._store.get(attempt.ref)
        if record is not None and record.uid in self._readers:
            event = StepEvent(
                kind=EventKind.STARTED, step=attempt.step.name, attempt_id=attempt.id, retry_count=attempt.number
            )
            self._add(_event(record, event, self._now()))

    def run_changed(self, change: RunChange) -> None:
        """React to a change of a run: tell its readers, and end their streams when it is over."""
        record = change.record
        if change.was is not None:
            self._rename(change.was, record.uid)
        if change.came and self._by_metadata and not record.is_final:
            self._introduce(record)
        if record.uid in self._readers:
            self._tell_change(change)
        if (change.ended or change.gone) and record.uid in self._buffer:
            self._expire_later(record.uid)
            if record.whole is not None and (entries := record.whole.spec.additional_metadata):
                self._just_over[record.uid] = entries
                asyncio.get_running_loop().call_later(self._just_over_seconds, self._just_over.pop, record.uid, None)

    def _rename(self, was: str, uid: str) -> None:
        """Move a light run's stream to the UID of the object that it has got."""
        self._buffer.rename(was, uid)
        if was in self._readers:
            self._readers[uid], self._steps[uid] = self._readers.pop(was), self._steps.pop(was)
            for reader in self._readers[uid]:
                reader.runs.discard(was)
                reader.runs.add(uid)

    def _tell_change(self, change: RunChange) -> None:
        record = change.record
        if not change.gone and record.whole is not None:
            run = record.whole
            before, self._steps[record.uid] = self._steps.get(record.uid, {}), run.status.steps
            for told in step_events(run, before):
                self._add(_event(record, told, self._now()))
        if change.gone or change.ended:
            for reader in self._readers.pop(record.uid, ()):
                reader.offer(_end(record, self._now()))
                self._run_is_over(reader, record.uid)
            self._steps.pop(record.uid, None)

    def _add(self, event: StreamEvent, *, keep: bool = False) -> None:
        if keep or event.run in self._buffer:
            self._buffer.add(event)
        for reader in self._readers.get(event.run, ()):
            reader.offer(event)

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    # --- Readers

    def read(self, record: RunRecord, *, seen: Mapping[str, int]) -> Reader:
        """Listen to one run: to what is still known of it, and what follows, to its end."""
        reader = Reader(record.ref.namespace, seen=seen)
        self._join(reader, record)
        if record.is_final:
            reader.offer(_end(record, self._now()))
            reader.close()
        return reader

    def read_by_metadata(self, namespace: str, metadata: Metadata, *, seen: Mapping[str, int]) -> Reader:
        """Listen to all runs with an entry of metadata, until all of them are over.

        Those that are over were listened to before, such as earlier answers of a chat: they are left out, unless none
        goes on and they ended a moment ago, or a reader that comes back has a part of them. It waits for a first one.
        """
        reader = Reader(namespace, seen=seen, metadata=metadata)
        for record in self._store.unfinished():
            if _is_meant(record, reader):
                self._join(reader, record)
        spoke = [known for run in self._buffer if (known := self._store.by_uid(run)) is not None]
        over = [known for known in spoke if self._is_missed(known, reader)]
        for record in over:
            self._join(reader, record)
            reader.offer(_end(record, self._now()))
        if over and not reader.runs:
            reader.close()
        else:
            self._by_metadata.add(reader)
        return reader

    def _is_missed(self, record: RunRecord, reader: Reader) -> bool:
        """Whether a run that is over belongs to what the reader wants to hear."""
        if not record.is_final or record.ref.namespace != reader.namespace or reader.metadata is None:
            return False
        if reader.has_part_of(self._buffer.attempts(record.uid)):
            return True
        return not reader.runs and reader.metadata.matches(self._just_over.get(record.uid))

    def leave(self, reader: Reader) -> None:
        """Forget a reader that is gone."""
        self._by_metadata.discard(reader)
        for run in reader.runs:
            readers = self._readers.get(run, set())
            readers.discard(reader)
            if not readers:
                self._readers.pop(run, None)
                self._steps.pop(run, None)

    def _introduce(self, record: RunRecord) -> None:
        for reader in self._by_metadata:
            if _is_meant(record, reader):
                self._join(reader, record)

    def _join(self, reader: Reader, record: RunRecord) -> None:
        for event in self._buffer.of(record.uid):
            reader.offer(event)
        if record.is_final:
            return
        self._readers.setdefault(record.uid, set()).add(reader)
        self._steps.setdefault(record.uid, record.run.status.steps)
        reader.runs.add(record.uid)

    def _run_is_over(self, reader: Reader, run: str) -> None:
        reader.runs.discard(run)
        if not reader.runs:
            self._by_metadata.discard(reader)
            reader.close()

    # --- Time

    def _expire_later(self, run: str) -> None:
        if (timer := self._expiries.pop(run, None)) is not None:
            timer.cancel()
        self._expiries[run] = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire, run)

    def _expire(self, run: str) -> None:
        self._expiries.pop(run, None)
        record = self._store.by_uid(run)
        if record is None or record.is_final:  # otherwise it is replayed, and will publish again
            self._buffer.forget(run)

    def stop(self) -> None:
        """End every stream, as the operator is about to end."""
        for timer in self._expiries.values():
            timer.cancel()
        self._expiries.clear()
        for reader in {reader for readers in self._readers.values() for reader in readers} | self._by_metadata:
            reader.break_off()


def _is_meant(record: RunRecord, reader: Reader) -> bool:
    if reader.metadata is None or record.ref.namespace != reader.namespace or record.whole is None:
        return False
    return reader.metadata.matches(record.whole.spec.additional_metadata)


def _event(record: RunRecord, event: StepEvent, now: int) -> StreamEvent:
    return StreamEvent(
        run=record.uid,
        name=record.ref.name,
        kind=event.kind,
        step=event.step,
        attempt_id=event.attempt_id,
        retry_count=event.retry_count,
        payload=event.payload,
        at=now,
    )


def _end(record: RunRecord, now: int) -> StreamEvent:
    return StreamEvent(run=record.uid, name=record.ref.name, kind=end_of_run(record.phase), at=now)
