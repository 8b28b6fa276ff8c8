"""Settings as options of a command: each row of the table, with its bounds and its default."""

from collections.abc import Callable
from datetime import timedelta
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer

from hatchet_operator.durations import format_duration, parse_duration
from hatchet_operator.settings import Row, settings_table


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option and a variable for each setting, instead of its ``**settings``."""
    own = [each for each in signature(command).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
    parameters = [*(_parameter(row) for row in settings_table() if row.setting.nobody is None), *own]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what `signature` looks for first
    return command


def _parameter(row: Row) -> Parameter:
    setting, kind = row.setting, row.kind
    bounds: dict[str, Any] = {}
    if kind is timedelta:
        bounds = {"parser": _duration_between(setting.least, setting.most), "metavar": "DURATION"}
    elif kind is int:
        bounds = {"min": setting.least, "max": setting.most}
    option = typer.Option(
        row.option, envvar=row.env, help=setting.help, show_default=setting.unset or shown(row.default), **bounds
    )
    kind = list[str] if kind == tuple[str, ...] else kind
    # None: not given, and what applies then may depend on where the process runs.
    return Parameter(row.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def shown(default: Any) -> str | bool:
    if default is None:
        return False
    return format_duration(default) if isinstance(default, timedelta) else str(default)


def _duration_between(least: Any, most: Any) -> Callable[[str], timedelta]:
    def parse(text: str) -> timedelta:
        try:
            duration = parse_duration(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        if least is not None and duration < least:
            raise typer.BadParameter(f'"{text}" is too short; expected at least "{format_duration(least)}"')
        if most is not None and duration > most:
            raise typer.BadParameter(f'"{text}" is too long; expected at most "{format_duration(most)}"')
        return duration

    return parse
