"""When authorities and certificates are replaced: a calendar, with no key in sight."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.certificates import (
    AUTHORITY_LIFETIME,
    CERTIFICATE_LIFETIME,
    PUBLISHED_BEFORE_SIGNING,
    AuthorityPlan,
    CertificateView,
    Validity,
    certificate_names,
    is_certificate_due,
    plan_authorities,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def aged(days: float, *, lives_days: float = 3650) -> Validity:
    begins = NOW - timedelta(days=days)
    return Validity(begins=begins, ends=begins + timedelta(days=lives_days))


@pytest.mark.parametrize(
    ("authorities", "want"),
    [
        pytest.param([], AuthorityPlan(make_another=True, trusted=(), signer=None), id="the first one is made"),
        pytest.param(
            [aged(0)], AuthorityPlan(make_another=False, trusted=(0,), signer=0), id="the only one signs at once"
        ),
        pytest.param(
            [aged(3284)], AuthorityPlan(make_another=False, trusted=(0,), signer=0), id="a year left is enough"
        ),
        pytest.param(
            [aged(3285)],
            AuthorityPlan(make_another=True, trusted=(0,), signer=0),
            id="less is not: another is made",
        ),
        pytest.param(
            [aged(3300), aged(15)],
            AuthorityPlan(make_another=False, trusted=(0, 1), signer=0),
            id="the successor is trusted, but does not sign yet",
        ),
        pytest.param(
            [aged(3315), aged(30)],
            AuthorityPlan(make_another=False, trusted=(0, 1), signer=1),
            id="after a month everybody knows it, and it signs",
        ),
        pytest.param(
            [aged(3650), aged(365)],
            AuthorityPlan(make_another=False, trusted=(1,), signer=1),
            id="one that ended is trusted no more",
        ),
        pytest.param(
            [aged(4000)],
            AuthorityPlan(make_another=True, trusted=(), signer=None),
            id="an operator that was away for years begins anew",
        ),
        pytest.param(
            [aged(-1)], AuthorityPlan(make_another=False, trusted=(0,), signer=0), id="one from a clock ahead of ours"
        ),
    ],
)
def test_authorities(authorities: list[Validity], want: AuthorityPlan) -> None:
    assert plan_authorities(authorities, NOW) == want


@given(st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=400))
def test_nobody_meets_an_authority_that_is_not_trusted_yet(days_between_looks: list[int]) -> None:
    now = NOW
    authorities = [Validity(begins=now, ends=now + AUTHORITY_LIFETIME)]
    published = {authorities[0]: now}
    for days in days_between_looks:
        now += timedelta(days=days)
        plan = plan_authorities(authorities, now)
        if plan.make_another:
            authorities = [*(authorities[place] for place in plan.trusted)]
            authorities.append(Validity(begins=now, ends=now + AUTHORITY_LIFETIME))
            published[authorities[-1]] = now
            plan = plan_authorities(authorities, now)
        assert plan.signer is not None
        assert plan.signer in plan.trusted
        signer = authorities[plan.signer]
        assert len(authorities) == 1 or now - published[signer] >= PUBLISHED_BEFORE_SIGNING
        assert signer.ends - now > CERTIFICATE_LIFETIME, "a certificate has its full life"


@pytest.mark.parametrize(
    ("age_days", "names", "want"),
    [
        pytest.param(0, ["a"], False, id="a new one is good"),
        pytest.param(59, ["a", "b"], False, id="two months are its life"),
        pytest.param(60, ["a"], True, id="then it is due, a month before its end"),
        pytest.param(0, ["a", "c"], True, id="and when a name is missing"),
    ],
)
def test_a_certificate_is_due(age_days: float, names: list[str], want: bool) -> None:
    view = CertificateView(validity=aged(age_days, lives_days=90), names=frozenset({"a", "b"}))
    assert is_certificate_due(view, names=names, now=NOW) is want


@pytest.mark.parametrize(
    ("address", "more", "want"),
    [
        pytest.param(
            "hatchet.ops.svc:7070",
            (),
            ("hatchet.ops.svc", "hatchet.ops.svc.cluster.local", "hatchet.ops", "hatchet"),
            id="of a Service, as the cluster's DNS has it",
        ),
        pytest.param("10.0.0.1:7070", (), ("10.0.0.1",), id="an address"),
        pytest.param("[::1]:7070", ("localhost",), ("::1", "localhost"), id="IPv6, and what was given"),
        pytest.param("hatchet.example.com:443", ("x", "x"), ("hatchet.example.com", "x"), id="of an ingress"),
    ],
)
def test_names(address: str, more: tuple[str, ...], want: tuple[str, ...]) -> None:
    assert certificate_names(address, more) == want
