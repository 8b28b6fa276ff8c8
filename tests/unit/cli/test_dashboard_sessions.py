"""Who has signed in to the page, and until when."""

from __future__ import annotations

import pytest
import typer

from hatchet_cli.dashboard.options import origin_of
from hatchet_cli.dashboard.sessions import Sessions


def test_a_session_stands_for_its_token_until_it_ends() -> None:
    sessions = Sessions(seconds=60, most=10)
    session_id = sessions.open("token-of-ada", now=100)
    assert "ada" not in session_id
    assert sessions.token_of(session_id, now=159) == "token-of-ada"
    assert sessions.token_of(session_id, now=160) is None
    assert sessions.token_of("made-up", now=100) is None
    sessions.drop_expired(now=160)
    assert sessions.tokens() == set()


def test_whoever_signs_out_is_out_and_others_are_not() -> None:
    sessions = Sessions(seconds=60, most=10)
    first, second, other = (sessions.open(token, now=0) for token in ("a", "a", "b"))
    sessions.close(first)
    assert [sessions.token_of(each, now=1) for each in (first, second, other)] == [None, "a", "b"]
    sessions.refuse("a")
    assert [sessions.token_of(each, now=1) for each in (second, other)] == [None, "b"]
    assert [sessions.is_refused(each) for each in (first, second, other)] == [False, True, False]
    assert sessions.tokens() == {"b"}


def test_one_session_too_many_ends_the_oldest() -> None:
    sessions = Sessions(seconds=60, most=2)
    ids = [sessions.open(token, now=0) for token in "abc"]
    assert [sessions.token_of(each, now=1) for each in ids] == [None, "b", "c"]


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://hatchet.example.com", "https://hatchet.example.com"),
        ("https://Hatchet.example.com/", "https://hatchet.example.com"),
        ("http://localhost:8080", "http://localhost:8080"),
    ],
)
def test_where_people_open_the_page_is_what_browsers_call_its_origin(url: str, want: str) -> None:
    assert origin_of(url) == want


@pytest.mark.parametrize("url", ["hatchet.example.com", "ftp://a.example", "https://a.example/hatchet", "https://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not the address of a whole host"):
        origin_of(url)
