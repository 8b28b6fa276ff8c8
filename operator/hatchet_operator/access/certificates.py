"""X.509: makes and reads authorities and certificates. When to make which is decided elsewhere.

Keys are on the curve P-256: made in a millisecond, and supported by every TLS client of the last ten years.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hatchet_operator.decisions.certificates import (
    AUTHORITY_LIFETIME,
    CERTIFICATE_LIFETIME,
    CertificateView,
    Validity,
    is_ip_address,
)

_CLOCKS_DIFFER_BY = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyPair:
    """A certificate (for a server: with its chain to the authority) and its private key, as PEM."""

    certificate: bytes
    key: bytes


def make_authority(now: datetime) -> KeyPair:
    """Make a self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"hatchet-operator CA {now:%Y-%m-%d}")])
    builder = (
        _builder(name, name, key, now, now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder, key, signed_with=key)


def make_certificate(authority: KeyPair, names: Sequence[str], now: datetime) -> KeyPair:
    """Make a server's certificate, which does not outlive its authority.

    Args:
        authority: Signs it.
        names: DNS names and IP addresses; the first one is the subject.
        now: When it becomes valid.
    """
    signer = x509.load_pem_x509_certificate(authority.certificate)
    signer_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(signer_key, EllipticCurvePrivateKey), "authorities are made above"
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    ends = min(now + CERTIFICATE_LIFETIME, signer.not_valid_after_utc)
    alternatives = [x509.IPAddress(ip_address(name)) if is_ip_address(name) else x509.DNSName(name) for name in names]
    builder = (
        _builder(subject, signer.subject, key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()), critical=False)
    )
    return _pair(builder, key, signed_with=signer_key)


def read_certificate(pem: bytes) -> CertificateView:
    """Read the first certificate of a PEM text.

    Raises:
        ValueError: There is none.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names: frozenset[str] = frozenset()
    else:
        addresses = alternatives.get_values_for_type(x509.IPAddress)
        names = frozenset(alternatives.get_values_for_type(x509.DNSName)) | frozenset(map(str, addresses))
    validity = Validity(
        begins=certificate.not_valid_before_utc + _CLOCKS_DIFFER_BY, ends=certificate.not_valid_after_utc
    )
    return CertificateView(validity=validity, names=names)


def check_key_pair(pair: KeyPair) -> None:
    """Refuse a key that is not the certificate's: one of the two files may have been replaced before the other.

    Raises:
        ValueError: They don't belong together, or one is not readable.
    """
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    key = serialization.load_pem_private_key(pair.key, password=None)
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is not that of the certificate")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins.astimezone(UTC) - _CLOCKS_DIFFER_BY)
        .not_valid_after(ends.astimezone(UTC))
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(
    builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey, *, signed_with: EllipticCurvePrivateKey
) -> KeyPair:
    certificate = builder.sign(signed_with, hashes.SHA256())
    pkcs8 = serialization.PrivateFormat.PKCS8
    return KeyPair(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()),
    )
