from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatchet_operator.durations import PATTERN, format_duration, format_elapsed, parse_duration

TEN_YEARS_MS = 87600 * 3600 * 1000


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("1.5h", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("1d12h", timedelta(hours=36)),
        ("0s", timedelta(0)),
        ("87600h", timedelta(hours=87600)),
        ("30m1h", timedelta(minutes=90)),  # Go takes any order
        ("0.0004s", timedelta(0)),
    ],
)
def test_reading(text: str, want: timedelta) -> None:
    assert parse_duration(text) == want


@pytest.mark.parametrize(
    "text", ["", "30", "s", "-5s", "5 s", "5 days", "5w", "d", "1h-", "PT5M", "30s\n", "٣s", "1.s", ".5s", "1e3s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a duration; expected .*"90s", "24h" or "7d"'):
        parse_duration(text)


@pytest.mark.parametrize("text", ["87601h", "3651d", "87600h1ms", "9" * 400 + "h"])
def test_more_than_ten_years_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "want"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=24), "24h"),
        (timedelta(seconds=3600.25), "1h0.25s"),
        (timedelta(milliseconds=31), "31ms"),
        (timedelta(seconds=4.2), "4.2s"),
    ],
)
def test_writing(duration: timedelta, want: str) -> None:
    assert format_duration(duration) == want


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        *((-1, "0s"), (0.0002, "0s"), (0.0314, "31ms"), (0.9997, "1s"), (4.2, "4.2s")),
        *((59.97, "1m"), (65.4, "1m5s"), (3599.7, "1h"), (7384, "2h3m")),
    ],
)
def test_how_long_something_took_is_written_likewise_but_rounded(seconds: float, want: str) -> None:
    assert format_elapsed(timedelta(seconds=seconds)) == want


@given(st.integers(0, TEN_YEARS_MS))
@example(TEN_YEARS_MS)
def test_what_was_written_reads_the_same(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.text() | st.from_regex(PATTERN))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= timedelta(0)
