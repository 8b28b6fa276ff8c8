"""Where gRPC goes: the EndpointSlice of a Service without a selector, which names only the leader.

Kubernetes itself would send clients to every Ready pod, including standbys. A late write of a deposed leader meets a
newer resourceVersion, so the slice never points back to it.

Pods keep the address that they were created with. So as long as some have a different port than the Service has now, it
gets that one in addition to its own, and both lead to the one port that the leader listens on.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import ENDPOINT_SLICES, PODS, SERVICES
from hatchet_operator.cluster.ownership import Owner, owners_with
from hatchet_operator.errors import ApiError, NotFound, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef

log = logging.getLogger(__name__)

PORT_NAME = "grpc"
"""The Service's port must have the same name, or neither of them has one."""

EVENTS_PORT_NAME = "events"

_FORMER = "grpc-"
"""Prefix of the names of ports that the Service has for pods with earlier settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where this operator's gRPC server can be reached.

    Attributes:
        ip: This Pod's.
        port: The port that the server listens on.
        events_port: The port for events over HTTP; None: there is none.
        pod_name: This Pod's name, for people.
        pod_uid: Its UID.
    """

    ip: str
    port: int
    events_port: int | None = None
    pod_name: str | None = None
    pod_uid: str | None = None


class LeaderEndpoint:
    """The address of the leader, as the cluster's network sees it.

    Args:
        api: The API server.
        service: The Service.
        address: Where it should lead.
        owner: The slice's owner.
        former_ports: Other ports of the Service that clients still use.
        on_served: Called with those of them that lead here.
        look_again_seconds: How long others may change what is there until it is put back.
        last_words_seconds: How long to try to lead nowhere.
    """

    def __init__(
        self,
        api: Api,
        service: ObjectRef,
        address: Address,
        owner: Owner | None = None,
        *,
        former_ports: Callable[[], frozenset[int]] = frozenset,
        on_served: Callable[[frozenset[int]], None] = lambda ports: None,
        look_again_seconds: float = 20.0,
        last_words_seconds: float = 1.0,
    ) -> None:
        self._look_again_seconds = look_again_seconds
        self._last_words_seconds = last_words_seconds
        self._api = api
        self._service = service
        self._address = address
        self._owners = owners_with({}, owner)
        self._name = f"{service.name}-leader"
        self._former_ports = former_ports
        self._on_served = on_served
        self._served: frozenset[int] = frozenset()

    async def keep(self) -> None:
        """Have the Service lead here, forever, whatever others do to the slice."""
        while True:
            try:
                await self._serve_former_ports()
                await self._ensure(self._endpoint())
                self._on_served(self._served)
            except ApiError as error:
                log.error("service does not lead here", extra={"service": str(self._service), "error": str(error)})
                await asyncio.sleep(1)
            else:
                await asyncio.sleep(self._look_again_seconds)

    async def _serve_former_ports(self) -> None:
        """Have the Service keep ports that clients still use, and drop those that we added and none uses any more."""
        try:
            service = await self._api.get(SERVICES, self._service.namespace, self._service.name)
        except NotFound:
            self._served = frozenset()  # clients are led here by other means
            return
        there: list[Json] = service["spec"].get("ports") or []
        own = [port for port in there if not str(port.get("name")).startswith(_FORMER)]
        former = self._former_ports() - {port["port"] for port in own}
        main = next((port for port in own if port.get("name") == PORT_NAME), {})
        kept = {port["port"]: port for port in there if port not in own}
        ports = own + [kept.get(port) or _former_port(port, main) for port in sorted(former)]
        if [port["port"] for port in ports] != [port["port"] for port in there]:
            try:
                await self._api.replace(
                    SERVICES,
                    self._service.namespace,
                    self._service.name,
                    {**service, "spec": {**service["spec"], "ports": ports}},
                )
            except Refused as error:
                log.warning(
                    "service does not keep the ports that pods still use",
                    extra={"service": str(self._service), "ports": sorted(former), "error": error.message},
                )
                former = frozenset(kept)
            else:
                log.info("service's ports changed", extra={"service": str(self._service), "former": sorted(former)})
        self._served = frozenset(former)

    async def withdraw(self) -> None:
        """Lead nowhere, so that clients are refused at once instead of trying an address that is gone. Best effort."""
        try:
            async with asyncio.timeout(self._last_words_seconds):
                await self._ensure(None)
        except (ApiError, TimeoutError) as error:
            log.warning("service still leads here", extra={"service": str(self._service), "error": repr(error)})

    async def _ensure(self, endpoint: Json | None) -> None:
        namespace = self._service.namespace
        wanted = self._slice(endpoint)
        try:
            there = await self._api.get(ENDPOINT_SLICES, namespace, self._name)
        except NotFound:
            await self._api.create(ENDPOINT_SLICES, namespace, wanted)
            return
        labels_there = there["metadata"].get("labels") or {}
        wanted["metadata"]["labels"] = labels_there | wanted["metadata"]["labels"]  # others may add some
        # an empty list comes back as null
        if wanted["metadata"]["labels"] == labels_there and all(
            (there.get(field) or []) == wanted[field] for field in ("addressType", "endpoints", "ports")
        ):
            return
        if there.get("addressType") != wanted["addressType"]:  # which can't be changed
            await self._api.delete(ENDPOINT_SLICES, namespace, self._name, uid=there["metadata"]["uid"])
            await self._api.create(ENDPOINT_SLICES, namespace, wanted)
            return
        wanted["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
        await self._api.replace(ENDPOINT_SLICES, namespace, self._name, wanted)
        log.info("service leads here" if endpoint else "service leads nowhere", extra={"service": str(self._service)})

    def _endpoint(self) -> Json:
        address = self._address
        endpoint: Json = {
            "addresses": [address.ip],
            "conditions": {"ready": True, "serving": True, "terminating": False},
        }
        if address.pod_name is not None:
            endpoint["targetRef"] = {"kind": PODS.kind, "namespace": self._service.namespace, "name": address.pod_name}
            if address.pod_uid is not None:
                endpoint["targetRef"]["uid"] = address.pod_uid
        return endpoint

    def _slice(self, endpoint: Json | None) -> Json:
        return {
            "apiVersion": ENDPOINT_SLICES.api_version,
            "kind": ENDPOINT_SLICES.kind,
            "metadata": {
                "name": self._name,
                "namespace": self._service.namespace,
                "labels": {
                    "kubernetes.io/service-name": self._service.name,
                    "endpointslice.kubernetes.io/managed-by": labels.MANAGER,
                },
                "ownerReferences": self._owners,
            },
            "addressType": "IPv6" if ":" in self._address.ip else "IPv4",
            "endpoints": [endpoint] if endpoint else [],
            "ports": self._ports(),
        }

    def _ports(self) -> list[Json]:
        grpc = (PORT_NAME, *(f"{_FORMER}{port}" for port in sorted(self._served)))
        ports = [(name, self._address.port) for name in grpc]
        if self._address.events_port is not None:
            ports.append((EVENTS_PORT_NAME, self._address.events_port))
        return [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports]


def _former_port(port: int, main: Json) -> Json:
    former: Json = {"name": f"{_FORMER}{port}", "port": port, "protocol": "TCP"}
    return former | {field: main[field] for field in ("targetPort", "appProtocol") if field in main}
