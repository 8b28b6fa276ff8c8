"""What the API server can do: pairs of a create and a status update per second, with nothing else going on.

The objects are a real child's, byte for byte but for names and numbers, through the operator's own HTTP client. They
are of a copy of the WorkflowRun's CRD in another API group, which nobody watches and no admission policy is for.
"""

import asyncio
import copy
import itertools
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import CRDS, RUNS, Resource
from hatchet_operator.errors import AlreadyExists, NotFound
from hatchet_operator.resources.base import Json
from tests.kube.eventually import eventually

_NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
_COPY = Resource(group=f"raw.{RUNS.group}", version=RUNS.version, plural=RUNS.plural, kind=RUNS.kind)
_AT_A_TIME = 16
"""From 8 on it makes no difference: there the API server is the limit."""


class RawPairs:
    """Makes pairs after the pattern of a finished child."""

    def __init__(self, api: Api, namespace: str, child: Json, owner: Json) -> None:
        self._api = api
        self._namespace = namespace
        self._child = child
        self._owner = owner
        self._numbers = itertools.count()
        self._prefix = secrets.token_hex(4)

    @classmethod
    @asynccontextmanager
    async def like(cls, api: Api, child: Json) -> AsyncIterator["RawPairs"]:
        """Prepare the kind, a namespace, and an owner for the objects, as a child has one; all go in the end."""
        namespace = f"raw-rate-{secrets.token_hex(3)}"
        crd = await api.get(CRDS, None, f"{RUNS.plural}.{RUNS.group}")
        await eventually(partial(_is_there, api, copy_of(crd)))
        await api.create(_NAMESPACES, None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        try:
            await eventually(partial(_is_served, api, namespace))
            owner = {"metadata": {"name": f"owner-{secrets.token_hex(4)}"}, "spec": {"workflow": "parent"}}
            yield cls(api, namespace, child, await api.create(_COPY, namespace, _typed(owner)))
        finally:
            await api.delete(CRDS, None, f"{_COPY.plural}.{_COPY.group}")
            await api.delete(_NAMESPACES, None, namespace)

    async def rate(self, seconds: float) -> float:
        """Return the pairs per second in one window.

        It has to be long: the API server collects its garbage every few seconds, and the best of short windows is one
        without that, 9 % better than a fan-out can have it.
        """
        begin = time.monotonic()

        async def make_pairs() -> int:
            count = 0
            while time.monotonic() < begin + seconds:
                await self._make_pair()
                count += 1
            return count

        pairs = sum(await asyncio.gather(*(make_pairs() for _ in range(_AT_A_TIME))))
        return pairs / (time.monotonic() - begin)

    async def rate_in_turn(self, seconds: float) -> float:
        """Return the pairs per second if each create awaits the one before, while statuses are not waited for.

        Whoever spawns one child after the other can't be faster.
        """
        begin = time.monotonic()
        pairs = 0
        async with asyncio.TaskGroup() as statuses:
            while time.monotonic() < begin + seconds:
                created = await self._create()
                statuses.create_task(self._write_status(created))
                pairs += 1
        return pairs / (time.monotonic() - begin)

    async def _make_pair(self) -> None:
        await self._write_status(await self._create())

    async def _create(self) -> Json:
        return await self._api.create(_COPY, self._namespace, self._body(f"{self._prefix}{next(self._numbers):08x}"))

    async def _write_status(self, created: Json) -> None:
        metadata = {key: created["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        status = _typed({"metadata": metadata, "status": self._child["status"]})
        await self._api.replace(_COPY, self._namespace, metadata["name"], status, subresource="status")

    def _body(self, unique: str) -> Json:
        metadata = copy.deepcopy(self._child["metadata"])
        ours = {"apiVersion": _COPY.api_version, **{key: self._owner["metadata"][key] for key in ("name", "uid")}}
        owner = metadata["ownerReferences"][0] | ours
        return _typed(
            {
                "metadata": {
                    "name": metadata["name"][: -len(unique)] + unique,
                    "namespace": self._namespace,
                    "labels": metadata["labels"],
                    "ownerReferences": [owner],
                },
                "spec": self._child["spec"],
            }
        )


async def _is_there(api: Api, crd: Json) -> bool:
    """Create a CRD, unless it is there; one that is just going, as that of the scenario before, is waited for."""
    try:
        await api.create(CRDS, None, crd)
    except AlreadyExists:
        with suppress(NotFound):
            return "deletionTimestamp" not in (await api.get(CRDS, None, crd["metadata"]["name"]))["metadata"]
        return False
    return True


def copy_of(crd: Json) -> Json:
    """Return the CRD under another group, without the version for light runs: each costs a watch cache of its own."""
    spec = {key: value for key, value in crd["spec"].items() if key != "conversion"} | {"group": _COPY.group}
    spec["versions"] = [version for version in spec["versions"] if version["name"] == _COPY.version]
    spec["names"] = {key: crd["spec"]["names"][key] for key in ("kind", "listKind", "plural", "singular")}
    metadata = {"name": f"{_COPY.plural}.{_COPY.group}"}
    return {"apiVersion": CRDS.api_version, "kind": CRDS.kind, "metadata": metadata, "spec": spec}


async def _is_served(api: Api, namespace: str) -> bool:
    try:
        await api.list_all(_COPY, namespace)
    except NotFound:
        return False
    return True


def _typed(body: Json) -> Json:
    return {"apiVersion": _COPY.api_version, "kind": _COPY.kind, **body}
