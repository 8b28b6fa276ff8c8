"""When certificates and their authorities are replaced, so that no client sees one that it does not trust yet.

    authority    made ── a month ──► signs ──────────── nine years ──────────► its successor signs ── 11 months ──► ends
                 └─ published at once: readers of ca.crt trust it before it signs anything ─────────────────────────┘
    certificate  made ── two months ──► replaced ── a month ──► ends

The trap: clients that read ``ca.crt`` only when they start (Hatchet's published SDK) must be restarted within the month
between publishing and signing. That is why it is so long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

AUTHORITY_LIFETIME = timedelta(days=3650)
AUTHORITY_REPLACED_BEFORE_END = timedelta(days=365)
PUBLISHED_BEFORE_SIGNING = timedelta(days=30)
CERTIFICATE_LIFETIME = timedelta(days=90)
CERTIFICATE_REPLACED_BEFORE_END = timedelta(days=30)

_CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True, kw_only=True, slots=True)
class Validity:
    """From when to when something is valid."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorityPlan:
    """What to do with the authorities at hand.

    Attributes:
        make_another: None is left, or the newest one is about to expire.
        trusted: Which to publish; the others have expired. Positions in the given sequence.
        signer: Which one signs; None: there is none yet.
    """

    make_another: bool
    trusted: tuple[int, ...]
    signer: int | None


def plan_authorities(authorities: Sequence[Validity], now: datetime) -> AuthorityPlan:
    """Sign with the newest one that all clients know; as long as there is none, with the oldest, which most know."""
    alive = [place for place, each in enumerate(authorities) if each.ends > now]
    by_age = sorted(alive, key=lambda place: authorities[place].begins)
    known = [place for place in by_age if now - authorities[place].begins >= PUBLISHED_BEFORE_SIGNING]
    newest_ends = max((authorities[place].ends for place in alive), default=now)
    return AuthorityPlan(
        make_another=newest_ends - now <= AUTHORITY_REPLACED_BEFORE_END,
        trusted=tuple(alive),
        signer=known[-1] if known else by_age[0] if by_age else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateView:
    """The relevant properties of a server's certificate."""

    validity: Validity
    names: frozenset[str]


def is_certificate_due(certificate: CertificateView, *, names: Sequence[str], now: datetime) -> bool:
    """Whether a new one must be made: this one expires soon, or does not cover all names."""
    return certificate.validity.ends - now <= CERTIFICATE_REPLACED_BEFORE_END or not set(names) <= certificate.names


def certificate_names(address: str, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return all names that clients may call a server by.

    Args:
        address: The "host:port" that workers are given; for a Service, as in ``name.namespace.svc``, the shorter and
            longer forms that the cluster's DNS knows are added.
        more: Others.
    """
    host = address.rpartition(":")[0].strip("[]")
    names = [host]
    service, dot, rest = host.partition(".")
    namespace, _, kind = rest.partition(".")
    if dot and kind in ("svc", f"svc.{_CLUSTER_DOMAIN}"):
        names = [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.{_CLUSTER_DOMAIN}"]
        names += [f"{service}.{namespace}", service]
    return tuple(dict.fromkeys([*names, *more]))


def is_ip_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
