"""The entry point of ``hatchet`` and ``kubectl hatchet``."""

import sys

from hatchet_operator.installation import problem


def main() -> None:
    if said := problem():
        sys.exit(f"error: {said}")
    from hatchet_cli.app import app

    app()


if __name__ == "__main__":
    main()
