"""Webhooks: what senders deliver becomes events of their namespace, each once for its id.

    a source changed ─► its Secret is read ─► status, and again after a while if it is missing
    a delivery ─► its source ─► the Secret, kept for some seconds ─► signature ─► key and id ─► an event

A sender that can't sign causes few requests to the API server: at most one per source and second.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.events import EventRecorder
from hatchet_operator.cluster.kinds import SECRETS, WEBHOOK_SOURCES
from hatchet_operator.cluster.statuses import write_status
from hatchet_operator.decisions.webhook_status import is_secret_told, webhook_status
from hatchet_operator.decisions.webhooks import (
    BadDeliveryError,
    BadSignatureError,
    Delivery,
    WrongSignatureError,
    check_signature,
    delivery_id,
    event_key,
)
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.triggers.events import PushedEvent, read_event
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import (
    InvalidRequest,
    NotFound,
    NotReady,
    Refused,
    Unauthenticated,
    UnknownObject,
)
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.webhook_source import SecretKeyRef, WebhookSource, WebhookSourceStatus

log = logging.getLogger(__name__)

_SECRET_KEPT_SECONDS = 10.0
_READ_AGAIN_SECONDS = 1.0  # if a signature is wrong, its Secret may have changed
_LOOK_AGAIN_SECONDS = 30.0  # for a Secret that is missing
_RETRY_SECONDS = 5.0


class SecretMissingError(Exception):
    """The Secret of a source is missing, or has no such key; the message says which."""


@dataclass(slots=True, eq=False)
class _Source:
    source: WebhookSource
    version: int
    secret: bytes | None = None
    problem: str = ""  # why there is no secret
    read_at: float = float("-inf")
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Webhooks:
    """All sources of webhooks.

    Args:
        api: Where they are.
        events: Records on a source that deliveries are not signed correctly.
        metrics: Counts what was refused.
        listens: Whether there is a port for deliveries.
        clock: Tells the time.
    """

    def __init__(self, api: Api, *, events: EventRecorder, metrics: Metrics, listens: bool, clock: Clock) -> None:
        self._api = api
        self._events = events
        self._metrics = metrics
        self._listens = listens
        self._clock = clock
        self._sources: dict[ObjectRef, _Source] = {}
        self._started = False
        self._work: WorkQueue[ObjectRef] = WorkQueue(self._look_at, failed=self._failed)

    # --- What is observed

    def start(self) -> None:
        """Begin to read Secrets: everything that exists has been read."""
        self._started = True
        for ref in self._sources:
            self._work.add(ref)

    def observe(self, kind: str, obj: Json) -> None:
        """Observe a WebhookSource as the API server has it."""
        metadata = obj["metadata"]
        ref = ObjectRef(metadata.get("namespace", ""), metadata["name"])
        known = self._sources.get(ref)
        if kind == "DELETED":
            if known is not None and known.source.metadata.uid == metadata["uid"]:
                self.forget(ref)
            return
        version = int(metadata["resourceVersion"])
        if known is not None and known.source.metadata.uid == metadata["uid"] and version <= known.version:
            return
        try:
            source = WebhookSource.model_validate(obj)
        except ValueError as error:
            log.warning("webhook source is not understood", extra={"source": str(ref), "error": str(error)})
            self.forget(ref)
            return
        if known is not None and (known.source.metadata.uid, known.source.spec) == (source.metadata.uid, source.spec):
            known.source, known.version = source, version
        else:
            self._sources[ref] = _Source(source=source, version=version)
        if self._started:
            self._work.add(ref)

    def known(self) -> list[ObjectRef]:
        return list(self._sources)

    def version_of(self, ref: ObjectRef) -> int:
        return self._sources[ref].version

    def forget(self, ref: ObjectRef) -> None:
        """Forget a source that no longer exists."""
        self._sources.pop(ref, None)

    async def stop(self) -> None:
        await self._work.stop()

    # --- What is delivered

    async def read(self, namespace: str, name: str, delivery: Delivery) -> PushedEvent:
        """Return the event that a delivery stands for.

        Raises:
            UnknownObject: There is no such source.
            NotReady: Its Secret is missing.
            Unauthenticated: The signature is not valid.
            InvalidRequest: The signature is valid, but the delivery makes no event.
        """
        ref = ObjectRef(namespace, name)
        if (known := self._sources.get(ref)) is None:
            raise UnknownObject(f'there is no WebhookSource "{name}" in namespace "{namespace}"')
        try:
            await self._check(ref, known, delivery)
            payload = parse_object(delivery.body.decode(), what=f'a delivery of "{name}"')
            key = event_key(known.source.spec, delivery, payload)
        except BadSignatureError as error:
            self._metrics.webhooks_refused.inc()
            if isinstance(error, WrongSignatureError):
                secret = known.source.spec.secret_ref.name
                message = f'a delivery was not signed with the secret in Secret "{secret}"; does its sender have it?'
                self._events.warn(known.source, Reason.DELIVERY_REFUSED, message)
            raise Unauthenticated(str(error)) from error
        except BadDeliveryError as error:
            self._metrics.webhooks_refused.inc()
            self._events.warn(known.source, Reason.DELIVERY_REFUSED, str(error))
            raise InvalidRequest(str(error)) from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the body is not UTF-8 ({error}), as JSON is") from error
        given = delivery_id(known.source.spec, delivery, payload)
        # no source's name contains "_", so no two sources, and no caller with a token, name the same event by chance
        event_id = f"{name}_{given}" if given else ""
        caller = Caller(namespace=namespace, pool="")
        return read_event(caller, key, delivery.body.decode(), event_id=event_id, source=name)

    async def _check(self, ref: ObjectRef, known: _Source, delivery: Delivery) -> None:
        """Check a signature; if it is wrong and the Secret may have changed, check it once more."""
        spec = known.source.spec
        try:
            secret = await self._secret(known, _SECRET_KEPT_SECONDS)
            try:
                check_signature(spec, secret, delivery, now=self._clock.now())
            except WrongSignatureError:
                newer = await self._secret(known, _READ_AGAIN_SECONDS)
                if newer == secret:
                    raise
                check_signature(spec, newer, delivery, now=self._clock.now())
        except SecretMissingError as error:
            raise NotReady(f'WebhookSource "{ref.name}" has no secret yet; its status says why') from error
        finally:
            if is_secret_told(known.source.status) is not (known.secret is not None):
                self._work.add(ref)

    async def _secret(self, known: _Source, kept_seconds: float) -> bytes:
        async with known.reading:
            now = self._clock.boot_time()
            if now - known.read_at > (kept_seconds if known.secret is not None else _READ_AGAIN_SECONDS):
                known.read_at = now
                await self._read_secret_of(known)
        if known.secret is None:
            raise SecretMissingError(known.problem)
        return known.secret

    async def _read_secret_of(self, known: _Source) -> None:
        known.secret = None
        try:
            known.secret = await self._read_secret(known.source.metadata.namespace, known.source.spec.secret_ref)
        except SecretMissingError as error:
            known.problem = str(error)

    async def _read_secret(self, namespace: str, where: SecretKeyRef) -> bytes:
        try:
            secret = await self._api.until_answered(self._api.get, SECRETS, namespace, where.name)
        except NotFound as error:
            raise SecretMissingError(f'there is no Secret "{where.name}" in namespace "{namespace}"') from error
        except Refused as error:
            raise SecretMissingError(f'Secret "{where.name}" can\'t be read: {error.message}') from error
        data = secret.get("data") or {}
        if where.key not in data:
            keys = ", ".join(sorted(data)) or "none"
            raise SecretMissingError(f'Secret "{where.name}" has no key "{where.key}" (it has: {keys})')
        try:
            value = base64.b64decode(data[where.key], validate=True).rstrip(b"\r\n")  # files end with a newline
        except binascii.Error as error:
            raise SecretMissingError(f'key "{where.key}" of Secret "{where.name}" is not base64') from error
        if not value:
            raise SecretMissingError(f'key "{where.key}" of Secret "{where.name}" is empty')
        return value

    # --- Statuses of sources

    def _failed(self, ref: ObjectRef, error: Exception) -> None:
        log.error("webhook source not looked at, trying again", extra={"source": str(ref)}, exc_info=error)
        self._work.add_after(ref, _RETRY_SECONDS)

    def _look_at(self, ref: ObjectRef) -> Coroutine[Any, Any, None] | None:
        known = self._sources.get(ref)
        return None if known is None else self._tell(ref, known)

    async def _tell(self, ref: ObjectRef, known: _Source) -> None:
        problem = None
        try:
            await self._secret(known, _READ_AGAIN_SECONDS)
        except SecretMissingError as error:
            problem = str(error)
            self._work.add_after(ref, _LOOK_AGAIN_SECONDS)

        def decide() -> tuple[WebhookSource, WebhookSourceStatus] | None:
            source = self._sources[ref].source if ref in self._sources else None
            if source is None or source.metadata.uid != known.source.metadata.uid:
                return None
            wanted = webhook_status(source, secret_problem=problem, listens=self._listens, now=self._clock.now())
            return None if wanted == source.status else (source, wanted)

        with contextlib.suppress(NotFound):  # the watch says so too
            await write_status(
                self._api, WEBHOOK_SOURCES, ref, decide=decide, observe=partial(self.observe, "MODIFIED")
            )
