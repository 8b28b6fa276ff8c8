"""What leads while a Lease is ours: a term, and another one if a CRD is missing while it begins.

An operator has one, or, with shards, one for each that it leads.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hatchet_operator import garbage
from hatchet_operator.cluster.api import Endpoint
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.errors import NotFound
from hatchet_operator.settings import Settings
from hatchet_operator.term import Announce, Term

_LOOK_AGAIN_SECONDS = 2.0


class Leadership:
    """Leads with one set of settings.

    Args:
        settings: What is configured.
        endpoint: The API server.
        metrics: The process's.
        is_leading: Checked before each write and each command to a worker.
        on_absence: Called when the server does not know one of our kinds, or no longer does.
        is_defined: Tells whether our CRDs have all that we need.
        until_defined: Waits until they have.
        install_signal_handlers: Called after each start of kopf, which puts its own in their place.
        grace_seconds: How long calls may take to end when the process is asked to.
        announce: Says where this leader listens, or (None) that it is about to stop.
        handed_over: What the last leader assigned to which worker, as it wrote it; None: it could not say.
        ready: Set while workers are let in.
        writing: Bounds the writes of all terms of this process; None: this is the only one.
        others_lead: Tells whether there are other terms in this process.
    """

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint,
        *,
        metrics: Metrics,
        is_leading: Callable[[], bool],
        on_absence: Callable[[], None],
        is_defined: Callable[[], Coroutine[Any, Any, bool]],
        until_defined: Callable[[], Coroutine[Any, Any, None]],
        install_signal_handlers: Callable[[], None],
        grace_seconds: float,
        announce: Announce,
        handed_over: str | None,
        ready: asyncio.Event,
        writing: asyncio.Semaphore | None = None,
        others_lead: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._metrics = metrics
        self._is_leading = is_leading
        self._on_absence = on_absence
        self._is_defined = is_defined
        self._until_defined = until_defined
        self._install_signal_handlers = install_signal_handlers
        self._grace_seconds = grace_seconds
        self._announce = announce
        self._handed_over = handed_over
        self._writing = writing
        self._others_lead = others_lead
        self.ready = ready
        self.term: Term | None = None
        self.hands_over: str | None = None
        """What the term that ended assigned to which worker."""

    async def run(self, over: asyncio.Event) -> None:
        """Lead until ``over`` is set."""
        came_back = False
        while True:
            try:
                return await self._lead_once(over)
            except NotFound:  # of one of our kinds, while a term begins
                if not await self._is_defined():
                    came_back = False
                    pause = self._until_defined()
                elif came_back:
                    raise  # a fix of the CRDs would not help
                else:
                    came_back = True  # between the two questions
                    pause = asyncio.sleep(_LOOK_AGAIN_SECONDS)
                if not await unless(over, pause):
                    return None

    async def _lead_once(self, over: asyncio.Event) -> None:
        self.term = Term(
            self._settings,
            self._endpoint,
            metrics=self._metrics,
            is_leading=self._is_leading,
            on_absence=self._on_absence,
            ready=self.ready,
            install_signal_handlers=self._install_signal_handlers,
            grace_seconds=self._grace_seconds,
            announce=self._announce,
            handed_over=self._handed_over,
            writing=self._writing,
        )
        try:
            await self.term.run(over)
        finally:
            self.hands_over = self.term.hands_over
            self.term = None
            garbage.end_of_term()
            if self._others_lead():
                garbage.freeze()  # what these know, again


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work; false: ``stop`` was set before it was done."""
    if stop.is_set():
        work.close()
        return False
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return False
        working.result()
        return True
    finally:
        await cancelled(working, stopping)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and wait until they have ended; raise the first of their errors."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
