"""Whether the process that leads is there at all: an open TCP connection to it says so, without a request.

    connect ─► met ─ the connection ends ─► connect ─┬─ accepted ─► met
                                                     └─ refused, twice ─► gone

Only a process that is gone has its connections ended and the next ones refused, by its own machine. One that hangs, or
whose machine is away, refuses nothing, and a leader that ends in order takes its address out of the Lease before it
stops to listen. So a refusal after a meeting needs no waiting for the end of a Lease that nobody renews.
"""

import asyncio
import logging
from contextlib import suppress

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 1.0
_REFUSED_AGAIN_SECONDS = 0.2
_REFUSALS = 2


class LeaderSight:
    """Watches one leader at a time.

    Attributes:
        changed: Set when a leader is found to be gone; whoever waits for it clears it.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._watched: tuple[str, str] | None = None
        self._watching: asyncio.Task[None] | None = None

    def look_at(self, leader: str, address: str | None) -> bool:
        """Watch whoever leads; return whether it is known to be gone.

        Args:
            leader: Who leads.
            address: "host:port" where it listens as long as it leads; None: that is not known.
        """
        if address is None:
            self.forget()
            return False
        if self._watched != (leader, address):
            self.forget()
            self._watched = leader, address
            self._watching = asyncio.create_task(self._watch(address))
        return self._watching is not None and self._watching.done()

    def forget(self) -> None:
        """What was seen so far means nothing."""
        if self._watching is not None:
            self._watching.cancel()
        self._watched = self._watching = None
        self.changed.clear()

    async def _watch(self, address: str) -> None:
        """Return when the leader is gone."""
        host, _, port = address.rpartition(":")
        met, refusals = False, 0
        while not met or refusals < _REFUSALS:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            except ConnectionRefusedError:
                refusals += 1
                await asyncio.sleep(_REFUSED_AGAIN_SECONDS if met else _LOOK_AGAIN_SECONDS)
            except (OSError, TimeoutError):
                refusals = 0
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            else:
                met, refusals = True, 0
                try:
                    with suppress(OSError):
                        while await reader.read(4096):
                            pass
                finally:
                    writer.close()
                await asyncio.sleep(_REFUSED_AGAIN_SECONDS)  # it may end connections that say nothing
        log.warning("leader is gone: its address refuses connections", extra={"address": address})
        self.changed.set()
