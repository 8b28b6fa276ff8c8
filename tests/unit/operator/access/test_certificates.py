"""Certificates as OpenSSL judges them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from hatchet_operator.access.certificates import (
    KeyPair,
    check_key_pair,
    make_authority,
    make_certificate,
    read_certificate,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
AUTHORITY = make_authority(NOW)


def verify(certificate: KeyPair, *, authority: KeyPair, name: str, at: datetime) -> None:
    trusted = Store([x509.load_pem_x509_certificate(authority.certificate)])
    verifier = PolicyBuilder().store(trusted).time(at).build_server_verifier(x509.DNSName(name))
    verifier.verify(x509.load_pem_x509_certificate(certificate.certificate), [])


def test_a_certificate_is_for_its_names_and_says_so() -> None:
    made = make_certificate(AUTHORITY, ["a.b.svc", "10.0.0.1", "::1"], NOW)
    view = read_certificate(made.certificate)
    assert view.names == {"a.b.svc", "10.0.0.1", "::1"}
    assert (view.validity.begins, view.validity.ends) == (NOW, NOW + timedelta(days=90))
    verify(made, authority=AUTHORITY, name="a.b.svc", at=NOW)
    verify(made, authority=AUTHORITY, name="a.b.svc", at=NOW - timedelta(minutes=4))  # clocks differ


@pytest.mark.parametrize(
    ("name", "days", "authority"),
    [
        pytest.param("other.svc", 1, AUTHORITY, id="another name"),
        pytest.param("a.b.svc", 91, AUTHORITY, id="its time is over"),
        pytest.param("a.b.svc", 1, make_authority(NOW), id="another authority signed"),
    ],
)
def test_it_is_refused_when(name: str, days: int, authority: KeyPair) -> None:
    made = make_certificate(AUTHORITY, ["a.b.svc"], NOW)
    with pytest.raises(VerificationError):
        verify(made, authority=authority, name=name, at=NOW + timedelta(days=days))


def test_a_certificate_does_not_outlive_its_authority() -> None:
    late = NOW + timedelta(days=3640)
    made = make_certificate(AUTHORITY, ["a"], late)
    assert read_certificate(made.certificate).validity.ends == read_certificate(AUTHORITY.certificate).validity.ends


def test_openssl_loads_what_is_made(tmp_path: Path) -> None:
    made = make_certificate(AUTHORITY, ["a" * 63 + ".b.svc"], NOW)
    (tmp_path / "tls.crt").write_bytes(made.certificate)
    (tmp_path / "tls.key").write_bytes(made.key)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")


def test_half_of_an_exchange_is_noticed() -> None:
    first, second = (make_certificate(AUTHORITY, ["a"], NOW) for _ in range(2))
    check_key_pair(first)
    with pytest.raises(ValueError, match="not that of the certificate"):
        check_key_pair(KeyPair(certificate=first.certificate, key=second.key))
    with pytest.raises(ValueError, match="PEM"):
        check_key_pair(KeyPair(certificate=b"", key=b""))
