"""The page of figures against the file that they are in, and what is measured when something is missing or fails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import typer

from benchmarks.__main__ import choose, measure_all
from benchmarks.api_servers import ApiCounts, ApiKind
from benchmarks.harness import Harness, Plan
from benchmarks.page import PAGE, PICTURES, pictures, shown_digest, tables, with_tables
from benchmarks.raw_rate import copy_of
from benchmarks.results import PATH, Measured, Results, Sample, load, save
from benchmarks.scenario import ByItself, OnProcesses, Scenario
from benchmarks.scenarios import SCENARIOS
from benchmarks.stage import BenchmarkFailed, Counts, Load, spent, worked
from hatchet_operator.resources.crds import load_crds

HOW = 'run "python -m benchmarks.page" and commit what it wrote'


def make_sample(*, seconds: float = 2.0, **fields: float) -> Sample:
    return Sample.model_validate(
        {"units": 100, "seconds": seconds, "cores": 1.9, "foreign_cores": 0.05, "cpu_ms": {"operator": 2.0}, **fields}
    )


def make_results(*samples: Sample, name: str = "fanout-100") -> Results:
    results = Results()
    for sample in samples:
        results = results.with_sample(name, sample, commit="abc", machine="m", api="real")
    return results


def test_the_page_says_what_the_file_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_tables(text, load(PATH)), HOW


@pytest.mark.parametrize("name", ["rates", "cpu"])
def test_a_picture_shows_what_the_file_says(name: str) -> None:
    assert shown_digest(PICTURES / f"{name}.svg") == pictures(load(PATH))[name].digest, HOW
    assert f"(pictures/{name}.svg)" in PAGE.read_text(encoding="utf-8")


def test_tables_have_medians_and_ranges() -> None:
    seconds = (1.0, 2.0, 4.0)
    table = tables(make_results(*(make_sample(seconds=each, raw_per_second=100.0, writes=2.02) for each in seconds)))
    assert "| fan-out of 100: children | 3 | 50 (25 to 100) | 100 | 0.50 (0.25 to 1.00) |" in table
    assert "| 1.90, 0.05 (0.05 to 0.05) | 2.020 |" in table


def test_a_picture_tells_other_data_from_the_same(tmp_path: Path) -> None:
    (drawn, same, other) = (
        pictures(make_results(make_sample(raw_per_second=rate)))["rates"] for rate in (100.0, 100.0, 90.0)
    )
    drawn.draw(tmp_path / "rates.svg")
    assert shown_digest(tmp_path / "rates.svg") == drawn.digest == same.digest != other.digest


def test_samples_of_another_commit_or_server_do_not_count(tmp_path: Path) -> None:
    results = make_results(make_sample(), make_sample())
    save(results, tmp_path / "performance.json")
    assert load(tmp_path / "performance.json") == results
    assert len(results.samples_of("fanout-100", commit="abc", api="real")) == 2
    assert results.samples_of("fanout-100", commit="abd", api="real") == ()
    assert results.samples_of("fanout-100", commit="abc", api="embedded") == ()
    newer = results.with_sample("fanout-100", make_sample(), commit="abd", machine="m", api="real")
    assert isinstance(newer.scenarios["fanout-100"], Measured)
    assert len(newer.scenarios["fanout-100"].samples) == 1


def test_the_raw_rate_is_that_of_objects_in_one_version() -> None:
    """A version more costs a watch cache more, which the fan-outs beside it do not have."""
    crd = next(crd for crd in load_crds(light_runs=True) if crd["spec"]["names"]["plural"] == "workflowruns")
    copied = copy_of(crd)["spec"]
    assert len(crd["spec"]["versions"]) == 2
    assert [version["name"] for version in copied["versions"]] == ["v1alpha1"]
    assert copied["group"] != crd["spec"]["group"]


def test_scenarios_are_chosen_by_name_or_beginning() -> None:
    assert [each.name for each in choose(["fanout-10"])] == ["fanout-10"], "and not fanout-100"
    assert {each.name for each in choose(["hello", "idle"])} == {"hello", "idle-0", "idle-10000"}
    assert "soak" not in {each.name for each in choose([])}
    assert [each.name for each in choose(["soak"])] == ["soak"]
    with pytest.raises(typer.BadParameter, match='no scenario "hullo"'):
        choose(["hullo"])
    assert Counter(each.name for each in SCENARIOS).most_common(1)[0][1] == 1


class Measuring(Harness):
    """Measures nothing, and fails for one scenario."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.tried: list[str] = []
        self.said: list[str] = []

    def fits(self, scenario: Scenario) -> bool:
        return scenario.name != "chain"

    async def measure(self, scenario: OnProcesses | ByItself) -> None:
        self.tried.append(scenario.name)
        if scenario.name == self.fails:
            raise BenchmarkFailed("it ended")

    def say(self, scenario: Scenario, text: str) -> None:
        self.said.append(f"{scenario.name} {text}")


async def test_a_scenario_that_fails_keeps_none_from_being_measured(tmp_path: Path) -> None:
    plan = Plan(path=tmp_path / "none", api=ApiKind.EMBEDDED, repeat=1, window_seconds=1, attempts=1, until=None)
    harness = Measuring(fails="hello")
    with pytest.raises(BenchmarkFailed, match="these failed: hello"):
        await measure_all(choose(["hello", "chain", "nested", "dev"]), harness, plan)
    assert harness.tried == ["hello", "nested", "dev"]
    assert harness.said == ["hello [red]failed[/red]: it ended"]


def test_cores_of_others_are_what_the_machine_did_beyond_ours() -> None:
    before = Load(cpu_seconds={"operator": 5.0, "worker": 1.0}, at=10.0, busy_seconds=100.0)
    after = Load(cpu_seconds={"operator": 1.0, "worker": 2.0}, at=12.0, busy_seconds=103.0)
    work = worked(before, after)
    assert work.cpu_seconds == {"operator": 1.0, "worker": 1.0}, "the operator was started anew"
    assert (work.cores, work.foreign_cores) == (1.0, 0.5)


def test_reads_are_no_writes() -> None:
    requests = (Counter({"list pods": 1}), Counter({"list pods": 9, "create workflowruns": 2, "patch pods/status": 1}))
    before, after = (Counts(api=ApiCounts(requests=each), grpc_messages=None, operator_bytes=0) for each in requests)
    assert spent(before, after).writes == 3
    assert spent(before, after).api_bytes is None
