"""Prometheus itself, and promtool: HATCHET_TEST_PROMETHEUS names a folder with both, or they are in the PATH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kube.real_api import die_with_parent

VARIABLE = "HATCHET_TEST_PROMETHEUS"


def find_program(name: str) -> Path:
    """Return prometheus or promtool; without it the test is skipped with a word about it."""
    found = shutil.which(name, path=os.environ.get(VARIABLE) or None)
    if found is None:
        pytest.skip(f"needs {name}: in the PATH, or in a folder that {VARIABLE} names (Debian's package prometheus)")
    return Path(found)


class Prometheus:
    """A server that scrapes one target each second."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        answer = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Return the one value of a query; None: there is none yet."""
        samples = self.query(expression)
        return float(samples[0]["value"][1]) if samples else None

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that it has, with their health."""
        return [rule for group in self._get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:  # ours, on loopback
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as answer:  # ours, on loopback
            read: dict[str, Any] = json.load(answer)
            return read


@contextmanager
def running_prometheus(directory: Path, *, port: int, target: str, rules: Path) -> Iterator[Prometheus]:
    """Run a Prometheus for as long as the block takes."""
    program = find_program("prometheus")
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "hatchet-operator", "static_configs": [{"targets": [target]}]}],
    }
    file = directory / "prometheus.json"  # JSON is YAML
    file.write_text(json.dumps(configuration))
    command = [
        *die_with_parent(),
        str(program),
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)
