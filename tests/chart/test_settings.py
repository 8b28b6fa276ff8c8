"""Every setting has an option, a variable and a value of the chart, or says why not; the three mean the same."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import click
import pytest
import typer
import yaml

from hatchet_operator import cli
from hatchet_operator.durations import parse_duration
from hatchet_operator.settings import Row, Settings, settings_table
from tests.chart.test_rendering import args_of
from tests.kube.helm import CHART, Helm, Json

TABLE = {row.name: row for row in settings_table()}
SETTABLE = [row for row in TABLE.values() if row.setting.nobody is None]
IN_CHART = [row for row in SETTABLE if row.setting.chart is not None]

CHART_DIFFERS = {
    "namespaces": [],
    "grpc_host": "0.0.0.0",  # only read
    "grpc_port": 7070,
    "tls_names": [],
    "metrics_port": 8080,
    "events_port": 0,  # which there means none
    "payload_store": "",
    "rest_url": "",
}
OTHER = {timedelta: "7m", int: "5", str: "a", tuple[str, ...]: "{a}"}


def options() -> dict[str, click.Option]:
    command: Any = typer.main.get_command(cli.app)
    return {each.name: each for each in command.commands["run"].params}


def at(values: Json, path: str) -> Any:
    for key in path.split("."):
        values = values[key]
    return values


def ids(rows: list[Row]) -> dict[str, Any]:
    return {"argvalues": rows, "ids": [row.name for row in rows]}


def test_every_setting_is_in_the_table() -> None:
    assert list(TABLE) == list(Settings.__dataclass_fields__)


@pytest.mark.parametrize("row", **ids(list(TABLE.values())))
def test_a_setting_is_set_in_three_ways_or_says_why_not(row: Row) -> None:
    setting = row.setting
    assert sum(why is not None for why in (setting.chart, setting.no_chart, setting.nobody)) == 1
    assert setting.help.endswith(".")


@pytest.mark.parametrize("row", **ids(SETTABLE))
def test_its_option_and_its_variable_are_those_of_the_table(row: Row) -> None:
    option = options()[row.name]
    assert "/".join([*option.opts, *option.secondary_opts]) == row.option
    assert option.envvar == row.env
    assert option.help == row.setting.help


@pytest.mark.parametrize("row", **ids(IN_CHART))
def test_the_charts_value_has_its_default_and_a_schema(row: Row) -> None:
    path = row.setting.chart or ""
    shipped = at(yaml.safe_load((CHART / "values.yaml").read_text()), path)
    if row.kind is timedelta:
        shipped = parse_duration(shipped)
    assert shipped == CHART_DIFFERS.get(row.name, row.default)
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert at(schema["properties"], path.replace(".", ".properties."))


@pytest.mark.parametrize("row", **ids(IN_CHART))
def test_the_charts_value_reaches_the_operator(row: Row, helm: Helm) -> None:
    if row.kind is bool:
        assert row.option in args_of(helm.render(f"{row.setting.chart}=true"))
        assert row.option not in args_of(helm.render(f"{row.setting.chart}=false"))
        return
    other = {"lease_duration": "5m", "payload_store": "s3://a/b", "payload_inline_bytes": "2048"}.get(
        row.name, OTHER[row.kind]
    )
    args = args_of(helm.render(f"{row.setting.chart}={other}"))
    assert f"{row.option}={other.strip('{}')}" in args


def test_what_the_chart_gives_is_understood(helm: Helm) -> None:
    command: Any = typer.main.get_command(cli.app)
    name, *args = args_of(helm.render())
    with command.commands[name].make_context(name, args) as context:
        given = {name: value for name, value in context.params.items() if value is not None}
    assert given["run_ttl"] == timedelta(hours=24)
    assert Settings(**{name: value for name, value in given.items() if name in TABLE}).lease_duration.seconds == 10


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("7d", timedelta(days=7), id="days"),
        pytest.param("1d12h", timedelta(hours=36), id="days and hours"),
        pytest.param("10s", timedelta(seconds=10), id="seconds"),
    ],
)
def test_a_variable_is_read_as_its_option_is(text: str, want: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATCHET_OPERATOR_RUN_TTL", text)
    command: Any = typer.main.get_command(cli.app)
    with command.commands["run"].make_context("run", []) as context:
        assert context.params["run_ttl"] == want


@pytest.mark.parametrize(
    ("args", "want"),
    [
        (["--lease-duration=1s"], '"1s" is too short; expected at least "2s"'),
        (["--lease-duration=1h"], '"1h" is too long; expected at most "5m"'),
        (["--run-ttl=1w"], '"1w" is not a duration; expected a number and a unit'),
        (["--max-losses=0"], "greater than or equal to 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_told(args: list[str], want: str) -> None:
    command: Any = typer.main.get_command(cli.app)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # typer has a click of its own
        command.commands["run"].make_context("run", args)
    assert want in refused.value.format_message()  # type: ignore[attr-defined]  # of every usage error
