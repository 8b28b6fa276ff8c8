"""The certificate that the gRPC server presents: from files renewed elsewhere, or signed by an authority of our own.

The authorities are kept in one Secret: for each ``<n>.crt`` and ``<n>.key``, and ``ca.crt``, which clients trust. It is
created once; a second operator that comes at the same time finds it. Only the leader changes it.
"""

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hatchet_operator.access.certificates import (
    KeyPair,
    check_key_pair,
    make_authority,
    make_certificate,
    read_certificate,
)
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import SECRETS
from hatchet_operator.cluster.ownership import Owner, is_owned_by, owners_with
from hatchet_operator.cluster.upkeep import keep_as_wanted
from hatchet_operator.decisions.certificates import certificate_names, is_certificate_due, plan_authorities
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.pace import Pace
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings, Tls

log = logging.getLogger(__name__)

CA_SECRET = "hatchet-operator-ca"  # noqa: S105  # the name of an object
CA_KEY = "ca.crt"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCertificate:
    """What a server presents, and what its clients must trust (None: what they trust anyway)."""

    pair: KeyPair
    ca_pem: str | None


class CertificateSource(Protocol):
    """Where the certificate comes from, and how often to check for a newer one."""

    look_again_seconds: float

    async def read(self) -> ServerCertificate:
        """Return the one to present now; the same object as before, unless there is a newer one."""


class CertificateFiles:
    """A certificate in files, which is renewed elsewhere.

    Args:
        certificate, key: The files.
        ca: The file with its authority; None: clients know that.
        look_again_seconds: How often to read them.
    """

    def __init__(self, certificate: Path, key: Path, ca: Path | None, *, look_again_seconds: float = 10.0) -> None:
        self.look_again_seconds = look_again_seconds
        self._certificate = certificate
        self._key = key
        self._ca = ca
        self._current: ServerCertificate | None = None

    async def read(self) -> ServerCertificate:
        """Read the files; as long as they do not match, the last ones that did remain in use.

        Raises:
            ConfigurationError: They never matched.
        """
        try:
            found = await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            if self._current is None:
                raise ConfigurationError(
                    f"{self._certificate} and {self._key} are not a certificate: {error}"
                ) from error
            log.warning("certificate not read", extra={"file": str(self._certificate), "error": str(error)})
            return self._current
        if self._current != found:
            self._current = found
        return self._current

    def _read(self) -> ServerCertificate:
        pair = KeyPair(certificate=self._certificate.read_bytes(), key=self._key.read_bytes())
        check_key_pair(pair)
        ca_pem = self._ca.read_text() if self._ca else None
        if ca_pem is not None and "-----BEGIN CERTIFICATE-----" not in ca_pem:
            raise ValueError(f"{self._ca} has no certificate; an issuer that names no authority needs no --tls-ca-file")
        return ServerCertificate(pair=pair, ca_pem=ca_pem)


class OwnAuthority:
    """Certificates of authorities that are kept in a Secret.

    Args:
        api: Where the Secret is.
        namespace: In which namespace.
        names: The names that certificates are for.
        owner: The Secret's owner.
        clock: Tells the time.
    """

    look_again_seconds = 3600.0

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        names: tuple[str, ...],
        owner: Owner | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._names = names
        self._owner = owner
        self._clock = clock
        self._current: ServerCertificate | None = None
        self._signer: KeyPair | None = None

    async def read(self) -> ServerCertificate:
        """Return a certificate for all names, trusted by every client that trusts `ca.crt`."""
        authorities = await self._authorities()
        now = self._clock()
        plan = plan_authorities([read_certificate(each.certificate).validity for each in authorities], now)
        assert plan.signer is not None, "another one was made if there was none"
        signer = authorities[plan.signer]
        ca_pem = _bundle([authorities[place] for place in plan.trusted])
        current = self._current
        is_good = (
            current is not None
            and signer == self._signer
            and not is_certificate_due(read_certificate(current.pair.certificate), names=self._names, now=now)
        )
        if current is None or not is_good:
            current = ServerCertificate(pair=make_certificate(signer, self._names, now), ca_pem=ca_pem)
            log.info("certificate made", extra={"names": self._names})
        elif current.ca_pem != ca_pem:
            current = ServerCertificate(pair=current.pair, ca_pem=ca_pem)
        self._current, self._signer = current, signer
        return current

    async def _authorities(self) -> list[KeyPair]:
        """Read all valid authorities; when another one is due, make it."""
        kept: list[KeyPair] = []

        def wanted(there: Json | None) -> Json | None:
            nonlocal kept
            now, secret = self._clock(), there or {}
            authorities = _read_authorities(secret)
            plan = plan_authorities([read_certificate(each.certificate).validity for each in authorities], now)
            kept = [authorities[place] for place in plan.trusted]
            if not plan.make_another and is_owned_by(self._owner, secret):
                return None
            if plan.make_another:
                kept.append(make_authority(now))
            return self._secret(kept, owners_with(secret, self._owner))

        ref = ObjectRef(self._namespace, CA_SECRET)
        _, is_written = await keep_as_wanted(self._api, SECRETS, ref, wanted)
        if is_written:
            log.info("authorities written", extra={"secret": CA_SECRET, "authorities": len(kept)})
        return kept

    def _secret(self, authorities: list[KeyPair], owners: list[Owner]) -> Json:
        data = {CA_KEY: _bundle(authorities)}
        for number, each in enumerate(authorities):
            data |= {f"{number}.crt": each.certificate.decode(), f"{number}.key": each.key.decode()}
        return {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {
                "name": CA_SECRET,
                "namespace": self._namespace,
                "labels": {labels.MANAGED_BY: labels.MANAGER},
                "ownerReferences": owners,
            },
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }


def _read_authorities(secret: Json) -> list[KeyPair]:
    data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
    pairs = [
        KeyPair(certificate=data[name], key=data[f"{name.removesuffix('.crt')}.key"])
        for name in sorted(data)
        if name.endswith(".crt") and f"{name.removesuffix('.crt')}.key" in data
    ]
    try:
        for pair in pairs:
            check_key_pair(pair)
    except ValueError as error:
        raise ConfigurationError(
            f'Secret "{CA_SECRET}" has no readable authorities ({error}); delete it to have a new one made'
        ) from error
    return pairs


def _bundle(authorities: list[KeyPair]) -> str:
    return "".join(each.certificate.decode() for each in authorities)


def find_certificate_source(api: Api, settings: Settings, *, address: str, pace: Pace) -> CertificateSource | None:
    """Return where the server's certificate comes from; None: it speaks plain text.

    Args:
        api: The API server.
        settings: Determine the source.
        address: "host:port" that workers connect to.
        pace: How often to look at files.

    Raises:
        ConfigurationError: Files are wanted, but not named.
    """
    if settings.tls is Tls.NONE:
        return None
    if settings.tls is Tls.OWN:
        names = certificate_names(address, settings.tls_names)
        return OwnAuthority(api, namespace=settings.operator_namespace, names=names, owner=settings.owner)
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        raise ConfigurationError("--tls files needs --tls-cert-file and --tls-key-file")
    return CertificateFiles(
        settings.tls_cert_file,
        settings.tls_key_file,
        settings.tls_ca_file,
        look_again_seconds=pace.certificate,
    )
