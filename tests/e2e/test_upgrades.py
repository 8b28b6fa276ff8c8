"""The operator's address moves in the middle of a fan-out: nothing stands still for long, and nothing is done twice."""

import itertools
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.images import image_values
from tests.e2e.kubectl import Kubectl
from tests.e2e.operators import leader_of, until_leading
from tests.e2e.pools import POOL, POOL_LABEL, SLOW_FAN_OUT, pods_of, start_pool
from tests.e2e.slow_fan_out import (
    assert_result_is_right,
    losses_of,
    start,
    succeeded_children,
    until_children_succeeded,
)
from tests.e2e.test_chart import SINGLE, SINGLE_NAME, whole_cluster_unserved
from tests.kube.helm import CHART, RELEASE, Helm, find_helm, serving

CHILDREN = 120
SECONDS = 3  # each: the fan-out takes longer than a rollout


class Followed:
    """What the pods of a pool execute, also of those that are gone by the end: their logs go with them."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._logs: dict[str, tuple[subprocess.Popen[str], threading.Thread]] = {}
        self.over = threading.Event()
        self.executed: list[tuple[float, str]] = []  # time.monotonic(), run

    def _read(self, log: "subprocess.Popen[str]") -> None:
        assert log.stdout is not None
        for line in log.stdout:
            if line.startswith("{") and '"executed"' in line:  # and a step's mark
                self.executed.append((time.monotonic(), json.loads(line)["executed"]))

    def follow(self) -> None:
        """Begin with the pods that are there now."""
        for pod in pods_of(self._kubectl):
            name = pod["metadata"]["name"]
            running = any("running" in each["state"] for each in pod["status"].get("containerStatuses", ()))
            if running and name not in self._logs:
                log = self._kubectl.popen("logs", "--follow", name)
                reading = threading.Thread(target=self._read, args=(log,), daemon=True)
                self._logs[name] = log, reading
                reading.start()

    def follow_all(self) -> None:
        while not self.over.wait(1):
            self.follow()

    def stop(self) -> None:
        """Once nobody follows any more: end what follows, and close what it wrote to."""
        for log, reading in self._logs.values():
            log.kill()
            reading.join()
            with log:  # closes its pipe, and waits for its end
                pass

    def longest_pause(self) -> float:
        """For how many seconds no step began, in the middle of the fan-out."""
        times = [at for at, _ in self.executed]
        return max(after - before for before, after in itertools.pairwise(times))

    def repeated(self) -> dict[str, int]:
        return {run: count for run, count in Counter(run for _, run in self.executed).items() if count > 1}


@contextmanager
def followed(kubectl: Kubectl) -> Iterator[Followed]:
    logs = Followed(kubectl)
    logs.follow()
    following = threading.Thread(target=logs.follow_all, daemon=True)
    following.start()
    try:
        yield logs
    finally:
        logs.over.set()
        following.join()
        logs.stop()


def start_fan_out(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT, minReplicas=2, maxReplicas=2, slots=5)
    start(kubectl, children=CHILDREN, seconds=SECONDS)


def judge(kubectl: Kubectl, logs: Followed, *, what: str) -> None:
    parent, children = assert_result_is_right(kubectl, children=CHILDREN)
    print(f"{what}: longest pause {logs.longest_pause():.1f} s, executed twice: {len(logs.repeated())}")
    assert logs.repeated() == {}
    assert [losses_of(run) for run in (parent, *children) if losses_of(run)] == []
    assert {step.get("dispatch", 0) for run in children for step in run["status"]["steps"].values()} == {0}
    assert logs.longest_pause() < 100, "a pool stood still for workers that can't come"


def addresses(kubectl: Kubectl) -> set[str]:
    return {
        entry["value"]
        for pod in pods_of(kubectl)
        for entry in pod["spec"]["containers"][0]["env"]
        if entry["name"] == "HATCHET_CLIENT_HOST_PORT"
    }


def ports(operator: Kubectl) -> list[int]:
    """Return the ports that workers may come to."""
    served = operator.get("service", RELEASE)["spec"]["ports"]
    return [port["port"] for port in served if port["name"] != "events"]


@pytest.mark.timeout(600)
def test_a_port_that_changes_is_served_as_long_as_pods_have_it(operator: Kubectl, kubectl: Kubectl) -> None:
    helm = Helm(find_helm(), operator.namespace)
    before = until_leading(operator)
    start_fan_out(kubectl)
    until_children_succeeded(kubectl, 5)
    try:
        with followed(kubectl) as logs:
            helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=grpc.port=7171")
            eventually(lambda: leader_of(operator) not in ("", before))
            assert succeeded_children(kubectl) < CHILDREN, "the fan-out was over before the address moved"
            judge(kubectl, logs, what="grpc.port")
        eventually(lambda: addresses(kubectl) == {f"{RELEASE}.{operator.namespace}.svc:7171"})
        eventually(lambda: ports(operator) == [7171])
    finally:
        helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=grpc.port=7070")
        until_leading(operator)


@pytest.mark.timeout(600)
def test_workers_follow_another_release_with_another_authority(operator: Kubectl, kubectl: Kubectl) -> None:
    until_leading(operator)
    start_fan_out(kubectl)
    until_children_succeeded(kubectl, 5)
    with followed(kubectl) as logs, whole_cluster_unserved(operator, kubectl):
        helm = Helm(find_helm(), kubectl.namespace)
        ours = f"{serving(kubectl.namespace)},crds.install=false,aggregatedRoles.enabled=false"
        helm("install", SINGLE, str(CHART), f"--set={ours}", *image_values())
        kubectl("rollout", "status", f"deployment/{SINGLE_NAME}", "--timeout=120s")
        judge(kubectl, logs, what="another release and another authority")
        eventually(lambda: addresses(kubectl) == {f"{SINGLE_NAME}.{kubectl.namespace}.svc:7070"})
        kubectl("delete", "workerpool", POOL)
        eventually(lambda: not kubectl.list("pods", f"{POOL_LABEL}={POOL}"))
        helm("uninstall", SINGLE)
