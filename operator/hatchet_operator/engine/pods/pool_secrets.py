"""The Secret of each pool: its token, and whatever else its pods need to find the operator."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress

from hatchet_operator.access.identity import NO_REST_API, Caller, mint_token
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, SECRETS
from hatchet_operator.cluster.upkeep import create_unless_there
from hatchet_operator.decisions.pooling import ADDRESS_KEY, CA_KEY, PAYLOADS_KEY, token_secret_name
from hatchet_operator.errors import ApiError, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json, owner_reference
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.pod import Pod
from hatchet_operator.resources.workerpool import WorkerPool


class PoolSecrets:
    """Keeps the Secrets of pools.

    Args:
        api: Where they are.
        token_key: Signs tokens.
        pods_of: The Pods of a pool that we created.
        payload_keys: The keys with which a namespace's workers read and write large payloads; None: they don't.
    """

    def __init__(
        self,
        api: Api,
        *,
        token_key: str,
        pods_of: Callable[[ObjectRef], list[Pod]],
        payload_keys: Callable[[str], str | None],
    ) -> None:
        self._api = api
        self._token_key = token_key
        self._pods_of = pods_of
        self._payload_keys = payload_keys
        self._written: dict[ObjectRef, tuple[str, Json]] = {}  # by pool: its UID, and the Secret's content
        self.grpc_address = ""
        self.rest_url = NO_REST_API
        self.ca_pem: str | None = None

    def is_written(self, ref: ObjectRef, pool: WorkerPool) -> bool:
        """Whether a pool's Secret has been written, as far as this operator knows."""
        return self._written.get(ref) == (pool.metadata.uid, self._data(ref))

    def forget(self, pool: ObjectRef) -> None:
        """Have it written again: the pool is gone, or one of its Pods says that the Secret lacks something."""
        self._written.pop(pool, None)

    async def ensure(self, pool: WorkerPool) -> None:
        """Ensure that a pool's Secret is correct, before each pod: without it, a pod silently waits for its volume.

        Watching it instead would take the right to list all Secrets.
        """
        namespace, name = pool.metadata.namespace, pool.metadata.name
        ref = ObjectRef(namespace, name)
        data = self._data(ref)
        body: Json = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": token_secret_name(name),
                "namespace": namespace,
                "labels": {labels.POOL: name, labels.MANAGED_BY: labels.MANAGER},
                "ownerReferences": [owner_reference(pool)],
            },
            "stringData": data,
        }
        try:
            await self._renew(namespace, body)
        except NotFound:
            await create_unless_there(self._api, SECRETS, body)  # for example by the check for another pod
        self._written[ref] = pool.metadata.uid, data  # by UID: another pool may have its name by now

    async def _renew(self, namespace: str, body: Json) -> None:
        """Update the Secret of an operator with another key or address, or of an earlier pool of that name."""
        name, owners = body["metadata"]["name"], body["metadata"]["ownerReferences"]
        pool = body["metadata"]["labels"][labels.POOL]
        secret = await self._api.until_answered(self._api.get, SECRETS, namespace, name)
        if secret["metadata"].get("labels", {}).get(labels.MANAGED_BY) != labels.MANAGER:
            raise Refused(f'Secret "{name}" is there and somebody else\'s; delete it, or give the pool another name')
        # not decoded: somebody may have put something into it that is not text
        wanted = {key: base64.b64encode(value.encode()).decode() for key, value in body["stringData"].items()}
        if (secret.get("data"), secret["metadata"].get("ownerReferences")) == (wanted, owners):
            return
        # Including its owner, or the garbage collector would remove it after the earlier pool.
        patch: Json = {"metadata": {"ownerReferences": owners}, "stringData": body["stringData"]}
        await self._api.until_answered(self._api.patch, SECRETS, namespace, name, patch)
        await asyncio.gather(*(self._renew_files(pod, wanted) for pod in self._pods_of(ObjectRef(namespace, pool))))

    async def _renew_files(self, pod: Pod, data: Json) -> None:
        """Have the kubelet sync a pod: without this, it updates the Secret's volume only within a minute or so."""
        digest = hashlib.sha256(repr(sorted(data.items())).encode()).hexdigest()[:16]
        patch = {"metadata": {"uid": pod.uid, "annotations": {labels.CREDENTIALS: digest}}}
        with suppress(ApiError):  # then it takes that minute
            await self._api.patch(PODS, pod.namespace, pod.name, patch)

    def _data(self, ref: ObjectRef) -> Json:
        caller = Caller(namespace=ref.namespace, pool=ref.name)
        token = mint_token(caller, key=self._token_key, grpc_address=self.grpc_address, rest_url=self.rest_url)
        data = {"token": token, ADDRESS_KEY: self.grpc_address}
        if (keys := self._payload_keys(ref.namespace)) is not None:
            data[PAYLOADS_KEY] = keys
        return data if self.ca_pem is None else data | {CA_KEY: self.ca_pem}
