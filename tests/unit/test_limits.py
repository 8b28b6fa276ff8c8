"""docs/limits.md says what the code does."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from hatchet_operator.decisions.graph import DEFAULT_SCHEDULE_TIMEOUT
from hatchet_operator.decisions.placing import WAITING_PER_SLOT
from hatchet_operator.decisions.retry import LONGEST_BACKOFF
from hatchet_operator.decisions.turns import BOUND
from hatchet_operator.dispatcher.v0.translation.triggers import LONGEST_SPAWN_KEY
from hatchet_operator.durations import format_duration
from hatchet_operator.engine.dispatch.worker import DEFAULT_SLOTS
from hatchet_operator.engine.streams import buffer
from hatchet_operator.engine.streams.streams import KEPT_SECONDS
from hatchet_operator.resources import limits
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.nesting import MAX_DEPTH
from hatchet_operator.resources.worker_labels import MAX_LABEL_LENGTH, MAX_LABELS
from hatchet_operator.settings import Settings, settings_table
from hatchet_sdk._client.chunks import MAX_CHUNK_BYTES
from hatchet_sdk._client.json_text import MAX_BYTES
from hatchet_sdk._client.triggers import MAX_BATCH_ITEMS
from hatchet_sdk._hatchet import Hatchet

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
ROWS = {
    cells[0].strip(): cells[1].strip()
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what |")
    if (cells := line.strip("| ").split(" | "))
}
DEFAULTS = Settings()


def row(begins: str) -> str:
    (found,) = [value for what, value in ROWS.items() if what.startswith(begins)]
    return found


def kib(size: int) -> str:
    return f"{size // 1024} KiB" if size < 2**20 else f"{size // 2**20} MiB"


@pytest.mark.parametrize(
    ("what", "want"),
    [
        ("input of a run", kib(limits.MAX_INPUT_BYTES)),
        ("input of a run", kib(MAX_BYTES)),
        ("what a step returns", kib(limits.MAX_OUTPUT_BYTES)),
        ("a run's object", kib(limits.MAX_OBJECT_BYTES)),
        ("error text", kib(limits.MAX_ERROR_BYTES)),
        ("depth", str(MAX_DEPTH)),
        ("a spawn key", str(LONGEST_SPAWN_KEY)),
        ("one `put_stream`", kib(buffer.MAX_CHUNK_BYTES)),
        ("one `put_stream`", kib(MAX_CHUNK_BYTES)),
        ("what is kept of a run's stream", kib(buffer.MAX_RUN_BYTES)),
        ("what is kept of all streams", kib(buffer.MAX_ALL_BYTES)),
        ("a finished run's stream", format_duration(timedelta(seconds=KEPT_SECONDS))),
        ("children in one", str(MAX_BATCH_ITEMS)),
        ("waiting while no worker", format_duration(DEFAULT_SCHEDULE_TIMEOUT)),
        ("time that a timed-out attempt", format_duration(DEFAULTS.cancel_grace)),
        ("a worker without heartbeat", format_duration(DEFAULTS.worker_silent)),
        ("a standby takes over", format_duration(DEFAULTS.lease_duration)),
        ("a backoff", format_duration(LONGEST_BACKOFF)),
        ("steps at a time", str(DEFAULT_SLOTS)),
        ("parents in a worker", str(WAITING_PER_SLOT)),
        ("labels of a worker", str(MAX_LABELS)),
        ("labels of a worker", str(MAX_LABEL_LENGTH)),
        ("slots that a worker fills", str(BOUND)),
        ("workers that may die", str(DEFAULTS.max_losses)),
        ("concurrent writes to the API server", str(DEFAULTS.max_writes)),
    ],
)
def test_a_limit_is_what_it_is_said_to_be(what: str, want: str) -> None:
    said = row(what)
    assert re.search(rf"(?<![\w]){re.escape(want)}(?![\w])", said), f"{what}: {said}"


def test_the_times_that_finished_runs_are_kept() -> None:
    assert row("a finished root run") in (format_duration(DEFAULTS.run_ttl), "24h")
    assert row("a failed root run") == f"{DEFAULTS.failed_run_ttl.days}d"


def test_a_steps_own_timeout() -> None:
    assert (Hatchet.step.__kwdefaults__ or {})["timeout"] == row("an attempt of a step")


def test_sizes_of_the_schemas() -> None:
    (workflows,) = [crd for crd in load_crds() if crd["spec"]["names"]["kind"] == "Workflow"]
    (pools,) = [crd for crd in load_crds() if crd["spec"]["names"]["kind"] == "WorkerPool"]

    def properties(crd: dict[str, object], *path: str) -> dict[str, object]:
        found: object = crd
        for part in ("spec", "versions", 0, "schema", "openAPIV3Schema", *path):
            found = found[part]  # type: ignore[index]
        assert isinstance(found, dict)
        return found

    steps = properties(workflows, "properties", "status", "properties", "definition", "properties", "steps")
    assert row("steps of a workflow").startswith(str(steps["maxItems"]))
    replicas = properties(pools, "properties", "spec", "properties", "maxReplicas")
    assert (row("pods of a pool"), str(replicas["maximum"]) in PAGE) == ("1", True)


def test_every_setting_that_is_named_is_there() -> None:
    named = set(re.findall(r"`([a-zA-Z]+\.[a-zA-Z]+)` of the chart", PAGE))
    assert named <= {found.setting.chart for found in settings_table()}
    assert named
