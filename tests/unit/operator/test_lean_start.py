"""What our processes leave out, and what they pass on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LOOK = """
import json, sys
from hatchet_operator.lean_start import start_lean, environment_of_others
start_lean()
import os
from hatchet_operator.decisions.expressions import Purpose
from hatchet_operator_dev.apiserver.server import ApiServer
import hatchet_operator.engine.engine
others = environment_of_others(os.environ)
from hatchet_operator.resources.crds import load_crds
load_crds(light_runs=True)
made = {name for name in sys.modules if name.endswith((".structural_schema", ".make_crds"))}
imported = sorted({name.partition(".")[0] for name in sys.modules} & {"prompt_toolkit", "pygments"} | made)
ours, theirs = (names.get("PYDANTIC_DISABLE_PLUGINS") for names in (os.environ, others))
print(json.dumps([imported, ours, theirs]))
"""


@pytest.mark.parametrize("given", [None, "logfire-plugin"])
def test_a_start_without_plugins_terminals_and_making_crds_that_leaves_workers_theirs(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    if given is not None:
        environment["PYDANTIC_DISABLE_PLUGINS"] = given
    said = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert json.loads(said) == [[], given or "__all__", given]
