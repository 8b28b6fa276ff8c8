"""What leads while a Lease is ours: a term, and another one if a CRD is missing while it begins.

An operator has one, or, with shards, one for each that it leads.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hatchet_operator import garbage
from hatchet_operator.errors import NotFound
from hatchet_operator.term import Term

_LOOK_AGAIN_SECONDS = 2.0


class Leadership:
    """Leads term by term.

    Args:
        make_term: Makes the next term, with all that it needs.
        ready: Set while workers are let in.
        is_defined: Tells whether our CRDs have all that we need.
        until_defined: Waits until they have.
        others_lead: Tells whether there are other terms in this process.
    """

    def __init__(
        self,
        make_term: Callable[[], Term],
        *,
        ready: asyncio.Event,
        is_defined: Callable[[], Coroutine[Any, Any, bool]],
        until_defined: Callable[[], Coroutine[Any, Any, None]],
        others_lead: Callable[[], bool],
    ) -> None:
        self._make_term = make_term
        self._is_defined = is_defined
        self._until_defined = until_defined
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
        self.term = self._make_term()
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
