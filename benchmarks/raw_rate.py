"""What the API server can do: pairs of a create and a status update per second, with nothing else going on.

The objects are a real child's, byte for byte but for names and numbers, through the operator's own HTTP client. They
are made in a namespace that the operator does not watch.
"""

import asyncio
import copy
import itertools
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import RUNS, Resource
from hatchet_operator.errors import AlreadyExists
from hatchet_operator.resources.base import API_VERSION

_NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
_NAMESPACE = "raw-rate"
_CONCURRENCIES = (4, 8, 16, 32)
_SECONDS = 1.5  # per concurrency

CpuSeconds = Callable[[], dict[str, float]]
"""Tells what each component has used so far."""


@dataclass(frozen=True, kw_only=True)
class RawRate:
    """The best rate, how many pairs were under way at a time, and the CPU that a pair cost, by component."""

    pairs_per_second: float
    concurrency: int
    cpu_seconds: dict[str, float]


class RawPairs:
    """Makes pairs after the pattern of a finished child."""

    def __init__(self, api: Api, child: Json, owner: Json, cpu_seconds: CpuSeconds) -> None:
        self._api = api
        self._cpu_seconds = cpu_seconds
        self._child = child
        self._owner = owner
        self._numbers = itertools.count()
        self._prefix = secrets.token_hex(4)

    @classmethod
    async def like(cls, api: Api, child: Json, *, cpu_seconds: CpuSeconds) -> "RawPairs":
        """Prepare the namespace, and an owner for the objects, as a child has one."""
        with suppress(AlreadyExists):
            await api.create(_NAMESPACES, None, {"kind": "Namespace", "metadata": {"name": _NAMESPACE}})
        owner = {"metadata": {"name": f"owner-{secrets.token_hex(4)}"}, "spec": {"workflow": "parent"}}
        return cls(api, child, await api.create(RUNS, _NAMESPACE, _typed(owner)), cpu_seconds)

    async def best_rate(self) -> RawRate:
        """Try several concurrencies; the API server's best is what counts."""
        rates = [await self._rate(concurrency) for concurrency in _CONCURRENCIES]
        return max(rates, key=lambda rate: rate.pairs_per_second)

    async def _rate(self, concurrency: int) -> RawRate:
        cpu, begin = self._cpu_seconds(), time.monotonic()

        async def make_pairs() -> int:
            count = 0
            while time.monotonic() < begin + _SECONDS:
                await self._make_pair()
                count += 1
            return count

        pairs = sum(await asyncio.gather(*(make_pairs() for _ in range(concurrency))))
        seconds = time.monotonic() - begin
        used = {name: (after - cpu[name]) / pairs for name, after in self._cpu_seconds().items()}
        return RawRate(pairs_per_second=pairs / seconds, concurrency=concurrency, cpu_seconds=used)

    async def _make_pair(self) -> None:
        body = self._body(f"{self._prefix}{next(self._numbers):08x}")
        created = await self._api.create(RUNS, _NAMESPACE, body)
        metadata = {key: created["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        status = _typed({"metadata": metadata, "status": self._child["status"]})
        await self._api.replace(RUNS, _NAMESPACE, metadata["name"], status, subresource="status")

    def _body(self, unique: str) -> Json:
        metadata = copy.deepcopy(self._child["metadata"])
        owner = metadata["ownerReferences"][0] | {key: self._owner["metadata"][key] for key in ("name", "uid")}
        return _typed(
            {
                "metadata": {
                    "name": metadata["name"][: -len(unique)] + unique,
                    "namespace": _NAMESPACE,
                    "labels": metadata["labels"],
                    "ownerReferences": [owner],
                },
                "spec": self._child["spec"],
            }
        )


def _typed(body: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": RUNS.kind, **body}
