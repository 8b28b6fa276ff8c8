"""The reference, out of the code: ``python -m docs.reference`` writes the pages in docs/reference/.

    resources.md  from the CRDs        commands.md  from the command lines
    settings.md   from the settings    reasons.md   from the words of conditions, statuses and events

A new page is a function, and a line of `PAGES`.
"""

import inspect
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperGroup

import hatchet_cli.app
import hatchet_operator.cli
import hatchet_operator.setting_options
from hatchet_operator.resources import reasons
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.settings import Row, settings_table

FOLDER = Path(__file__).parent / "reference"
_WRITTEN = "This page is written by `make generate`.\n"
_MEMBER = re.compile(r'    \w+ = "(?P<word>\w+)"(?:  # noqa: \w+)?(?:  # (?P<meaning>.+))?')


def cell(text: str) -> str:
    """Return a text as it may stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines)


# --- The kinds


def resources() -> str:
    """Every field of every kind, as ``kubectl explain --recursive`` has them."""
    parts = ["# Resources\n\nThe kinds, field by field; `kubectl explain workflowrun.spec` says the same.\n" + _WRITTEN]
    for crd in load_crds():
        version = next(each for each in crd["spec"]["versions"] if each["storage"])
        schema, names = version["schema"]["openAPIV3Schema"], crd["spec"]["names"]
        short = "".join(f", `{name}`" for name in names.get("shortNames", ()))
        parts.append(f"\n## {names['kind']}\n\n{schema['description']}\n")
        parts.append(
            f"\n`apiVersion: {crd['spec']['group']}/{version['name']}`, `kubectl get {names['plural']}`{short}\n"
        )
        for section in ("spec", "status"):
            if section in schema["properties"]:
                rows = _fields(schema["properties"][section], section)
                parts.append("\n" + table(("Field", "Type", "Meaning"), rows))
    return "".join(parts)


def _fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, ...]]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        yield f"`{path}.{name}`", _type_of(field), _meaning(field, is_required=name in required)
        below, suffix = field, ""
        while below.get("type") == "array" or isinstance(below.get("additionalProperties"), dict):
            suffix += "[]" if below.get("type") == "array" else ".*"
            below = below["items"] if below.get("type") == "array" else below["additionalProperties"]
        if not below.get("x-kubernetes-preserve-unknown-fields"):
            yield from _fields(below, f"{path}.{name}{suffix}")


def _type_of(field: dict[str, Any]) -> str:
    if field.get("type") == "array":
        return f"list of {_type_of(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map of {_type_of(field['additionalProperties'])}"
    return str(field.get("format") or field.get("type") or "any value")


def _meaning(field: dict[str, Any], *, is_required: bool) -> str:
    parts = [field.get("description", "")]
    if values := field.get("enum"):
        parts.append(f"One of {', '.join(f'`{value}`' for value in values)}.")
    if "minimum" in field and "maximum" in field:
        parts.append(f"{field['minimum']} to {field['maximum']}.")
    if "default" in field:
        parts.append(f"Default: `{field['default']}`.")
    if is_required:
        parts.append("Required.")
    return " ".join(filter(None, parts))


# --- The operator's settings


def settings() -> str:
    rows = (
        (f"`{row.option}`", f"`{row.env}`", _chart_value(row), _default(row), row.setting.help)
        for row in settings_table()
        if row.setting.nobody is None
    )
    head = "# Settings of the operator\n\nOptions of `hatchet-operator run`, their variables, and the chart's values.\n"
    return head + _WRITTEN + "\n" + table(("Option", "Variable", "Chart", "Default", "Meaning"), rows)


def _chart_value(row: Row) -> str:
    return f"`{row.setting.chart}`" if row.setting.chart else row.setting.no_chart or ""


def _default(row: Row) -> str:
    return row.setting.unset or str(hatchet_operator.setting_options.shown(row.default) or "")


# --- The command lines


def commands() -> str:
    parts = ["# Commands\n\nWhat `--help` prints, on one page.\n" + _WRITTEN]
    for name, app in (("hatchet-operator", hatchet_operator.cli.app), ("kubectl hatchet", hatchet_cli.app.app)):
        command = typer.main.get_command(app)
        parts.append(f"\n## {name}\n\n{inspect.cleandoc(command.help or '')}\n")
        parts += _commands(command, name, command.make_context(name, [], resilient_parsing=True))
    return "".join(parts)


def _commands(command: Any, name: str, context: Any) -> Iterator[str]:
    rows = list(_parameters(command, context))
    if rows:
        yield "\n" + table(("Argument or option", "Meaning"), iter(rows))
    for below in command.commands.values() if isinstance(command, TyperGroup) else ():
        if below.hidden:
            continue
        path = f"{name} {below.name}"
        within = below.make_context(below.name, [], parent=context, resilient_parsing=True)
        usage = " ".join(below.collect_usage_pieces(within))
        yield f"\n### {path}\n\n    {path} {usage}\n\n{inspect.cleandoc(below.help or '').replace(chr(8), '')}\n"
        yield from _commands(below, path, within)


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if (record := parameter.get_help_record(context)) is not None:
            yield f"`{record[0]}`", record[1]


# --- Conditions and reasons


def words() -> str:
    """Conditions of all kinds, and the reasons that they, statuses and events have."""
    parts = ["# Conditions and reasons\n\nWords of `status.conditions`, `status.reason` and of events.\n" + _WRITTEN]
    for title, kind in (("Conditions", reasons.ConditionType), ("Reasons", reasons.Reason)):
        parts.append(f"\n## {title}\n\n" + table((title[:-1], "Meaning"), _members(kind)))
    return "".join(parts)


def _members(kind: type[StrEnum]) -> Iterator[tuple[str, ...]]:
    for line in inspect.getsource(kind).splitlines():
        if found := _MEMBER.fullmatch(line):
            yield f"`{found['word']}`", found["meaning"] or ""


PAGES = {"resources.md": resources, "settings.md": settings, "commands.md": commands, "reasons.md": words}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
