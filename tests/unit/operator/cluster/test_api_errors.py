"""Which error an unsuccessful answer is, whoever wrote it: proxies answer for an API server that is away."""

from __future__ import annotations

import pytest

from hatchet_operator.cluster.api_errors import error_of
from hatchet_operator.errors import AlreadyExists, ApiError, Conflict, Gone, NotFound, Refused, Transient


@pytest.mark.parametrize(
    ("status", "answer", "want"),
    [
        (404, b'{"message": "not found"}', NotFound),
        (409, b'{"message": "it is there", "reason": "AlreadyExists"}', AlreadyExists),
        (409, b'{"message": "changed", "reason": "Conflict"}', Conflict),
        (410, b'{"message": "too old"}', Gone),
        (422, b'{"message": "invalid"}', Refused),
        (500, b'{"message": "etcdserver: request is too large"}', Refused),
        (503, b'{"message": "overloaded"}', Transient),
    ],
)
def test_the_class_says_how_to_react(status: int, answer: bytes, want: type[ApiError]) -> None:
    error = error_of(status, answer)
    assert type(error) is want
    assert error.status == status


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"null", "null"),
        (b'"upstream is away"', '"upstream is away"'),
        (b"[1]", "[1]"),
        (b"\xff" * 1000, "\ufffd" * 500),
        (b'{"message": null, "reason": null, "details": null}', ""),
        (b'{"message": "away", "details": 3}', "away"),
        (b'{"message": "away", "details": {"causes": 3}}', "away"),
        (b'{"message": "away", "details": {"causes": [3, {"reason": null}]}}', "away"),
    ],
)
def test_an_answer_that_is_no_status_is_an_error_like_others(answer: bytes, want: str) -> None:
    error = error_of(502, answer)
    assert type(error) is Transient
    assert error.message == want


def test_the_causes_of_a_refusal_are_known() -> None:
    answer = b'{"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}}'
    assert error_of(403, answer).causes == {"NamespaceTerminating"}


@pytest.mark.parametrize(
    ("after", "want"), [("3", 3.0), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("²", None)]
)
def test_the_server_says_for_how_long_to_wait(after: str, want: float | None) -> None:
    assert error_of(429, b"{}", after).retry_after == want
