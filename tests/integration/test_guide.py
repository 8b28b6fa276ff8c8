"""The programs of the guide and of the pages that have one, each run by the command that stands below it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.integration.test_dev import dev

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = DOCS / "guide.md"
PROGRAM = re.compile(r"```python\n(.*?)```\n+    hatchet-operator dev worker\.py (.*?)\n", re.DOTALL)
PROGRAMS = [
    found
    for page in ("guide", "concurrency", "placing")
    for found in PROGRAM.findall((DOCS / f"{page}.md").read_text())
]
WANT = {
    "Greet": {"hello": {"text": "hello, Ada"}},
    "Report": {"collect": {"words": len("intro") + len("main") + len("end")}},
    "Pay": {"charge": {"receipt": "7: attempt 1"}},
    "Import": {"fetch": {"customer": "acme"}},
    "Train": {"fit": {"model": "large"}},
    "Evaluate": {"start": {"same": True}},
}


def test_every_program_has_its_command() -> None:
    assert len(PROGRAM.findall(GUIDE.read_text())) == GUIDE.read_text().count("```python") == 3
    assert {shlex.split(command)[1] for _, command in PROGRAMS} == WANT.keys()


@pytest.mark.parametrize(("program", "command"), PROGRAMS, ids=[shlex.split(command)[1] for _, command in PROGRAMS])
async def test_it_does_what_the_page_says(program: str, command: str, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(program)
    options = shlex.split(command)
    ended = await dev(worker, *options)
    assert ended.exit_code == 0, ended.stderr
    assert json.loads(ended.stdout) == WANT[options[1]]
