"""The certificate that the gRPC server shows: out of files that somebody renews, or made with an authority of our own.

The authorities are kept in one Secret: for each ``<n>.crt`` and ``<n>.key``, and ``ca.crt``, what clients trust. It is
made once; a second operator that comes at the same time finds it. Only who leads changes it.
"""

import asyncio
import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hatchet_operator.certificates import KeyPair, check_key_pair, make_authority, make_certificate, read_certificate
from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import SECRETS
from hatchet_operator.cluster.ownership import Owner, is_owned_by, owners_with
from hatchet_operator.decisions.certificates import certificate_names, is_certificate_due, plan_authorities
from hatchet_operator.errors import AlreadyExists, ConfigurationError, Conflict, NotFound
from hatchet_operator.resources import labels
from hatchet_operator.settings import Settings, Tls

log = logging.getLogger(__name__)

CA_SECRET = "hatchet-operator-ca"  # noqa: S105  # the name of an object
CA_KEY = "ca.crt"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCertificate:
    """What a server shows, and what its clients are to trust (None: what they know anyway)."""

    pair: KeyPair
    ca_pem: str | None


class CertificateSource(Protocol):
    """Where the certificate comes from, and how often to ask for a newer one."""

    look_again_seconds: float

    async def read(self) -> ServerCertificate:
        """Return the one to show now; the same object as before, unless there is a newer one."""


class CertificateFiles:
    """A certificate that somebody else renews, in files."""

    look_again_seconds = 10.0

    def __init__(self, certificate: Path, key: Path, ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._ca = ca
        self._current: ServerCertificate | None = None

    async def read(self) -> ServerCertificate:
        """Read the files; while they make no sense together, the last ones that did are good.

        Raises:
            ConfigurationError: They never did.
        """
        try:
            found = await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            if self._current is None:
                raise ConfigurationError(f"{self._certificate} and {self._key} are no certificate: {error}") from error
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
        names: That certificates are for.
        owner: What the Secret goes with.
        clock: The time.
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
        """Return a certificate for all names that everybody trusts who trusts `ca.crt`."""
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
        """Read all authorities that are good; when it is time for another one, make it."""
        while True:
            try:
                secret = await self._api.until_answered(lambda: self._api.get(SECRETS, self._namespace, CA_SECRET))
            except NotFound:
                secret = {}
            now = self._clock()
            authorities = _read_authorities(secret)
            plan = plan_authorities([read_certificate(each.certificate).validity for each in authorities], now)
            trusted = [authorities[place] for place in plan.trusted]
            if not plan.make_another and is_owned_by(self._owner, secret):
                return trusted
            kept = [*trusted, make_authority(now)] if plan.make_another else trusted
            try:
                await self._keep(secret, kept)
            except (AlreadyExists, Conflict):
                continue  # another operator was quicker, or it was deleted meanwhile
            log.info("authorities written", extra={"secret": CA_SECRET, "authorities": len(kept)})

    async def _keep(self, secret: Json, authorities: list[KeyPair]) -> None:
        data = {CA_KEY: _bundle(authorities)}
        for number, each in enumerate(authorities):
            data |= {f"{number}.crt": each.certificate.decode(), f"{number}.key": each.key.decode()}
        body: Json = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {
                "name": CA_SECRET,
                "namespace": self._namespace,
                "labels": {labels.MANAGED_BY: labels.MANAGER},
                "ownerReferences": owners_with(secret, self._owner),
            },
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }
        if not secret:
            await self._api.until_answered(lambda: self._api.create(SECRETS, self._namespace, body))
            return
        body["metadata"] |= {name: secret["metadata"][name] for name in ("uid", "resourceVersion")}
        await self._api.until_answered(lambda: self._api.replace(SECRETS, self._namespace, CA_SECRET, body))


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


def find_certificate_source(api: Api, settings: Settings, *, address: str) -> CertificateSource | None:
    """Return where the server's certificate comes from; None: it speaks plain text.

    Args:
        api: The API server.
        settings: Say which source.
        address: "host:port" that workers connect to.

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
    return CertificateFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file)
