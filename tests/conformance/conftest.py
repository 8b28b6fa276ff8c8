"""Both API servers, behind one fixture: every test of this folder runs as ``[embedded]`` and as ``[real]``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.conformance.kubectl import Kubectl
from tests.conformance.widgets import WIDGETS_CRD
from tests.kube.client import CRDS, NAMESPACES, Api, Json
from tests.kube.embedded_api import EmbeddedApi
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi, find_binaries

Server = EmbeddedApi | RealApi
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
CRD_FILES = [WIDGETS_CRD, *sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedApi]:
    with EmbeddedApi(tmp_path_factory.mktemp("embedded-api"), args=["--bookmark-seconds=1"]) as running:
        asyncio.run(_install_crds(running))
        yield running


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    try:
        starting = RealApi(tmp_path_factory.mktemp("real-api"), unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with starting as running:
        asyncio.run(_install_crds(running))
        yield running


@pytest.fixture(params=["embedded", "real"])
def server(request: pytest.FixtureRequest) -> Server:
    """One of the two, which both stay up: processes that share the files out would start them for each file."""
    running: Server = request.getfixturevalue(request.param)
    return running


async def _install_crds(server: Server) -> None:
    crds = [yaml.safe_load(file.read_text()) for file in CRD_FILES]
    async with Api.connect(server.endpoint, "default") as api:
        for crd in crds:
            (await api.create(CRDS, crd)).ok()
        for crd in crds:
            path = f"/apis/{crd['spec']['group']}/{crd['spec']['versions'][0]['name']}/{crd['spec']['names']['plural']}"

            async def is_served(path: str = path) -> bool:
                return (await api.call("GET", path)).status == 200

            await eventually(is_served)
            await eventually(partial(_is_told_of, api, crd))


async def _is_told_of(api: Api, crd: Json) -> bool:
    """Whether discovery and OpenAPI have a kind, which on a real server follows after it is served."""
    group, version = crd["spec"]["group"], crd["spec"]["versions"][0]["name"]
    groups = (await api.call("GET", "/apis")).ok()["groups"]
    aggregated = (await api.call("GET", "/apis", accept=AGGREGATED)).ok()["items"]
    found = {
        resource["resource"]
        for each in aggregated
        if each["metadata"]["name"] == group
        for served in each["versions"]
        for resource in served.get("resources", ())
    }
    document = (await api.call("GET", "/openapi/v3")).ok()["paths"].get(f"apis/{group}/{version}")
    if (
        document is None
        or crd["spec"]["names"]["plural"] not in found
        or group not in {each["name"] for each in groups}
    ):
        return False
    told = (await api.call("GET", document["serverRelativeURL"])).ok().get("components", {}).get("schemas", {})
    return any(name.endswith(f".{crd['spec']['names']['kind']}") for name in told)


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """An administrator in a namespace of this test's own."""
    async with Api.connect(server.endpoint, f"test-{secrets.token_hex(4)}") as api:
        (await api.create(NAMESPACES, NAMESPACES.make(api.namespace))).ok(201)
        yield api


@pytest.fixture
async def collected(server: Server, api: Api) -> Api:
    """The same, on a server that collects garbage and empties deleted namespaces."""
    if isinstance(server, RealApi):
        server.start_controllers()
    return api


@pytest.fixture
def kubectl(server: Server, api: Api, tmp_path: Path) -> Kubectl:
    try:
        binary = find_binaries() / "kubectl"
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    return Kubectl(binary, kubeconfig=server.kubeconfig, namespace=api.namespace, home=tmp_path)
