"""A result goes where stdout goes, though the drawing is live on the terminal that stderr is."""

import os
import subprocess
import sys

PRINTS = """
import asyncio, sys
from hatchet_cli.screen import Screen

async def main():
    screen = Screen(quiet=False)
    async with screen.live():
        screen.show_status("working")
        sys.stdout.write("the result\\n")

asyncio.run(main())
"""


def test_a_result_that_goes_to_a_pipe_is_no_part_of_the_drawing() -> None:
    terminal = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"}  # as if stderr were one
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, env=terminal)
    assert done.stdout == "the result\n"
    assert "working" in done.stderr, "nothing was drawn"
    assert "the result" not in done.stderr
