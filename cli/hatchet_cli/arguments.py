"""What is typed, as values: times, entries of metadata; and options of the place, wherever they stand."""

from datetime import UTC, datetime, timedelta

import typer

_OF_THE_PLACE = ("-n", "--namespace", "--context", "--kubeconfig")


def place_first(arguments: list[str]) -> list[str]:
    """Return the arguments with the options of the program itself before its command, wherever they were."""
    first: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left and left[0] != "--":
        argument = left.pop(0)
        name, has_value, _ = argument.partition("=")
        if name not in _OF_THE_PLACE:
            rest.append(argument)
            continue
        first.append(argument)
        if not has_value and left:
            first.append(left.pop(0))
    return [*first, *rest, *left]


def entry(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise typer.BadParameter(f'"{text}" is not an entry; expected KEY=VALUE')
    return key, value


def entries(texts: list[str] | None) -> dict[str, str]:
    return dict(entry(text) for text in texts or ())


def time_of(at: str | None, within: timedelta | None) -> datetime:
    if (at is None) == (within is None):
        raise typer.BadParameter("expected either --at or --in")
    if within is not None:
        return datetime.now(UTC) + within
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError as error:
        raise typer.BadParameter(f'"{at}" is not a time; expected one such as 2027-01-31T06:30:00Z') from error
    return moment.astimezone(UTC)  # without a zone it is local time
