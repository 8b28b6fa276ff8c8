"""The channel's security, with certificates made on the spot."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from hatchet_sdk import OperatorUnavailable, WorkflowNotFound
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced
from tests.unit.sdk.fake_operator import FakeOperator


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_operator(authority: trustme.CA, request: pytest.FixtureRequest) -> Iterator[FakeOperator]:
    """An operator whose certificate is for operator.test; with the parameter "mtls" it wants one of the client too."""
    own = authority.issue_cert("operator.test")
    mutual = request.param == "mtls"
    credentials = grpc.ssl_server_credentials(
        [(own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes() if mutual else None,
        require_client_auth=mutual,
    )
    fake = FakeOperator(credentials)  # type: ignore[abstract]  # what is missing answers UNIMPLEMENTED
    fake.start()
    yield fake
    fake.stop()


@pytest.mark.parametrize("secure_operator", ["tls", "mtls"], indirect=True)
@pytest.mark.parametrize("strategy", ["tls", "mtls"])
def test_the_environment_says_how_to_trust(
    strategy: str,
    secure_operator: FakeOperator,
    authority: trustme.CA,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = authority.issue_cert("worker.test")
    for name, pem in (("root_ca", authority.cert_pem), ("key", own.private_key_pem), ("cert", own.cert_chain_pems[0])):
        pem.write_to_path(tmp_path / name)
        monkeypatch.setenv(f"HATCHET_CLIENT_TLS_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("HATCHET_CLIENT_HOST_PORT", secure_operator.address)
    monkeypatch.setenv("HATCHET_CLIENT_TLS_SERVER_NAME", "operator.test")
    monkeypatch.setenv("HATCHET_CLIENT_TLS_STRATEGY", strategy)
    wanted = request.node.callspec.params["secure_operator"]
    is_trusted = wanted == "tls" or strategy == "mtls"
    with pytest.raises(WorkflowNotFound if is_trusted else OperatorUnavailable):
        paced(Pace(patience=0.5)).admin.run_workflow("W", {})


@pytest.mark.parametrize("secure_operator", ["tls"], indirect=True)
def test_an_operator_of_an_unknown_authority_is_not_trusted(
    secure_operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_HOST_PORT", secure_operator.address)
    with pytest.raises(OperatorUnavailable, match="does not answer"):
        paced(Pace(patience=0.5)).admin.run_workflow("W", {})
    assert secure_operator.calls == []
