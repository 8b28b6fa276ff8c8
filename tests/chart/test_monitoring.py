"""What the chart gives to Prometheus and Grafana: alerts that fire when they should, with runbooks, and a dashboard."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hatchet_operator.engine.metrics import Metrics
from tests.kube.helm import CHART, Helm, Json, of_kind
from tests.kube.prometheus import find_program

ROOT = CHART.parents[1]
RULES = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
ALERTS: list[Json] = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
OF_A_SCRAPE = {
    "hatchet_operator_runs_known",
    "hatchet_operator_runs_unfinished",
    "hatchet_operator_watch_age_seconds",
    *(f"hatchet_operator_rate_limit_{what}" for what in ("units", "used", "waiting", "units_taken_total")),
    *(f"hatchet_operator_pool_{what}" for what in ("queued", "running", "slots", "workers", "oldest_seconds")),
}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([find_program("promtool"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(text: str) -> set[str]:
    """The metrics that a text names, without the suffixes of histograms."""
    found = re.findall(r"hatchet_operator_[a-z_]*[a-z]", text)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def known_names() -> set[str]:
    ours = [each for each in Metrics().registry.collect() if each.name.startswith("hatchet_operator_")]
    return {f"{each.name}_total" if each.type == "counter" else each.name for each in ours} | OF_A_SCRAPE


def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(
        [find_program("promtool"), "check", "rules", RULES], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_for_what_it_is_for_and_not_for_what_is_well(tmp_path: Path) -> None:
    tests = Path(__file__).with_name("alerts_test.yaml").read_text()
    file = tmp_path / "alerts_test.yaml"
    file.write_text(tests.replace("[ALERTS]", f"[{RULES}]"))
    assert {alert["alert"] for alert in ALERTS} == set(re.findall(r"\bHatchet\w+", tests)), "each has a test"
    promtool("test", "rules", file)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_each_alert_has_its_runbook(alert: Json) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert alert["alert"] in headings
    assert anchor == alert["alert"].lower()


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda file: str(file.name))
def test_rules_and_dashboard_ask_for_metrics_that_there_are(file: Path) -> None:
    assert names_in(file.read_text()) <= known_names()


def test_the_page_names_every_metric() -> None:
    said = (ROOT / "docs" / "metrics.md").read_text() + (ROOT / "docs" / "payloads.md").read_text()
    missing = {
        name
        for name in known_names()
        if name not in said
        and name.removeprefix("hatchet_operator_children") not in said
        and name.removeprefix("hatchet_operator_pool") not in said
    }
    assert missing == set()


def test_the_chart_makes_a_rule_and_a_dashboard_where_they_are_wanted(helm: Helm) -> None:
    assert list(of_kind(helm.render(), "PrometheusRule")) == []
    objects = helm.render(
        "metrics.prometheusRule.enabled=true,metrics.prometheusRule.labels.release=prom,metrics.dashboard.enabled=true"
    )
    (rule,) = of_kind(objects, "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prom"
    assert [each["alert"] for group in rule["spec"]["groups"] for each in group["rules"]] == [
        alert["alert"] for alert in ALERTS
    ]
    (dashboard,) = [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"].endswith("dashboard")]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["hatchet-operator.json"]) == json.loads(DASHBOARD.read_text())
