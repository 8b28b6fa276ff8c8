"""Tokens and authorities that are exchanged while a program runs."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from hatchet_sdk import ClientConfig, Hatchet, NotConfigured, OperatorUnavailable, WorkflowNotFound
from hatchet_sdk._client.config import Endpoint, endpoint_of
from hatchet_sdk._client.connection import Connection, open_channel_to
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced
from hatchet_sdk.contracts.workflows_pb2 import TriggerWorkflowRequest
from hatchet_sdk.errors import RequestRefused
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator

READS_EVERY_TIME = Pace(read_again=0, patience=PATIENCE_SECONDS)


def ask(hatchet: Hatchet) -> None:
    """Make any call."""
    with pytest.raises(WorkflowNotFound):
        hatchet.admin.run_workflow("W", {})


def test_a_call_has_the_token_that_the_file_has_now(operator: FakeOperator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    config = ClientConfig(host_port=operator.address, token_file=str(file), tls_strategy="none")
    hatchet = paced(READS_EVERY_TIME, config)
    ask(hatchet)
    file.write_text("second")
    ask(hatchet)
    file.unlink()  # for a moment
    ask(hatchet)
    assert [call["authorization"] for call in operator.metadata] == ["bearer first", "bearer second", "bearer second"]


def test_calls_follow_the_operator_to_the_address_that_the_file_has_now(operator: FakeOperator, tmp_path: Path) -> None:
    file = tmp_path / "address"
    nowhere = "127.0.0.1:1"
    config = ClientConfig(host_port=nowhere, host_port_file=str(file), tls_strategy="none")
    hatchet = paced(Pace(read_again=0, patience=3), config)
    with pytest.raises(OperatorUnavailable, match=nowhere):  # where the file is missing, the address counts
        hatchet.admin.run_workflow("W", {})
    file.write_text(f"{operator.address}\n")
    ask(hatchet)
    file.unlink()  # for a moment
    ask(hatchet)
    assert len(operator.metadata) == 2


@pytest.mark.parametrize(
    ("config", "want"),
    [
        pytest.param({}, "/env/address", id="the environment's file"),
        pytest.param({"host_port": "h:1"}, None, id="an address that the program gives"),
        pytest.param({"host_port": "h:1", "host_port_file": "/given"}, "/given", id="a file that the program gives"),
    ],
)
def test_which_address_counts(config: dict[str, str], want: str | None) -> None:
    environ = {"HATCHET_CLIENT_HOST_PORT_FILE": "/env/address", "HATCHET_CLIENT_HOST_PORT": "env:1"}
    assert endpoint_of(ClientConfig(**config), environ).address_file == want  # type: ignore[arg-type]


def test_a_file_is_not_read_for_each_call(operator: FakeOperator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    config = ClientConfig(host_port=operator.address, token_file=str(file), tls_strategy="none")
    hatchet = paced(Pace(read_again=60), config)
    ask(hatchet)
    file.write_text("second")
    ask(hatchet)
    assert {call["authorization"] for call in operator.metadata} == {"bearer first"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = ClientConfig(host_port="h:1", token_file=str(tmp_path / "none"), tls_strategy="none")
    with pytest.raises(NotConfigured, match="HATCHET_CLIENT_TOKEN_FILE names a file that cannot be read"):
        Hatchet(config=config).admin.run_workflow("W", {})


@pytest.mark.parametrize(
    ("config", "want"),
    [
        pytest.param({}, "/env/token", id="the environment's file, before its token"),
        pytest.param({"token": "given"}, None, id="a token that the program gives"),
        pytest.param({"token": "given", "token_file": "/given"}, "/given", id="a file that the program gives"),
    ],
)
def test_which_token_counts(config: dict[str, str], want: str | None) -> None:
    environ = {"HATCHET_CLIENT_TOKEN_FILE": "/env/token", "HATCHET_CLIENT_TOKEN": "from-env"}
    assert endpoint_of(ClientConfig(host_port="h:1", **config), environ).token_file == want  # type: ignore[arg-type]


@pytest.fixture
def secure_operator() -> Iterator[Callable[[trustme.CA], FakeOperator]]:
    """An operator whose certificate the given authority signed; called again, the next one takes over."""
    signed: list[trustme.CA] = []
    started: list[FakeOperator] = []

    def configuration() -> grpc.ServerCertificateConfiguration:
        own = signed[-1].issue_cert("operator.test")
        chain = b"".join(pem.bytes() for pem in own.cert_chain_pems)
        return grpc.ssl_server_certificate_configuration([(own.private_key_pem.bytes(), chain)])

    def show(authority: trustme.CA) -> FakeOperator:
        signed.append(authority)
        if not started:
            credentials = grpc.dynamic_ssl_server_credentials(configuration(), configuration)
            started.append(FakeOperator(credentials))  # type: ignore[abstract]  # what is missing answers UNIMPLEMENTED
            started[0].start()
        return started[0]

    yield show
    for fake in started:
        fake.stop()


def trusting(file: Path, operator: FakeOperator) -> ClientConfig:
    """Return the configuration of a client that trusts the authorities of a file."""
    return ClientConfig(
        host_port=operator.address, tls_root_ca_file=str(file), tls_server_name="operator.test", token="t"
    )


async def test_the_way_by_an_old_authority_is_tried_no_more(
    secure_operator: Callable[[trustme.CA], FakeOperator], tmp_path: Path
) -> None:
    channels: list[grpc.aio.Channel] = []

    def open_channel(endpoint: Endpoint, root_ca: bytes | None) -> grpc.aio.Channel:
        channels.append(open_channel_to(endpoint, root_ca, idle_seconds=1))
        return channels[-1]

    async def call(*, patience_seconds: float = PATIENCE_SECONDS) -> None:
        method = connection.workflows.TriggerWorkflow
        await connection.call(method, TriggerWorkflowRequest(name="W"), patience_seconds=patience_seconds)

    async def until(state: grpc.ChannelConnectivity) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (now := channels[0].get_state()) is not state:
                await channels[0].wait_for_state_change(now)

    old, new = trustme.CA(), trustme.CA()
    operator = secure_operator(old)
    file = tmp_path / "ca.crt"
    file.write_bytes(old.cert_pem.bytes())
    connection = Connection(endpoint_of(trusting(file, operator), {}), READS_EVERY_TIME, open_channel=open_channel)
    with pytest.raises(RequestRefused):
        await call()
    secure_operator(new)
    operator.stop()  # its connections with it
    operator.start()
    with pytest.raises(OperatorUnavailable):
        await call(patience_seconds=0.5)
    await until(grpc.ChannelConnectivity.TRANSIENT_FAILURE)
    file.write_bytes(new.cert_pem.bytes())
    with pytest.raises(RequestRefused):
        await call()
    await until(grpc.ChannelConnectivity.IDLE)
    for channel in channels:
        await channel.close()


def test_new_calls_trust_the_authorities_that_the_file_has_now(
    secure_operator: Callable[[trustme.CA], FakeOperator], tmp_path: Path
) -> None:
    old, new = trustme.CA(), trustme.CA()
    operator = secure_operator(old)
    file = tmp_path / "ca.crt"
    file.write_bytes(old.cert_pem.bytes())
    hatchet = paced(READS_EVERY_TIME, trusting(file, operator))
    ask(hatchet)
    file.write_bytes(old.cert_pem.bytes() + new.cert_pem.bytes())
    ask(hatchet)
    secure_operator(new)
    operator.stop()  # its connections with it
    operator.start()
    ask(hatchet)
