"""Stores and reads the texts of inputs and outputs for clients that do not do so themselves.

While the store does not respond, a call stays open and the request is retried, as with the API server: a client that
handed in an output must not lose it, and one that waits for an output is not told that it is lost.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from hatchet_operator.backoff import STORE_AWAY
from hatchet_operator.decisions.inputs import input_reference
from hatchet_operator.decisions.pooling import PayloadAccess
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.payloads.keys import namespace_keys
from hatchet_operator.resources.limits import NO_STORE
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.settings import Settings
from hatchet_sdk.payloads.reference import BadReference, PayloadReference, reference_in
from hatchet_sdk.payloads.sealing import Keys
from hatchet_sdk.payloads.store import PayloadError, PayloadStore, StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


class Payloads:
    """The store, by namespace: each has its own folder there, and its own key."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.root = settings.payload_store.rstrip("/") if settings.payload_store else None
        self.inline_bytes = settings.payload_inline_bytes
        self._key = settings.payload_key
        self._variables = settings.payload_variables
        self._metrics = metrics
        self._stores: dict[str, PayloadStore] = {}

    def root_of(self, namespace: str) -> str | None:
        """Return where the payloads of a namespace are; None: there is no store."""
        return None if self.root is None else f"{self.root}/{namespace}"

    def keys_of(self, namespace: str) -> str | None:
        """Return the keys of a namespace; None: nothing is encrypted."""
        return None if self._key is None else namespace_keys(self._key, namespace)

    def access(self, environ: Mapping[str, str]) -> PayloadAccess | None:
        """Return what pods are told about the store; None: there is none."""
        if self.root is None:
            return None
        variables = tuple((name, environ[name]) for name in sorted(self._variables) if name in environ)
        key = None if self._key is None else hashlib.sha256(self._key.encode()).hexdigest()[:8]
        return PayloadAccess(root=self.root, above=self.inline_bytes, key=key, variables=variables)

    def of(self, namespace: str) -> PayloadStore:
        """Return the store of a namespace.

        Raises:
            PayloadError: There is none.
        """
        root, store = self.root_of(namespace), self._stores.get(namespace)
        if root is None:
            raise PayloadError(f"no payload store is configured here; {NO_STORE}")
        if store is None:
            keys = self.keys_of(namespace)
            store = self._stores[namespace] = PayloadStore(root, Keys(keys) if keys is not None else None)
        return store

    def checked(self, namespace: str, text: str) -> PayloadReference | None:
        """Return the reference that a client hands in, if it is one, after checking what it points to.

        Raises:
            PayloadError, BadReference: It can't be followed.
        """
        if (reference := reference_in(text)) is not None:
            self.of(namespace).path_of(reference)
        return reference

    async def keep(self, namespace: str, owner: str, text: str, *, kind: str) -> str:
        """Store a text, and return its reference; ``kind``: input or output.

        Raises:
            PayloadError: The store refuses it.
        """
        store = self.of(namespace)
        reference = await self._until_answered(lambda: store.put(owner, text))
        self.count(reference, kind=kind, by="operator")
        return reference.to_text()

    async def texts(self, namespace: str, references: Iterable[str]) -> dict[str, str]:
        """Return what references stand for, by their texts.

        Raises:
            PayloadError: One of them is lost, or the store refuses to return it.
        """
        return {text: await self._text(namespace, text) for text in references}

    async def _text(self, namespace: str, text: str) -> str:
        try:
            reference = reference_in(text)
        except BadReference as error:
            raise PayloadError(str(error)) from error
        if reference is None:
            return text
        store = self.of(namespace)
        found = await self._until_answered(lambda: store.get(reference))
        self._metrics.payload_reads.inc()
        return found

    def count(self, reference: PayloadReference, *, kind: str, by: str) -> None:
        """Count what was stored, by the operator or by a client itself."""
        self._metrics.payloads.labels(kind=kind, by=by).inc()
        self._metrics.payload_bytes.labels(kind=kind, by=by).inc(reference.size)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await ask()
            except StoreUnavailable as error:
                failures += 1
                self._metrics.payload_failures.inc()
                log.warning("payload store does not answer, trying again", extra={"error": str(error)})
            await asyncio.sleep(STORE_AWAY.jittered_after(failures))


def references_of(run: WorkflowRun) -> list[str]:
    """Return the texts in a run that look like references: usually none."""
    texts = [input_reference(run.spec), *(state.output for state in run.status.steps.values())]
    return [text for text in texts if text is not None and is_reference(text)]


def is_reference(text: str | None) -> bool:
    """Whether a text looks like a reference, even an invalid one."""
    try:
        return reference_in(text) is not None
    except BadReference:
        return True
