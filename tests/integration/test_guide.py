"""The programs of docs/guide.md, each run by the command that stands below it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.integration.test_dev import dev

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
PROGRAM = re.compile(r"```python\n(.*?)```\n+    hatchet-operator dev worker\.py (.*?)\n", re.DOTALL)
PROGRAMS = PROGRAM.findall(GUIDE.read_text())
WANT = {
    "Greet": {"hello": {"text": "hello, Ada"}},
    "Report": {"collect": {"words": len("intro") + len("main") + len("end")}},
    "Pay": {"charge": {"receipt": "7: attempt 1"}},
}


def test_every_program_has_its_command() -> None:
    assert len(PROGRAMS) == GUIDE.read_text().count("```python") == len(WANT)


@pytest.mark.parametrize(("program", "command"), PROGRAMS, ids=[shlex.split(command)[1] for _, command in PROGRAMS])
async def test_it_does_what_the_guide_says(program: str, command: str, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(program)
    options = shlex.split(command)
    ended = await dev(worker, *options)
    assert ended.exit_code == 0, ended.stderr
    assert json.loads(ended.stdout) == WANT[options[1]]
