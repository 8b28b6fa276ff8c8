"""What of a worker's lines reaches the terminal."""

from __future__ import annotations

import pytest

from hatchet_cli.screen import Screen
from hatchet_operator_dev.output import WorkerOutput


@pytest.mark.parametrize(
    ("line", "want"),
    [
        pytest.param("plain\ttext", ["worker | plain  text"], id="a tab, to the next eighth column"),
        pytest.param("\x1b[31mred\x1b[0m", ["worker | red"], id="a colour, where there are none"),
        pytest.param("a\0b\x1b[2J\u202ec", ["worker | a\\x00b\\x1b[2J\\u202ec"], id="what a terminal would obey"),
        pytest.param("", ["worker | "], id="an empty line"),
        pytest.param(" 1%\r 50%\r100%", ["worker | 100%"], id="a progress bar outside of steps"),
        pytest.param("[run-1/load#2] said", ["run-1 load#2 | said"], id="of a step"),
        pytest.param('{"hatchet": "run-1/load#1", "a": 1}', ['run-1 load#1 | {"a": 1}'], id="of a step, as JSON"),
        pytest.param(
            "half[run-1/load#2] said", ["worker | half", "run-1 load#2 | said"], id="of a subprocess and a step"
        ),
    ],
)
def test_lines_are_shown_with_who_wrote_them(line: str, want: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    WorkerOutput(Screen(quiet=False)).add("pod", line)
    assert capsys.readouterr().err.splitlines() == want


def test_of_several_pods_each_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    output = WorkerOutput(Screen(quiet=False))
    output.add("a", "one")
    output.add("b", "two")
    assert capsys.readouterr().err.splitlines() == ["worker | one", "b | two"]


@pytest.mark.parametrize(("quiet", "want"), [(False, ""), (True, "one\ntwo")])
def test_what_was_not_shown_is_kept_for_the_error(quiet: bool, want: str) -> None:
    output = WorkerOutput(Screen(quiet=quiet))
    output.add("a", "one")
    output.add("a", "two")
    assert output.not_shown("a") == want
