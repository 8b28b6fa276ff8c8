"""Kubernetes Events: what a person should see in ``kubectl describe``. None on the happy path.

Best effort, and bounded: the same thing about the same object is said once a minute, and an API server in trouble is
not bothered with retries.
"""

import asyncio
import logging
from datetime import UTC, datetime

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import EVENTS, PODS
from hatchet_operator.errors import ApiError
from hatchet_operator.resources.base import API_VERSION, Json, Named, ObjectMeta
from hatchet_operator.resources.names import generate_name

log = logging.getLogger(__name__)

_QUIET_SECONDS = 60.0
_LAST_WORDS_SECONDS = 0.5
_REMEMBERED = 5_000
_MESSAGE_BYTES = 1024  # the API server's own limit for core/v1 events


class EventRecorder:
    """Records what happened to an object, where its author looks."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._said: dict[tuple[str, str, str], float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def warn(self, subject: Named, reason: str, message: str) -> None:
        """Record a Warning in the background, unless the same was recorded for the object a short while ago."""
        now = asyncio.get_running_loop().time()
        key = (subject.metadata.uid, reason, message)
        if now - self._said.get(key, float("-inf")) < _QUIET_SECONDS:
            return
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[key] = now
        task = asyncio.get_running_loop().create_task(self._create(_event(subject, reason, message)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _create(self, event: Json) -> None:
        try:
            await self._api.create(EVENTS, event["metadata"]["namespace"], event)
        except ApiError as error:
            log.warning("event not recorded", extra={"reason": event["reason"], "error": str(error)})

    async def stop(self) -> None:
        """Let events in flight be sent, if that takes no time."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _event(subject: Named, reason: str, message: str) -> Json:
    return _body(API_VERSION, type(subject).__name__, subject.metadata, reason, message)


async def warn_on_pod(api: Api, pod: ObjectMeta, reason: str, message: str) -> None:
    """Record on a Pod, perhaps this process's own, what `kubectl describe` should show; or log why that fails."""
    try:
        await api.create(EVENTS, pod.namespace, _body(PODS.api_version, PODS.kind, pod, reason, message))
    except ApiError as error:
        log.warning("event not recorded", extra={"reason": reason, "error": str(error)})


def _body(api_version: str, kind: str, metadata: ObjectMeta, reason: str, message: str) -> Json:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"generateName": generate_name(metadata.name), "namespace": metadata.namespace},
        "involvedObject": {
            "apiVersion": api_version,
            "kind": kind,
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
        },
        "type": "Warning",
        "reason": reason,
        "message": message.encode()[:_MESSAGE_BYTES].decode("utf-8", "ignore"),
        "source": {"component": "hatchet-operator"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
