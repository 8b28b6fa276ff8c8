"""The page that the chart installs: it answers through its Service, to each person what that person may see."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.kubectl import Json, Kubectl
from tests.kube.helm import CHART, RELEASE, Helm, find_helm

RUN = """
apiVersion: hatchet-operator.dev/v1alpha1
kind: WorkflowRun
metadata: {name: seen}
spec: {workflow: nobody-has-it}
"""
NAME = f"{RELEASE}-dashboard"


@pytest.fixture
def address(operator: Kubectl) -> Iterator[str]:
    helm = Helm(find_helm(), operator.namespace)
    helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=dashboard.enabled=true")
    try:
        operator("rollout", "status", f"deployment/{NAME}", "--timeout=120s")
        with forwarded(operator) as port:
            yield f"http://127.0.0.1:{port}"
    finally:
        helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=dashboard.enabled=false")


@contextmanager
def forwarded(operator: Kubectl) -> Iterator[str]:
    with operator.popen("port-forward", f"service/{NAME}", ":8080") as forwarding:
        try:
            assert forwarding.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", forwarding.stdout.readline())
            assert found, "nothing is forwarded"
            yield found[1]
        finally:
            forwarding.terminate()


def test_a_viewer_reads_what_the_token_allows_and_nothing_else(
    address: str, kubectl: Kubectl, elsewhere: Kubectl
) -> None:
    kubectl("create", "--filename=-", stdin=RUN)
    kubectl("create", "serviceaccount", "vera")
    kubectl("create", "rolebinding", "vera", "--clusterrole=view", f"--serviceaccount={kubectl.namespace}:vera")
    token = kubectl("create", "token", "vera").strip()
    code, found = ask(f"{address}/api/namespaces/{kubectl.namespace}/runs/seen", token)
    assert (code, found["row"]["name"]) == (200, "seen")
    assert ask(f"{address}/api/namespaces/{elsewhere.namespace}/runs/seen", token)[0] == 403
    assert ask(f"{address}/api/namespaces/{kubectl.namespace}/runs/seen", None)[0] == 401


def ask(url: str, token: str | None) -> tuple[int, Json]:
    headers = {"Host": "localhost:8080"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
