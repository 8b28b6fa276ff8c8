"""The ledger: what long windows have reserved, written before any of it is granted.

    a bucket wants units ─► its page is due ─► one PUT for all that wanted some meanwhile ─► they go
                                  ▲                                │
                                  └──── quiet for a while: what was reserved and not used is given back

Pages are ConfigMaps beside the operator; a key is always on the same one. The next leader reads them all, and counts
what is reserved as used. At most one write per page is in flight, and it serves every bucket that asked before it.

A shard has one page, of its own. It also reads those of others: namespaces are in other shards than before if their
number was changed.
"""

import asyncio
import logging
import math
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import orjson

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import CONFIG_MAPS
from hatchet_operator.cluster.ownership import owners_with
from hatchet_operator.cluster.upkeep import put_over
from hatchet_operator.decisions.rate_limits import LONGEST_UNWRITTEN, Window, ask, settle
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.limits.buckets import Bucket, BucketKey, Buckets
from hatchet_operator.engine.work_queue import WorkQueue
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

LEDGER_NAME = "hatchet-operator-rate-limits"
PAGES = 8
_BETWEEN_WRITES_SECONDS = 0.05
_QUIET_SECONDS = 10.0
_RETRY_SECONDS = 5.0


@dataclass(slots=True)
class _Page:
    """One ConfigMap.

    Attributes:
        version: Its resourceVersion; None: there is none yet.
        inherited: Entries of previous leaders that no bucket has taken over: when windows end, and the windows.
        buckets: The buckets whose windows are on it.
        written_at: When it was last written, in the loop's time.
        text: What was last written.
    """

    version: str | None = None
    inherited: dict[BucketKey, tuple[float, Window]] = field(default_factory=dict)
    buckets: dict[BucketKey, Bucket] = field(default_factory=dict)
    written_at: float = 0.0
    text: str = ""


class Ledger:
    """All pages.

    Args:
        api: Where they are.
        namespace: The operator's.
        owner: The pages' owner: the operator's Deployment, as an owner reference.
        buckets: The buckets whose windows are kept; told what is reserved.
        scope: The namespaces whose limits these are.
    """

    def __init__(
        self, api: Api, namespace: str, *, owner: Mapping[str, Any] | None, buckets: Buckets, scope: Scope
    ) -> None:
        self._api = api
        self._scope = scope
        self._names = _names(scope)
        self._namespace = namespace
        self._owner = owner
        self._buckets = buckets
        self._pages = [_Page() for _ in self._names]
        self._work: WorkQueue[int] = WorkQueue(self._write, failed=self._failed)
        buckets.on_reserve.append(self._reserve)

    # --- Reading

    async def read(self) -> None:
        """Read what previous leaders had reserved."""
        if self._scope.is_shard:
            await self._read_those_of_others()
        await asyncio.gather(*map(self._read, range(len(self._pages))))

    async def _read_those_of_others(self) -> None:
        selector = f"{labels.MANAGED_BY}={labels.MANAGER}"
        pages, _ = await self._api.until_answered(
            lambda: self._api.list_all(CONFIG_MAPS, self._namespace, label_selector=selector)
        )
        for obj in pages:
            name = obj["metadata"]["name"]
            if name.startswith(f"{LEDGER_NAME}-") and name not in self._names:
                self._inherit(self._pages[0], (obj.get("data") or {}).get("windows", ""))

    async def _read(self, number: int, *, but: str | None = None) -> None:
        """Read a page, and count its entries as used, unless it is the text that we wrote."""
        page = self._pages[number]
        try:
            obj = await self._api.until_answered(self._api.get, CONFIG_MAPS, self._namespace, self._names[number])
        except NotFound:
            page.version, page.text = None, ""
            return
        page.version, page.text = obj["metadata"]["resourceVersion"], obj.get("data", {}).get("windows", "")
        if page.text == but:
            return
        self._inherit(page, page.text)

    def _inherit(self, page: _Page, text: str) -> None:
        now = self._buckets.now()
        for key, (ends_at, window) in read_windows(text).items():
            if ends_at > now and self._scope.covers(key[0]):
                page.inherited[key] = ends_at, window
                self._buckets.inherit(key, window)

    # --- Writing

    def _reserve(self, bucket: Bucket) -> None:
        number = crc32("/".join(bucket.key).encode()) % len(self._pages)
        page = self._pages[number]
        page.buckets[bucket.key] = bucket
        since = asyncio.get_running_loop().time() - page.written_at
        if since >= _BETWEEN_WRITES_SECONDS:
            self._work.add(number)
        else:
            self._work.add_after(number, _BETWEEN_WRITES_SECONDS - since)

    def _write(self, number: int) -> Coroutine[Any, Any, None] | None:
        page, now = self._pages[number], self._buckets.now()
        wanted = self._wanted(page, now)
        is_unsettled = self._settle(page, now)
        entries = self._entries(page, wanted, now)
        text = write_windows(entries)
        if is_unsettled:
            self._work.add_after(number, _QUIET_SECONDS)
        return self._put(number, text, wanted) if text != page.text else self._answer(wanted)

    def _wanted(self, page: _Page, now: float) -> dict[Bucket, Window]:
        """Return the windows that have to be written; who no longer needs one decides again what to wait for."""
        wanted = {}
        for bucket in page.buckets.values():
            if not bucket.wanted:
                continue
            answer = ask(bucket.window, bucket.wanted, bucket.limit, now) if bucket.limit is not None else None
            if answer is not None and answer.reserve is not None:
                wanted[bucket] = answer.reserve
            else:
                bucket.wanted = 0
                self._buckets.look_soon(bucket)
        return wanted

    def _settle(self, page: _Page, now: float) -> bool:
        """Give back what idle buckets do not use; return whether some must be checked again later."""
        is_unsettled = False
        for key, bucket in list(page.buckets.items()):
            window = bucket.window
            if (window is None or now >= window.started_at + bucket.seconds) and not bucket.wanted:
                del page.buckets[key]
            elif window is not None and not bucket.wanted and window.reserved > window.used:
                if now - bucket.used_at >= _QUIET_SECONDS:
                    bucket.window = settle(window)
                else:
                    is_unsettled = True
        return is_unsettled or any(bucket.wanted for bucket in page.buckets.values())

    def _entries(self, page: _Page, wanted: dict[Bucket, Window], now: float) -> dict[BucketKey, tuple[float, Window]]:
        page.inherited = {key: entry for key, entry in page.inherited.items() if entry[0] > now}
        entries = dict(page.inherited)
        for key, bucket in page.buckets.items():
            if (window := wanted.get(bucket, bucket.window)) is None:
                continue
            ends_at = window.started_at + bucket.seconds
            page.inherited.pop(key, None)
            if ends_at > now and bucket.seconds > LONGEST_UNWRITTEN:
                entries[key] = ends_at, window
            else:
                entries.pop(key, None)
        return entries

    async def _answer(self, wanted: dict[Bucket, Window]) -> None:
        for bucket, window in wanted.items():
            bucket.wanted, bucket.trouble = 0, None
            self._buckets.reserved(bucket, window)

    async def _put(self, number: int, text: str, wanted: dict[Bucket, Window]) -> None:
        page = self._pages[number]
        page.written_at = asyncio.get_running_loop().time()
        body: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self._names[number],
                "namespace": self._namespace,
                "labels": {labels.MANAGED_BY: labels.MANAGER},
                "ownerReferences": owners_with({}, self._owner),
            },
            "data": {"windows": text},
        }
        try:
            obj = await put_over(self._api, CONFIG_MAPS, body, over=page.version)
        except (AlreadyExists, Conflict, NotFound):
            await self._read(number, but=text)  # it exists: the answer was lost
            if page.text != text:
                self._work.add(number)
                return
        except ApiError as error:
            for bucket in wanted:
                bucket.trouble = f"its units can't be reserved ({error})"[:300]
            raise
        else:
            page.version, page.text = obj["metadata"]["resourceVersion"], text
        await self._answer(wanted)
        self._work.add_after(number, _QUIET_SECONDS)

    def _failed(self, number: int, error: Exception) -> None:
        log.error("rate limits not reserved, trying again", extra={"configmap": self._names[number]}, exc_info=error)
        self._work.add_after(number, _RETRY_SECONDS)

    # --- Ends

    async def close(self) -> None:
        """Tell the next leader exactly what was used, if it can be written soon; nothing is granted from then on."""
        await self._work.stop()
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await asyncio.gather(*map(self._hand_over, range(len(self._pages))))
        except (ApiError, TimeoutError) as error:
            log.warning("what rate limits have left is not handed over", extra={"error": str(error)})

    async def _hand_over(self, number: int) -> None:
        page = self._pages[number]
        for bucket in page.buckets.values():
            bucket.wanted = 0
            if bucket.window is not None:
                bucket.window = settle(bucket.window)
        text = write_windows(self._entries(page, {}, self._buckets.now()))
        if page.buckets and text != page.text:
            await self._put(number, text, {})

    async def stop(self) -> None:
        await self._work.stop()


def _names(scope: Scope) -> tuple[str, ...]:
    if scope.is_shard:
        return (f"{LEDGER_NAME}-{scope.shard}-of-{scope.shards}",)
    return tuple(f"{LEDGER_NAME}-{number}" for number in range(PAGES))


def write_windows(entries: dict[BucketKey, tuple[float, Window]]) -> str:
    """Return a page's text: per limit the begin and end of its window, and how many units are reserved and used."""
    lines = {
        "/".join(key): [_milliseconds(window.started_at), _milliseconds(ends_at), window.reserved, window.used]
        for key, (ends_at, window) in sorted(entries.items())
    }
    return orjson.dumps(lines).decode()


def _milliseconds(seconds: float) -> float:
    return math.ceil(seconds * 1000) / 1000  # round up, since a window that ends early would grant too much


def read_windows(text: str) -> dict[BucketKey, tuple[float, Window]]:
    """Read a page; entries that make no sense, because somebody edited them, are dropped."""
    try:
        lines = orjson.loads(text or "{}")
    except ValueError:
        return {}
    found: dict[BucketKey, tuple[float, Window]] = {}
    for name, line in lines.items() if isinstance(lines, dict) else ():
        namespace, separator, key = name.partition("/")
        match line:
            case [int() | float() as started_at, int() | float() as ends_at, int(reserved), *rest] if separator:
                used = rest[0] if rest and isinstance(rest[0], int) else 0  # earlier versions don't say it
                found[namespace, key] = ends_at, Window(started_at=started_at, used=used, reserved=reserved)
    return found
