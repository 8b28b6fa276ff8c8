"""What the operator's start does not import."""

from __future__ import annotations

import json
import subprocess
import sys

LOOK = """
import json, sys
import hatchet_operator.operator
imported = sorted(name for name in sys.modules if name.partition(".")[0] in ("kubernetes", "prompt_toolkit"))
import kubernetes.config
print(json.dumps([imported, "kubernetes.config" in sys.modules]))
"""


def test_the_operator_starts_without_the_kubernetes_library_which_stays_at_hand() -> None:
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == [[], True]
