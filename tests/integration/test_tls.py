"""gRPC over TLS: certificates and authorities that are exchanged while workers are connected."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hatchet_operator.access.certificates import KeyPair, make_authority, make_certificate, read_certificate
from hatchet_operator.access.tls import CA_SECRET, CertificateFiles, OwnAuthority, ServerCertificate
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import POOLS, SECRETS
from hatchet_operator.errors import ConfigurationError, NotFound
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Tls
from hatchet_operator_dev.apiserver import ApiServer
from hatchet_sdk import Context, Hatchet
from hatchet_sdk._client.pace import Pace as SdkPace
from hatchet_sdk.contracts import dispatcher_pb2 as wire
from hatchet_sdk.contracts.dispatcher_pb2_grpc import DispatcherStub
from tests.integration.inprocess import NAMESPACE, Instance, running_operator
from tests.kube.eventually import eventually

NAME = "operator.hatchet.svc"
START = datetime(2030, 1, 1, tzinfo=UTC)
hatchet = Hatchet()  # for its decorators


@hatchet.workflow(name="etl")
class Etl:
    @hatchet.step()
    def work(self, context: Context) -> dict[str, bool]:
        return {"done": True}


async def is_trusted(address: str, ca_pem: bytes, *, name: str = NAME) -> bool:
    """Open a connection of its own and say whether its certificate was believed."""
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca_pem), options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await DispatcherStub(channel).GetVersion(wire.GetVersionRequest(), timeout=60)
    assert refused.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE), refused.value
    return refused.value.code() is grpc.StatusCode.UNAUTHENTICATED  # believed, but we have no token


class Files:
    """A certificate in files, as cert-manager has the kubelet write them."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key, self.ca = (directory / name for name in ("tls.crt", "tls.key", "ca.crt"))
        self.authority = make_authority(datetime.now(UTC))
        self.renew()

    def renew(self) -> None:
        self.put(make_certificate(self.authority, [NAME], datetime.now(UTC)))
        self.ca.write_bytes(self.authority.certificate)

    def put(self, pair: KeyPair) -> None:
        self.certificate.write_bytes(pair.certificate)
        self.key.write_bytes(pair.key)

    def new_authority(self) -> None:
        """Another authority, which those who read the file trust beside the one before."""
        old, self.authority = self.authority, make_authority(datetime.now(UTC))
        self.ca.write_bytes(old.certificate + self.authority.certificate)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def world(files: Files) -> AsyncIterator[Instance]:
    async with running_operator(
        pace=Pace(grace=0.0, certificate=0.05),
        tls=Tls.FILES,
        tls_cert_file=files.certificate,
        tls_key_file=files.key,
        tls_ca_file=files.ca,
    ) as instance:
        instance.surroundings.sdk_pace = SdkPace(read_again=0)
        plain = instance.config
        instance.config = lambda pool="main": replace(  # type: ignore[method-assign]  # this one speaks TLS
            plain(pool), tls_strategy="tls", tls_root_ca_file=str(files.ca), tls_server_name=NAME
        )
        yield instance


async def test_a_worker_stays_while_its_operators_certificate_and_authority_are_exchanged(
    world: Instance, files: Files
) -> None:
    client = await world.work(Etl())
    assert await asyncio.to_thread(lambda: client.admin.run_workflow("etl", {}).sync_result()) == {
        "work": {"done": True}
    }
    first = files.authority.certificate
    (worker,) = world.engine.registry.workers_of_pool(ObjectRef(NAMESPACE, "main"))
    stream = worker.stream
    files.new_authority()  # published …
    files.put(make_certificate(files.authority, [NAME], datetime.now(UTC)))  # … and shown

    async def shown() -> bool:
        return await is_trusted(world.operator.grpc_address, files.authority.certificate)

    await eventually(shown)
    assert not await is_trusted(world.operator.grpc_address, first)
    assert worker.stream is stream, "who is connected stays connected"
    assert await asyncio.to_thread(lambda: client.admin.run_workflow("etl", {}).sync_result()) == {
        "work": {"done": True}
    }, "over a new connection, which trusts the new authority"


async def test_half_of_an_exchange_is_not_shown(
    world: Instance, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    address, good = world.operator.grpc_address, files.certificate.read_bytes()
    files.certificate.write_bytes(make_certificate(files.authority, [NAME], datetime.now(UTC)).certificate)
    # the first look may have met a file that was empty yet
    await world.until(lambda: caplog.messages.count("certificate not read") >= 2)
    assert await is_trusted(address, files.authority.certificate)
    files.certificate.write_bytes(good)


async def test_nobody_gets_in_without_tls_or_by_another_name(world: Instance, files: Files) -> None:
    address = world.operator.grpc_address
    assert not await is_trusted(address, files.authority.certificate, name="other.svc")
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await DispatcherStub(channel).GetVersion(wire.GetVersionRequest(), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_pools_pods_are_told_whom_to_trust(world: Instance, files: Files) -> None:
    await create_pool(world.api)
    secret = await secret_with(world.api, files.authority.certificate)
    files.new_authority()
    assert (await secret_with(world.api, files.authority.certificate))["ca.crt"] == files.ca.read_text()
    assert secret["token"], "for clients that have nothing else"


async def test_files_that_make_no_sense_are_named(tmp_path: Path) -> None:
    source = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key", None)
    with pytest.raises(ConfigurationError, match=r"tls\.crt and .*tls\.key are not a certificate"):
        await source.read()


async def test_an_issuer_that_names_no_authority_is_named(files: Files) -> None:
    files.ca.write_text("")  # as those of ACME leave it
    with pytest.raises(ConfigurationError, match=r"ca\.crt has no certificate"):
        await CertificateFiles(files.certificate, files.key, files.ca).read()


async def test_a_secret_that_the_kubelet_exchanges_is_read_anew(tmp_path: Path) -> None:
    """It swaps a symbolic link, so all three files change at once and under their old names."""
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        Files(tmp_path / f"..{version}")
    data = tmp_path / "..data"
    data.symlink_to("..1")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    source = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")
    first = await source.read()
    assert await source.read() is first
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(data)
    second = await source.read()
    assert second.pair.certificate == (tmp_path / "..2/tls.crt").read_bytes()
    assert second.ca_pem == (tmp_path / "..2/ca.crt").read_text()


# --- An authority of the operator's own


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    server = ApiServer()
    url = await server.start()
    async with Api(Endpoint(server=url), may_write=always) as api:
        yield api
    await server.stop()


class Calendar:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, days: float) -> None:
        self.now += timedelta(days=days)


def own(api: Api, calendar: Calendar) -> OwnAuthority:
    return OwnAuthority(api, namespace=NAMESPACE, names=(NAME,), clock=calendar)


def authorities_in(ca_pem: str | None) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((ca_pem or "").encode())


def signed_by(shown: ServerCertificate) -> int:
    """Return which of the published authorities signed."""
    certificate = x509.load_pem_x509_certificate(shown.pair.certificate)
    for place, authority in enumerate(authorities_in(shown.ca_pem)):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, InvalidSignature):  # another name, or another key of that name
            continue
        return place
    raise AssertionError("nobody who trusts ca.crt would believe it")


async def test_the_authority_is_made_once_however_many_operators_start(api: Api) -> None:
    calendar = Calendar()
    shown = await asyncio.gather(*(own(api, calendar).read() for _ in range(5)))
    assert len({each.ca_pem for each in shown}) == 1
    assert len({each.pair.certificate for each in shown}) == 5
    assert {signed_by(each) for each in shown} == {0}
    secret = await api.get(SECRETS, NAMESPACE, CA_SECRET)
    assert set(secret["data"]) == {"0.crt", "0.key", "ca.crt"}


async def test_a_certificate_is_shown_until_it_is_due(api: Api) -> None:
    calendar = Calendar()
    source = own(api, calendar)
    first = await source.read()
    calendar.advance(59)
    assert await source.read() is first
    calendar.advance(1)
    second = await source.read()
    assert second.pair != first.pair
    assert second.ca_pem == first.ca_pem
    assert read_certificate(second.pair.certificate).validity.ends == calendar.now + timedelta(days=90)


async def test_a_new_authority_is_published_a_month_before_it_signs(api: Api) -> None:
    calendar = Calendar()
    source = own(api, calendar)
    await source.read()
    calendar.advance(3300)
    published = await source.read()
    assert (len(authorities_in(published.ca_pem)), signed_by(published)) == (2, 0)
    calendar.advance(29)
    assert signed_by(await source.read()) == 0
    calendar.advance(1)
    assert signed_by(await source.read()) == 1
    assert signed_by(await own(api, calendar).read()) == 1, "another operator decides likewise"
    calendar.advance(400)
    ended = await source.read()
    assert (len(authorities_in(ended.ca_pem)), signed_by(ended)) == (1, 0)


async def test_an_authority_that_was_deleted_is_made_anew(api: Api) -> None:
    source = own(api, Calendar())
    first = await source.read()
    await api.delete(SECRETS, NAMESPACE, CA_SECRET)
    second = await source.read()
    assert second.ca_pem != first.ca_pem
    assert signed_by(second) == 0


async def test_a_broken_secret_is_named(api: Api) -> None:
    await own(api, Calendar()).read()
    garbage = base64.b64encode(b"garbage").decode()
    await api.patch(SECRETS, NAMESPACE, CA_SECRET, {"data": {"0.key": garbage}})
    with pytest.raises(ConfigurationError, match=f'Secret "{CA_SECRET}" has no readable authorities'):
        await own(api, Calendar()).read()


async def test_an_operator_with_an_authority_of_its_own_is_trusted_by_who_reads_its_pools_secret() -> None:
    async with running_operator(tls=Tls.OWN, tls_names=(NAME,)) as world:
        ca = (await world.api.get(SECRETS, NAMESPACE, CA_SECRET))["data"]["ca.crt"]
        await create_pool(world.api)
        secret = await secret_with(world.api, base64.b64decode(ca))
        for name in (NAME, "127.0.0.1"):
            assert await is_trusted(world.operator.grpc_address, secret["ca.crt"].encode(), name=name)


# --- Shared


async def create_pool(api: Api) -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "local"}]}}
    spec = {"minReplicas": 0, "template": template}
    await api.create(
        POOLS, NAMESPACE, {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": "main"}, "spec": spec}
    )


async def secret_with(api: Api, authority: bytes) -> dict[str, str]:
    """Wait until the pool's Secret has an authority; return its data."""
    data: dict[str, str] = {}

    async def holds() -> bool:
        try:
            secret: Json = await api.get(SECRETS, NAMESPACE, "main-token")
        except NotFound:
            return False
        data.update({key: base64.b64decode(value).decode() for key, value in secret["data"].items()})
        return authority.decode() in data.get("ca.crt", "")

    await eventually(holds)
    return data
