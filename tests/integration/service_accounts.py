"""Pods with service-account tokens, as the kubelet would project them."""

from __future__ import annotations

import aiohttp

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS, Resource
from hatchet_operator.errors import AlreadyExists
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json

AUDIENCE = "hatchet-operator"
ACCOUNT = "worker"
NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
SERVICE_ACCOUNTS = Resource(group="", version="v1", plural="serviceaccounts", kind="ServiceAccount")


async def create_pod(
    api: Api, name: str, *, pool: str | None, namespace: str = "default", node: str | None = None
) -> Json:
    """Make a Pod, with its namespace and service account where these are missing."""
    for resource, named in ((NAMESPACES, namespace), (SERVICE_ACCOUNTS, ACCOUNT)):
        try:
            await api.create(resource, namespace, {"metadata": {"name": named}})
        except AlreadyExists:
            continue
    metadata = {"name": name, "labels": {labels.POOL: pool} if pool else {}}
    spec: Json = {"serviceAccountName": ACCOUNT, "containers": [{"name": "worker", "image": "local"}]}
    if node is not None:
        spec["nodeName"] = node  # where no kubelet is, a deletion goes on for its grace period
    return await api.create(PODS, namespace, {"metadata": metadata, "spec": spec})


async def request_token(
    api: Api, pod: str | None, *, namespace: str = "default", audience: str = AUDIENCE, seconds: int = 3600
) -> str:
    """Have the API server issue a token of the account, bound to a Pod or to nothing."""
    spec: Json = {"audiences": [audience], "expirationSeconds": seconds}
    if pod is not None:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
    path = SERVICE_ACCOUNTS.path(namespace, ACCOUNT, "token")
    headers = {"User-Agent": "test"}
    async with (
        aiohttp.ClientSession(api.endpoint.server, headers=headers) as session,
        session.post(path, json={"spec": spec}) as answer,
    ):
        assert answer.status == 201, await answer.text()
        token: str = (await answer.json())["status"]["token"]
        return token
