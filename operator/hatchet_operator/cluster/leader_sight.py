"""Whether the leader's process exists at all: an open TCP connection to it shows that, without a request.

    connect ─► met ─ the connection ends ─► connect ─┬─ accepted ─► met
                                                     └─ refused, twice ─► gone

Only if a process is gone does its own machine end its connections and refuse new ones. One that hangs, or whose machine
is unreachable, refuses nothing, and a leader that shuts down cleanly removes its address from the Lease before it
stops listening. So after a refusal by a met leader there is no need to wait for its Lease to expire.
"""

import asyncio
import logging
from contextlib import suppress

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
_REFUSALS = 2
_HIGHEST_PORT = 65_535


class Presence:
    """Where others see that this process exists, if it does not always listen for workers."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(_say_nothing, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while await reader.read(4096):
                pass
    finally:
        writer.close()


class LeaderSight:
    """Watches one leader at a time.

    Args:
        changed: Set when a leader is found to be gone; the waiter clears it. Several may share one.
        look_again_seconds: The pause after a try that says nothing.
        refused_again_seconds: The pause before the try that shows that a leader who was met is gone.
    """

    def __init__(
        self,
        changed: asyncio.Event | None = None,
        *,
        look_again_seconds: float = 1.0,
        refused_again_seconds: float = 0.2,
    ) -> None:
        self._look_again_seconds = look_again_seconds
        self._refused_again_seconds = refused_again_seconds
        self.changed = changed or asyncio.Event()
        self._watched: tuple[str, str] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._is_gone = False

    def look_at(self, leader: str, address: str | None) -> bool:
        """Watch the current leader; return whether it is known to be gone.

        Args:
            leader: The leader's identity.
            address: "host:port" where it listens as long as it leads; None: unknown.
        """
        if address is None:
            self.forget()
            return False
        if self._watched != (leader, address):
            self.forget()
            self._watched = leader, address
            self._watching = asyncio.create_task(self._watch(address))
        return self._is_gone

    def forget(self) -> None:
        """Discard what was seen so far."""
        if self._watching is not None:
            self._watching.cancel()
        self._watched = self._watching = None
        self._is_gone = False
        self.changed.clear()

    async def _watch(self, address: str) -> None:
        """Return when the leader is gone, or at once if there is no such address: anybody may edit a Lease."""
        host, _, port = address.rpartition(":")
        if not _can_be_met(host, port):
            log.warning("leader's address makes no sense, waiting for its Lease to expire", extra={"address": address})
            return
        met, refusals = False, 0
        while not met or refusals < _REFUSALS:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            except ConnectionRefusedError:
                refusals += 1
                await asyncio.sleep(self._refused_again_seconds if met else self._look_again_seconds)
            except (OSError, TimeoutError):
                refusals = 0
                await asyncio.sleep(self._look_again_seconds)
            else:
                met, refusals = True, 0
                try:
                    with suppress(OSError):
                        while await reader.read(4096):
                            pass
                finally:
                    writer.close()
                await asyncio.sleep(self._refused_again_seconds)  # it may end connections that say nothing
        log.warning("leader is gone: its address refuses connections", extra={"address": address})
        self._is_gone = True
        self.changed.set()


def _can_be_met(host: str, port: str) -> bool:
    """Whether a connection can be tried: other hosts and ports are errors of the caller, not of the network."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return bool(host) and port.isdecimal() and int(port) <= _HIGHEST_PORT
