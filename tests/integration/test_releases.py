"""From an earlier version's operator, worker and CRDs to this operator and these CRDs, and back, during a fan-out.

`make upgrade FROM=REF` runs it: processes against the embedded API server, in half a minute. `make e2e-upgrade` does
the same with charts, images and pods.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchet_operator.cluster.kinds import CRDS, RUNS
from tests.e2e.images import EARLIER_VARIABLE
from tests.integration.harness import NAMESPACE, PATIENT, Cluster, Process, output_of, phase_of
from tests.kube.eventually import eventually

CHILDREN = 400
HERE = Path(__file__).parents[2]


class TwoVersions(Cluster):
    """What is started is of one of two versions; the worker is the earlier one's, as in an upgrade's first half."""

    def __init__(self, directory: Path, earlier: Path) -> None:
        super().__init__(directory, crds=earlier / "crds", **PATIENT)
        self._earlier = earlier
        self._starts_earlier = True

    def python(self, name: str, arguments: list[str], **environment: str) -> Process:
        if self._starts_earlier and name.startswith(("operator", "worker")):
            folders = (self._earlier / distribution for distribution in ("operator", "sdk"))
            environment["PYTHONPATH"] = ":".join(map(str, folders))
            if name.startswith("operator"):
                arguments = [str(self._earlier / "tests/integration/operator_process.py"), *arguments[2:]]
        return super().python(name, arguments, **environment)

    async def start_earlier_worker(self) -> None:
        """Start the earlier version's worker, which its operator may log nothing of."""
        self.python(
            "worker",
            ["-u", str(self._earlier / "tests/integration/worker.py"), "40"],
            HATCHET_CLIENT_TOKEN=self.token(),
            HATCHET_CLIENT_HOST_PORT=self.grpc_address,
            HATCHET_CLIENT_TLS_STRATEGY="none",
        )
        await self.until_registered(["parent", "child"])

    async def go_to(self, *, earlier: bool) -> float:
        """End the operator as a rollout does, and start one of the other version; return how long nobody led."""
        assert self.operator is not None
        began = time.monotonic()
        assert await self.operator.end() == 0
        for file in sorted(((self._earlier if earlier else HERE) / "crds").glob("*.yaml")):
            crd: dict[str, Any] = yaml.safe_load(file.read_text())
            name = crd["metadata"]["name"]
            if any(each["metadata"]["name"] == name for each in (await self.api.list_all(CRDS))[0]):
                await self.api.patch(CRDS, None, name, {"spec": crd["spec"]})
            else:
                await self.api.create(CRDS, None, crd)
        self._starts_earlier = earlier
        await self.start_operator()
        return time.monotonic() - began

    async def until_executed(self, count: int) -> None:
        async def holds() -> bool:
            return len(self.executions("process")) >= count

        await eventually(holds, within_seconds=120)


@pytest.mark.timeout(600)
async def test_nothing_is_lost_or_done_twice_on_the_way_to_this_version_and_back(tmp_path: Path) -> None:
    if not (earlier := os.environ.get(EARLIER_VARIABLE)):
        pytest.skip("needs a version to come from: make upgrade FROM=REF")
    async with TwoVersions(tmp_path, Path(earlier)) as cluster:
        await cluster.start_operator()
        await cluster.start_earlier_worker()
        await cluster.create_run("fan", children=CHILDREN)
        await cluster.until_executed(CHILDREN // 10)
        there = await cluster.go_to(earlier=False)
        await cluster.until_executed(CHILDREN // 2)
        back = await cluster.go_to(earlier=True)
        done = len(cluster.executions("process"))
        assert done < CHILDREN, "the fan-out was over before the way back was"

        async def is_final() -> bool:
            return phase_of(await cluster.api.get(RUNS, NAMESPACE, "fan")) not in ("Pending", "Running")

        await eventually(is_final, within_seconds=200)
        assert len(output_of(await cluster.api.get(RUNS, NAMESPACE, "fan"))["results"]) == CHILDREN
        runs = (await cluster.api.list_all(RUNS, NAMESPACE))[0]
        assert Counter(map(phase_of, runs)) == {"Succeeded": CHILDREN + 1}
        calls = Counter((call.run, call.step) for call in cluster.executions())
        twice = [call for call, count in calls.items() if count > 1]
        print(
            f"to this version in {there:.1f} s, back in {back:.1f} s; {done} of {CHILDREN} executed by then, none twice"
        )
        assert (len(calls), twice) == (CHILDREN + 1, [])
