"""RateLimit objects: what people apply and programs set becomes the limit of a bucket; what is used is shown.

watch, or our own create ─► observe ─► the oldest object of a key sets its bucket's limit
units go, attempts wait ─► its object is due ─► one status PUT, ten seconds after the last at the earliest
"""

import contextlib
import logging
from collections.abc import Coroutine, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RATE_LIMITS
from hatchet_operator.cluster.statuses import write_status
from hatchet_operator.decisions.conditions import Aspect, make_conditions
from hatchet_operator.decisions.rate_limits import Limit, current
from hatchet_operator.durations import format_duration
from hatchet_operator.engine.limits.buckets import Bucket, BucketKey, Buckets, time_of
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import AlreadyExists, InvalidRequest, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef, rate_limit_name
from hatchet_operator.resources.rate_limit import RUNS_SHOWN, RateLimit, RateLimitStatus
from hatchet_operator.resources.reasons import ConditionType, Reason

log = logging.getLogger(__name__)

_BETWEEN_STATUSES_SECONDS = 10.0


class RateLimits:
    """Observes all RateLimit objects and writes their statuses.

    Args:
        api: Where they are.
        buckets: Where their limits apply.
    """

    def __init__(self, api: Api, *, buckets: Buckets) -> None:
        self._api = api
        self._buckets = buckets
        self._objects: dict[ObjectRef, RateLimit] = {}
        self._by_key: dict[BucketKey, dict[ObjectRef, None]] = {}
        self._work: WorkQueue[ObjectRef] = WorkQueue(self._show, failed=self._failed)
        self._written_at: dict[ObjectRef, float] = {}
        self.active = False
        buckets.on_use.append(self._used)

    def __len__(self) -> int:
        return len(self._objects)

    def that_count(self) -> Iterator[tuple[ObjectRef, Bucket]]:
        """Yield the RateLimits that have an effect, with what is left of each."""
        for key in self._by_key:
            if (ref := self._that_counts(key)) is not None:
                yield ref, self._buckets.bucket(key)

    def start(self) -> None:
        """Begin to write statuses: everything that exists has been read."""
        self.active = True
        for ref in self._objects:
            self._work.add(ref)

    # --- What is observed

    def observe(self, kind: str, obj: Json) -> None:
        """Observe a RateLimit as the API server has it."""
        metadata = obj["metadata"]
        ref = ObjectRef(metadata.get("namespace", ""), metadata["name"])
        known = self._objects.get(ref)
        if kind == "DELETED":
            if known is not None and known.metadata.uid == metadata["uid"]:
                self._forget(ref, known)
            return
        try:
            limit = RateLimit.model_validate(obj)
        except ValueError as error:
            log.warning("rate limit is not understood", extra={"rate_limit": str(ref), "error": str(error)})
            limit = RateLimit.model_validate({**obj, "status": {}})
        if known is not None:
            is_same = known.metadata.uid == limit.metadata.uid
            if is_same and int(limit.metadata.resource_version) <= int(known.metadata.resource_version):
                return
            if not is_same:
                self._forget(ref, known)
        self._objects[ref] = limit
        self._by_key.setdefault((ref.namespace, limit.key), {})[ref] = None
        self._apply((ref.namespace, limit.key))
        if self.active and (known is None or known.spec != limit.spec):
            self._work.add(ref)

    def _forget(self, ref: ObjectRef, known: RateLimit) -> None:
        key = (ref.namespace, known.key)
        del self._objects[ref]
        self._written_at.pop(ref, None)
        self._work.forget(ref)
        del self._by_key[key][ref]
        if not self._by_key[key]:
            del self._by_key[key]
        self._apply(key)

    def _apply(self, key: BucketKey) -> None:
        bucket, ref = self._buckets.bucket(key), self._that_counts(key)
        spec = self._objects[ref].spec if ref is not None else None
        limit = Limit(units=spec.limit, seconds=spec.window.total_seconds()) if spec is not None else bucket.stated
        if (bucket.limit, bucket.has_object) != (limit, spec is not None):
            self._buckets.set_limit(bucket, limit, has_object=spec is not None)
        if self.active:
            for other in self._by_key.get(key, ()):
                self._work.add(other)  # one of them may apply now

    def _that_counts(self, key: BucketKey) -> ObjectRef | None:
        """Return the oldest object of a key: a second one has no effect."""
        return min(self._by_key.get(key, ()), key=lambda ref: _age(self._objects[ref]), default=None)

    # --- What programs set

    async def put(self, namespace: str, key: str, *, units: int, window: timedelta) -> None:
        """Set a limit, and return once it is set.

        Raises:
            InvalidRequest: The API server refuses it.
        """
        spec: Json = {"limit": units, "window": format_duration(window)}
        while True:
            counts = self._that_counts((namespace, key))
            ref = counts or ObjectRef(namespace, rate_limit_name(key))
            known = self._objects[counts] if counts is not None else None
            if known is not None and (known.spec.limit, known.spec.window) == (units, window):
                return
            try:
                obj = await self._write(ref, known, key, spec)
            except AlreadyExists:
                obj = await self._api.until_answered(self._api.get, RATE_LIMITS, namespace, ref.name)
                if RateLimit.model_validate(obj).key != key:
                    raise InvalidRequest(
                        f'rate limit "{key}" can\'t be set: the RateLimit object "{ref.name}" is there with another '
                        "key; delete it, or apply one of another name with spec.key"
                    ) from None
            except NotFound as error:
                if known is None:
                    raise InvalidRequest(f'rate limit "{key}" can\'t be set: {error}') from error
                self._forget(ref, known)
                continue
            except Refused as error:
                raise InvalidRequest(f'rate limit "{key}" can\'t be set: {error}') from error
            self.observe("MODIFIED", obj)

    async def _write(self, ref: ObjectRef, known: RateLimit | None, key: str, spec: Json) -> Json:
        api, namespace = self._api, ref.namespace
        if known is None:
            return await api.until_answered(api.create, RATE_LIMITS, namespace, _object(ref, key, spec))
        return await api.until_answered(api.patch, RATE_LIMITS, namespace, ref.name, {"spec": spec})

    # --- What is shown

    def _used(self, bucket: Bucket) -> None:
        if bucket.has_object and self.active and (ref := self._that_counts(bucket.key)) is not None:
            since = self._buckets.now() - self._written_at.get(ref, 0.0)
            self._work.add_after(ref, max(_BETWEEN_STATUSES_SECONDS - since, 0.0))

    def _show(self, ref: ObjectRef) -> Coroutine[Any, Any, None] | None:
        limit = self._objects.get(ref)
        if limit is None:
            return None
        now = self._buckets.now()
        bucket = self._buckets.bucket((ref.namespace, limit.key))
        status = self._status(ref, limit, bucket, time_of(now))
        if status.refills_at is not None:  # otherwise it would show as used forever
            ends_in = status.refills_at.timestamp() - now
            self._work.add_after(ref, max(ends_in, _BETWEEN_STATUSES_SECONDS))
        if status == limit.status:
            return None
        since = now - self._written_at.get(ref, 0.0)
        if since < _BETWEEN_STATUSES_SECONDS and status.observed_generation == limit.status.observed_generation:
            self._work.add_after(ref, _BETWEEN_STATUSES_SECONDS - since)
            return None
        self._written_at[ref] = now
        return self._write_status(ref)

    def _status(self, ref: ObjectRef, limit: RateLimit, bucket: Bucket, now: datetime) -> RateLimitStatus:
        counts = self._that_counts(bucket.key) or ref
        window = current(bucket.window, bucket.limit, now.timestamp()) if bucket.limit is not None else None
        aspects = [Aspect(ConditionType.READY, True, Reason.VALID)]
        if counts != ref:
            text = f'key "{limit.key}" is that of the older RateLimit "{counts.name}", which counts; delete one of them'
            aspects = [
                Aspect(ConditionType.READY, False, Reason.KEY_TAKEN, text),
                Aspect(ConditionType.STALLED, True, Reason.KEY_TAKEN, text),
            ]
        counted = window if counts == ref and window is not None and window.used else None
        return RateLimitStatus(
            used=counted.used if counted else 0,
            waiting=bucket.waiting if counts == ref else 0,
            waiting_runs=(bucket.next_runs(RUNS_SHOWN) or None) if counts == ref else None,
            window_started_at=time_of(counted.started_at) if counted else None,
            refills_at=time_of(counted.started_at + bucket.seconds) if counted else None,
            conditions=make_conditions(
                aspects, before=limit.status.conditions, generation=limit.metadata.generation, now=now
            ),
            observed_generation=limit.metadata.generation or None,
        )

    async def _write_status(self, ref: ObjectRef) -> None:
        def decide() -> tuple[RateLimit, RateLimitStatus] | None:
            limit = self._objects.get(ref)
            if limit is None:
                return None
            now, bucket = self._buckets.now(), self._buckets.bucket((ref.namespace, limit.key))
            status = self._status(ref, limit, bucket, time_of(now))
            return None if status == limit.status else (limit, status)

        with contextlib.suppress(NotFound):  # the watch says so too
            await write_status(self._api, RATE_LIMITS, ref, decide=decide, observe=partial(self.observe, "MODIFIED"))

    def _failed(self, ref: ObjectRef, error: Exception) -> None:
        log.error("rate limit's status not written, trying again", extra={"rate_limit": str(ref)}, exc_info=error)
        self._work.add_after(ref, _BETWEEN_STATUSES_SECONDS)

    async def stop(self) -> None:
        self.active = False
        await self._work.stop()


def _age(limit: RateLimit) -> tuple[bool, datetime, str]:
    created = limit.metadata.creation_timestamp
    return created is None, created or datetime.max, limit.metadata.name


def _object(ref: ObjectRef, key: str, spec: Json) -> Json:
    named = {} if ref.name == key else {"key": key}
    return {
        "apiVersion": API_VERSION,
        "kind": RATE_LIMITS.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": {labels.MANAGED_BY: labels.MANAGER}},
        "spec": {**named, **spec},
    }
