"""Tokens and authorities that are exchanged while a program runs."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from hatchet_sdk import ClientConfig, Hatchet, NotConfigured, OperatorUnavailable, WorkflowNotFound
from hatchet_sdk._client import client, connection
from hatchet_sdk._client.config import endpoint_of
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually


@pytest.fixture(autouse=True)
def read_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_READ_AGAIN_SECONDS", 0)
    monkeypatch.setattr(client, "RUN_PATIENCE_SECONDS", PATIENCE_SECONDS)


def ask(hatchet: Hatchet) -> None:
    """Make any call."""
    with pytest.raises(WorkflowNotFound):
        hatchet.admin.run_workflow("W", {})


def test_a_call_has_the_token_that_the_file_has_now(operator: FakeOperator, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    hatchet = Hatchet(config=ClientConfig(host_port=operator.address, token_file=str(file), tls_strategy="none"))
    ask(hatchet)
    file.write_text("second")
    ask(hatchet)
    file.unlink()  # for a moment
    ask(hatchet)
    assert [call["authorization"] for call in operator.metadata] == ["bearer first", "bearer second", "bearer second"]


def test_calls_follow_the_operator_to_the_address_that_the_file_has_now(
    operator: FakeOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "address"
    nowhere = "127.0.0.1:1"
    hatchet = Hatchet(config=ClientConfig(host_port=nowhere, host_port_file=str(file), tls_strategy="none"))
    with monkeypatch.context() as impatient:
        impatient.setattr(client, "RUN_PATIENCE_SECONDS", 0.5)
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


def test_a_file_is_not_read_for_each_call(
    operator: FakeOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_READ_AGAIN_SECONDS", 60)
    file = tmp_path / "token"
    file.write_text("first")
    hatchet = Hatchet(config=ClientConfig(host_port=operator.address, token_file=str(file), tls_strategy="none"))
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


def trusting(file: Path, operator: FakeOperator) -> Hatchet:
    """Make a client that trusts the authorities of a file."""
    return Hatchet(
        config=ClientConfig(
            host_port=operator.address, tls_root_ca_file=str(file), tls_server_name="operator.test", token="t"
        )
    )


def test_the_way_by_an_old_authority_is_tried_no_more(
    secure_operator: Callable[[trustme.CA], FakeOperator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sooner = {"grpc.client_idle_timeout_ms": 1000}
    options = tuple((name, sooner.get(name, value)) for name, value in connection._CHANNEL_OPTIONS)  # noqa: SLF001  # see below
    monkeypatch.setattr(connection, "_CHANNEL_OPTIONS", options)
    old, new = trustme.CA(), trustme.CA()
    operator = secure_operator(old)
    file = tmp_path / "ca.crt"
    file.write_bytes(old.cert_pem.bytes())
    hatchet = trusting(file, operator)
    ask(hatchet)
    secure_operator(new)
    operator.stop()  # its connections with it
    operator.start()
    client_of_it = hatchet._client()  # noqa: SLF001  # nothing else shows what a channel does that nobody uses
    old_channel = client_of_it.connection._channels[0]._channel  # noqa: SLF001
    states: list[grpc.ChannelConnectivity] = []

    async def watch() -> None:
        while True:
            states.append(old_channel.get_state())
            await asyncio.sleep(0.01)

    watching = client_of_it.io.submit(watch())
    with monkeypatch.context() as impatient:
        impatient.setattr(client, "RUN_PATIENCE_SECONDS", 0.5)
        with pytest.raises(OperatorUnavailable):
            hatchet.admin.run_workflow("W", {})
    assert grpc.ChannelConnectivity.TRANSIENT_FAILURE in states
    file.write_bytes(new.cert_pem.bytes())
    ask(hatchet)
    eventually(lambda: states[-1] is grpc.ChannelConnectivity.IDLE)
    watching.cancel()


def test_new_calls_trust_the_authorities_that_the_file_has_now(
    secure_operator: Callable[[trustme.CA], FakeOperator], tmp_path: Path
) -> None:
    old, new = trustme.CA(), trustme.CA()
    operator = secure_operator(old)
    file = tmp_path / "ca.crt"
    file.write_bytes(old.cert_pem.bytes())
    hatchet = trusting(file, operator)
    ask(hatchet)
    file.write_bytes(old.cert_pem.bytes() + new.cert_pem.bytes())
    ask(hatchet)
    secure_operator(new)
    operator.stop()  # its connections with it
    operator.start()
    ask(hatchet)
