"""The entry point of ``hatchet`` and ``kubectl hatchet``."""

import sys

from hatchet_operator.installation import problem
from hatchet_operator.lean_start import start_lean
from hatchet_operator.standard_streams import escape_what_streams_cannot_write, open_closed_streams


def main() -> None:
    open_closed_streams()
    escape_what_streams_cannot_write()
    start_lean()
    if said := problem():
        sys.exit(f"error: {said}")
    from hatchet_cli.app import app

    app()


if __name__ == "__main__":
    main()
