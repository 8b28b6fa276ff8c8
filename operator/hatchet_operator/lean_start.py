"""What our processes leave out when they start, before anything else is imported.

Only our command lines do, since it concerns the whole process: a program that imports us keeps what it has.
"""

import os
import sys
from collections.abc import Mapping
from types import ModuleType

_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_were_given = _PLUGINS in os.environ


def start_lean() -> None:
    """Leave out what takes a tenth of the time in which ``dev`` starts, and is of no use to us.

    - pydantic reads what every installed distribution offers, to find plugins for models that are all ours.
    - CEL's library imports its own command line, and with it a terminal's editor: 170 modules.
    """
    os.environ.setdefault(_PLUGINS, "__all__")
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))


def environment_of_others(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that is not ours, whose plugins are its own business."""
    return {name: value for name, value in environment.items() if name != _PLUGINS or _were_given}
