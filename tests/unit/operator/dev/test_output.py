"""What of a worker's lines reaches the terminal."""

from __future__ import annotations

import pytest

from hatchet_operator.dev.output import WorkerOutput
from hatchet_operator.dev.screen import Screen


@pytest.mark.parametrize(
    ("line", "want"),
    [
        pytest.param("plain\ttext", "│ plain text", id="a tab, to the next eighth column"),
        pytest.param("\x1b[31mred\x1b[0m", "│ red", id="a colour, where there are none"),
        pytest.param("a\0b\x07c\x7f", "│ abc", id="what no terminal shows"),
    ],
)
def test_lines_are_shown_without_what_is_not_text(line: str, want: str, capsys: pytest.CaptureFixture[str]) -> None:
    WorkerOutput(Screen(quiet=False), held_back=False).add("pod", line)
    assert capsys.readouterr().err.rstrip("\n") == want
