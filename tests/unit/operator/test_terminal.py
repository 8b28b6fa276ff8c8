"""What of a text may reach a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.terminal import lines, one_line


@pytest.mark.parametrize(
    ("text", "want_one_line", "want_lines"),
    [
        pytest.param(
            "plain é ✔ 👩\u200d💻", "plain é ✔ 👩\u200d💻", "plain é ✔ 👩\u200d💻", id="text, joined emoji too"
        ),
        pytest.param("a\nb\tc\r\n", r"a\nb\tc\r\n", "a\nb\tc\n", id="lines"),
        pytest.param("over\rwritten", r"over\rwritten", r"over\rwritten", id="a carriage return"),
        pytest.param("\x1b[2J\0\x7f\x9b", r"\x1b[2J\x00\x7f\x9b", r"\x1b[2J\x00\x7f\x9b", id="controls"),
        pytest.param(
            "\u202eevil\u2066\u200f", r"\u202eevil\u2066\u200f", r"\u202eevil\u2066\u200f", id="another order"
        ),
        pytest.param("a\u2028b\x85c", r"a\u2028b\x85c", r"a\u2028b\x85c", id="separators of lines"),
        pytest.param("\ud800", r"\ud800", r"\ud800", id="half a character"),
    ],
)
def test_what_is_not_text_is_written_out(text: str, want_one_line: str, want_lines: str) -> None:
    assert (one_line(text), lines(text)) == (want_one_line, want_lines)


@given(st.text(st.characters()))
def test_one_line_is_one_line_of_what_a_terminal_shows(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")]
    assert not [one for one in shown if unicodedata.bidirectional(one) in ("LRE", "RLE", "LRO", "RLO", "LRI", "RLI")]
