"""``hatchet-operator`` and ``python -m hatchet_operator``."""

from hatchet_operator.cli import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
