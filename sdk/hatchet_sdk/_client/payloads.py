"""Inputs and outputs that this process keeps in a store itself, with its own credentials.

The library is loaded on first use: without a store, none of it is. While the store does not respond, requests are
retried, as long as the result is wanted.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from hatchet_sdk._client.config import THROUGH_OPERATOR, Endpoint
from hatchet_sdk._client.connection import delays
from hatchet_sdk._client.json_text import MAX_BYTES
from hatchet_sdk.errors import AttemptCancelled, PayloadError, StoreUnavailable
from hatchet_sdk.payloads.reference import MARK, MAX_PAYLOAD_BYTES, BadReference, reference_in

if TYPE_CHECKING:
    from hatchet_sdk.payloads.store import PayloadStore

T = TypeVar("T")

_MESSAGE_BYTES = 3 * 1024 * 1024  # gRPC servers accept messages of 4 MiB in total
_COMPLAINT_SECONDS = 5.0

log = logging.getLogger("hatchet_sdk")


class Payloads:
    """The store of this process, if it has one. Runs in the I/O thread's loop, but for what needs no store.

    Raises:
        NotConfigured: What is configured can't be a store, or its library is not installed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._inline_bytes = endpoint.payloads_above
        self._goes_through_operator = endpoint.payloads == THROUGH_OPERATOR
        self._store = _open_store(endpoint)
        self._complain_again_at = 0.0

    @property
    def max_bytes(self) -> int:
        """The largest input or output."""
        if self._store is not None:
            return MAX_PAYLOAD_BYTES
        return _MESSAGE_BYTES if self._goes_through_operator else MAX_BYTES

    def is_large(self, text: str) -> bool:
        """Whether a text belongs in the store."""
        if self._store is None or len(text) * 4 <= self._inline_bytes:
            return False
        return len(text.encode()) > self._inline_bytes

    def is_reference(self, text: str) -> bool:
        """Whether a text is a reference to one that this process has to read."""
        if self._store is None:
            return False
        try:
            return reference_in(text) is not None
        except BadReference:
            return True

    def may_refer(self, payload: str) -> bool:
        """Whether a step's payload may contain references."""
        return self._store is not None and MARK in payload

    async def texts_in(self, payload: str, *, is_wanted: Callable[[], bool]) -> dict[tuple[str, str], str]:
        """Return the texts of the references in a step's payload, by their places in it.

        Raises:
            AttemptCancelled: They are no longer wanted.
            PayloadError: One is lost or invalid.
        """
        read = json.loads(payload)
        places = {("", "input"): read.get("input")}
        places |= {("parents", step): output for step, output in (read.get("parents") or {}).items()}
        references = {
            place: json.dumps(value)
            for place, value in places.items()
            if isinstance(value, dict) and value.keys() == {MARK}
        }
        return {place: await self.text(text, is_wanted=is_wanted) for place, text in references.items()}

    async def keep(
        self, owner: str, text: str, *, is_wanted: Callable[[], bool] = lambda: True, give_up_at: float | None = None
    ) -> str:
        """Store a text, and return its reference.

        Args:
            owner: What it is deleted with: the UID of a run, or the name of a request for one.
            text: What to store.
            is_wanted: Checked before each further try.
            give_up_at: The loop time after which there are no more tries; None: never.

        Raises:
            AttemptCancelled: It is no longer wanted.
            PayloadError: The store refuses it, or did not respond for too long.
        """
        store = self._store
        assert store is not None, "only what is large is kept"
        reference = await self._until_answered(lambda: store.put(owner, text), is_wanted, give_up_at)
        return reference.to_text()

    async def text(self, text: str, *, is_wanted: Callable[[], bool]) -> str:
        """Return the text that a reference stands for.

        Raises:
            AttemptCancelled: It is no longer wanted.
            PayloadError: It is lost or invalid.
        """
        store = self._store
        try:
            reference = reference_in(text)
        except BadReference as error:
            raise PayloadError(str(error)) from None
        if store is None or reference is None:
            return text
        return await self._until_answered(lambda: store.get(reference), is_wanted, None)

    async def _until_answered(
        self, ask: Callable[[], Awaitable[T]], is_wanted: Callable[[], bool], give_up_at: float | None
    ) -> T:
        loop = asyncio.get_running_loop()
        for delay in delays():
            try:
                return await ask()
            except StoreUnavailable as error:
                if give_up_at is not None and loop.time() + delay > give_up_at:
                    raise
                self._complain(error)
            await asyncio.sleep(delay)
            if not is_wanted():
                raise AttemptCancelled("the payload store did not answer while anybody waited for it")
        raise AssertionError("delays never end")

    def _complain(self, error: StoreUnavailable) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._complain_again_at:
            self._complain_again_at = now + _COMPLAINT_SECONDS
            log.warning("the payload store does not answer, trying again: %s", error)


def _open_store(endpoint: Endpoint) -> "PayloadStore | None":
    if endpoint.store is None:
        return None
    from hatchet_sdk.payloads.sealing import Keys
    from hatchet_sdk.payloads.store import PayloadStore

    return PayloadStore(endpoint.store, Keys(endpoint.payloads_key) if endpoint.payloads_key else None)
