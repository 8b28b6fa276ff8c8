"""Payloads are removed with their runs.

    a run is gone ─► what it referred to and no other run does ─► its folder is removed
    at a start, and now and then ─► the store is listed ─► what no run refers to, and is not new ─► removed

The second finds what was deleted while no operator was running, and what was stored by a client that died before saying
so. Runs without payloads cost nothing but a look at how their texts begin: no write, no finalizer, no request.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from hatchet_operator.backoff import NOT_REMOVED
from hatchet_operator.decisions.payloads import Owner, owner_of_path, owners_referenced, removable
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.payloads.texts import Payloads
from hatchet_operator.engine.runs.changes import RunChange
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.engine.runs.store import RunStore
from hatchet_sdk.payloads.store import PayloadError, PayloadStore, StoreUnavailable

log = logging.getLogger(__name__)

_REMOVED_AT_A_TIME = 4


class Removal:
    """Knows which runs refer to which payloads, and removes those that none refers to.

    Args:
        payloads: Where they are.
        store: All runs.
        observer: Says whether these are all.
        scope: The namespaces whose runs are known.
        installation: Distinguishes this one from others that may share its store by mistake; None: nothing does.
        after: The age at which an unreferenced payload is removed: it may be stored before its run is created.
        metrics: Counts removals.
        is_leading: Checked before something is removed: an operator that no longer leads may know too few runs.
        clock: Tells the time.
    """

    def __init__(
        self,
        payloads: Payloads,
        *,
        store: RunStore,
        observer: RunObserver,
        scope: Scope,
        installation: str | None,
        after: timedelta,
        metrics: Metrics,
        is_leading: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._payloads = payloads
        self._runs = store
        self._observer = observer
        self._scope = scope
        self._installation = installation
        self._after = after
        self._metrics = metrics
        self._is_leading = is_leading
        self._clock = clock
        self._stored: set[Owner] = set()  # owners that have something in the store, as far as is known
        self._references: dict[str, frozenset[Owner]] = {}  # by a run's UID: what it refers to
        self._referrers: defaultdict[Owner, set[str]] = defaultdict(set)
        self.to_remove: asyncio.Queue[Owner] = asyncio.Queue()
        """Owners that no run refers to."""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Remove from now on: all runs are known."""
        if self._payloads.root is not None:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._remove_all()) for _ in range(_REMOVED_AT_A_TIME)]
            self._tasks.append(loop.create_task(self._sweep_now_and_then()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- References

    def run_changed(self, change: RunChange) -> None:
        """React to a change: note what a run refers to; if it is gone, drop its references."""
        if self._payloads.root is None:
            return
        if change.was is not None:  # a light run that has its object now: it is known by that object's UID
            self._refer(change.was, frozenset())
        if change.run is not None:
            referenced = owners_referenced(change.run)
            if referenced or change.record.uid in self._references:
                self._refer(change.record.uid, referenced)
        elif change.gone:
            self._gone(change.record)

    def _refer(self, uid: str, referenced: frozenset[Owner]) -> None:
        for owner in self._references.pop(uid, frozenset()) - referenced:
            self._drop_reference(owner, uid)
        if referenced:
            self._references[uid] = referenced
            self._stored |= referenced
            for owner in referenced:
                self._referrers[owner].add(uid)

    def _drop_reference(self, owner: Owner, uid: str) -> None:
        referrers = self._referrers[owner]
        referrers.discard(uid)
        if not referrers:
            del self._referrers[owner]

    def _gone(self, record: RunRecord) -> None:
        own = Owner(record.ref.namespace, record.uid)
        candidates = self._references.get(record.uid, frozenset()) | {own}
        self._refer(record.uid, frozenset())
        for owner in candidates & self._stored:
            if not self._is_referenced(owner):
                self.to_remove.put_nowait(owner)

    def _is_referenced(self, owner: Owner) -> bool:
        """Whether a run refers to it, or may soon: a step reports what it has stored a moment later."""
        record = self._runs.by_uid(owner.name)
        return owner in self._referrers or (record is not None and record.ref.namespace == owner.namespace)

    # --- Removal

    async def _remove_all(self) -> None:
        while True:
            owner = await self.to_remove.get()
            failures = 0
            while not await self._remove(owner):
                failures += 1
                await asyncio.sleep(NOT_REMOVED.jittered_after(failures))

    async def _remove(self, owner: Owner) -> bool:
        """Remove an owner's payloads; false: the store does not respond."""
        if self._is_referenced(owner) or not self._is_leading():
            return True
        try:
            removed = await self._payloads.of(owner.namespace).remove(owner.name)
        except StoreUnavailable as error:
            log.warning("payloads not removed, trying again", extra={"owner": str(owner), "error": str(error)})
            return False
        except PayloadError as error:
            log.error("payloads not removed", extra={"owner": str(owner), "error": str(error)})
            return True
        self._stored.discard(owner)
        self._metrics.payloads_removed.inc(removed)
        log.info("payloads removed with their run", extra={"owner": str(owner), "objects": removed})
        return True

    async def _sweep_now_and_then(self) -> None:
        while True:
            try:
                await self._sweep()
            except PayloadError as error:
                log.error("payload store not looked through", extra={"error": str(error)})
            await asyncio.sleep(self._after.total_seconds())

    async def _sweep(self) -> None:
        """Scan the store for payloads that no run refers to."""
        if not self._observer.knows_all:
            log.error("payload store not looked through, since runs were not understood that may refer to it")
            return
        newest: dict[Owner, datetime] = {}
        for place in self._scope.places:
            await self._look_through(place, newest)
        self._stored |= newest.keys()
        for owner in removable(newest, is_referenced=self._is_referenced, now=self._clock.now(), after=self._after):
            self.to_remove.put_nowait(owner)

    async def _look_through(self, namespace: str | None, newest: dict[Owner, datetime]) -> None:
        """Add the owners in a namespace's folder, or in all of the store."""
        root = self._payloads.root if namespace is None else self._payloads.root_of(namespace)
        assert root is not None, "there is a store"
        store = PayloadStore(root)
        if self._installation is not None and (whose := await store.claim(self._installation)) != self._installation:
            log.error(
                "payload store not looked through, since it belongs to another installation: give each a prefix of "
                "its own; or, if that one is gone, delete the object hatchet-operator-installation there",
                extra={"store": str(store), "installation": whose, "here": self._installation},
            )
            return
        async for path, stored_at in store.objects():
            owner = owner_of_path(path, namespace=namespace)
            if owner is not None and self._scope.covers(owner.namespace):
                newest[owner] = max(stored_at, newest.get(owner, stored_at))
