"""What is given to a command as JSON: read from where it is, and refused in words."""

import io
import sys
from pathlib import Path

import pytest

from hatchet_operator.decisions.given_json import object_problem
from hatchet_operator.given_text import UnreadableError, read_given


@pytest.mark.parametrize(
    ("data", "want"),
    [
        pytest.param(b'{"a": 1}', '{"a": 1}', id="a text"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}\r\n', '{"a": 1}\r\n', id="as an editor of Windows writes it"),
        pytest.param('{"a": "hällo"}'.encode(), '{"a": "hällo"}', id="UTF-8, whatever the locale is"),
    ],
)
def test_a_file_and_stdin_are_read_alike(
    data: bytes, want: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "input.json").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
    assert [read_given(f"@{tmp_path}/input.json"), read_given("-")] == [want, want]


def test_a_text_is_utf_8_in_whatever_locale_it_was_typed() -> None:
    assert read_given('{"a": "ä"}'.encode().decode("ascii", "surrogateescape")) == '{"a": "ä"}'
    with pytest.raises(UnreadableError, match="it is not UTF-8"):
        read_given("\udcff")


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "utf16.json").write_bytes('{"a": 1}'.encode("utf-16"))
    with pytest.raises(UnreadableError, match="it is not UTF-8"):
        read_given(f"@{tmp_path}/utf16.json")
    with pytest.raises(UnreadableError, match="No such file or directory"):
        read_given("@no.json")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        " {}\n",
        '{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}',
        '{"a": "\\ud83d\\ude00"}',
        f'{{"a": {10**30}}}',
    ],
)
def test_an_object_is_taken(text: str) -> None:
    assert object_problem(text, "--input") is None


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("", " is empty; expected a JSON object, as in '{\"k\": 1}'", id="nothing at all"),
        pytest.param(
            '{"a": 1 "b"}',
            ' is not JSON: Expecting \',\' delimiter at line 1, column 9\n  {"a": 1 "b"}\n          ^',
            id="the place is pointed at",
        ),
        pytest.param(
            '{"a":\r\n "' + "x" * 200 + '" 1}',
            " is not JSON: Expecting ',' delimiter at line 2, column 205\n  " + "x" * 58 + '" 1}\n' + " " * 62 + "^",
            id="in a long line",
        ),
        pytest.param("[1]", " must be a JSON object, as in '{\"k\": 1}'; it is a list", id="a list"),
        pytest.param("null", " must be a JSON object, as in '{\"k\": 1}'; it is null", id="null"),
        pytest.param('{"a": NaN}', " is not JSON: NaN is not a JSON number", id="what Python reads all the same"),
        pytest.param(
            '{"b": {"a": 1, "a": 2}}',
            ' has the key "a" twice in one object: one of the values would be lost',
            id="two values of one key",
        ),
        pytest.param(
            f'{{"a": {"9" * 5000}}}',
            " has a number of 5000 digits, of which Python reads 4300; write it as text",
            id="a number that Python does not read",
        ),
        pytest.param('{"a": ' * 101 + "1" + "}" * 101, " is nested deeper than 100 levels", id="too deep"),
        pytest.param('{"a": ' * 100_000 + "1" + "}" * 100_000, " is nested deeper than 100", id="for Python too"),
        pytest.param(
            '{"a": "\\ud800"}',
            " has half of a surrogate pair (\\ud800 to \\udfff), which is no text; expected UTF-8",
            id="half of a pair, escaped",
        ),
        pytest.param(
            '{"a": "\udcff"}', " has half of a surrogate pair (\\ud800 to \\udfff), which", id="a byte that is no text"
        ),
    ],
)
def test_what_is_no_object_is_refused(text: str, want: str) -> None:
    assert (object_problem(text, "--input") or "").startswith(f"--input{want}")
