"""Where Hatchet's published SDK is, if it is installed."""

import os
import subprocess
from functools import cache

VARIABLE = "HATCHET_TEST_PUBLISHED_SDK"


@cache
def published_python() -> str | None:
    """Return the first interpreter that the environment names whose SDK has classes, as those before 1.0 do."""
    question = "import importlib.metadata as m; print(m.version('hatchet-sdk'))"
    for python in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        asked = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True)
        if asked.stdout.startswith("0."):
            return python
    return None
