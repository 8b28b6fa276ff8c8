"""``kubectl hatchet`` as kubectl finds it, with the account of somebody who may do little."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.pools import POOL, SLOW_FAN_OUT, start_pool
from tests.e2e.slow_fan_out import children_of, finished, status_of

READER = ["get", "list", "watch"]
RULES: list[Json] = [
    {"apiGroups": ["hatchet-operator.dev"], "resources": ["workflowruns"], "verbs": [*READER, "create"]},
    {"apiGroups": ["hatchet-operator.dev"], "resources": ["workflows", "workerpools"], "verbs": READER},
    {"apiGroups": [""], "resources": ["pods", "events"], "verbs": READER},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]
MAY_CHANGE: Json = {"apiGroups": ["hatchet-operator.dev"], "resources": ["workflowruns"], "verbs": ["patch"]}


@dataclass(frozen=True)
class Analyst:
    """A person who has kubectl, the plugin and a role in one namespace."""

    kubectl: Kubectl
    kubeconfig: Path

    def may(self, *rules: Json) -> None:
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "analyst"}}
        self.kubectl.apply_object(role | {"rules": list(rules)})

    def __call__(self, *args: str, code: int = 0) -> str:
        """Type a command; return what it printed, errors included if it ends with another code than 0."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["kubectl", "hatchet", f"--namespace={self.kubectl.namespace}", *args],
            env=os.environ | {"PATH": path, "KUBECONFIG": str(self.kubeconfig), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr


def make_analyst(kubectl: Kubectl, folder: Path) -> Analyst:
    kubectl("create", "serviceaccount", "analyst")
    kubectl("create", "rolebinding", "analyst", "--role=analyst", f"--serviceaccount={kubectl.namespace}:analyst")
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    token = kubectl("create", "token", "analyst").strip()
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return Analyst(kubectl, kubeconfig)


def test_somebody_who_may_create_runs_starts_sees_and_explains_them(kubectl: Kubectl, tmp_path: Path) -> None:
    hatchet = make_analyst(kubectl, tmp_path)
    hatchet.may(*RULES)
    start_pool(kubectl, SLOW_FAN_OUT)

    given = json.dumps({"children": 3})
    assert json.loads(hatchet("run", "Parent", "--input", given, "--name", "tree", "--wait")) == {
        "spawn": {"numbers": [0, 1, 2]}
    }
    drawn = hatchet("tree", "tree")
    assert all(f"child{number}" in drawn for number in range(3))
    assert "tree" in hatchet("list")
    listed = json.loads(hatchet("list", "--children", "--output=json"))
    children = {child["metadata"]["name"] for child in children_of(kubectl, kubectl.get("wfr", "tree"))}
    assert {item["metadata"]["name"] for item in listed["items"]} == {"tree", *children}
    assert "Succeeded" in hatchet("get", "tree")
    assert hatchet("logs", "tree", "--children").count('"executed"') == 4
    assert POOL in hatchet("top", "--once")

    hatchet("run", "Child", "--input", json.dumps({"number": 1}), "--name", "fails")  # it needs "seconds"
    assert finished(kubectl, "fails")["status"]["phase"] == "Failed"
    assert "KeyError: 'seconds'" in hatchet("why", "fails")
    assert hatchet("list", "--phase=failed", "--output=name").split() == ["workflowrun.hatchet-operator.dev/fails"]
    hatchet("schedule", "Child", "--in", "1h", "--input", json.dumps({"number": 2, "seconds": 0}), "--name", "later")
    assert status_of(kubectl, "later").get("phase", "Pending") == "Pending"
    hatchet("events", "push", "nobody:listens")

    told = hatchet("retry", "fails", code=1)
    assert "forbidden" in told.lower()
    assert "Traceback" not in told
    assert finished(kubectl, "fails")["spec"].get("reruns", 0) == 0


def test_somebody_who_may_also_change_runs_cancels_suspends_and_repeats_them(kubectl: Kubectl, tmp_path: Path) -> None:
    hatchet = make_analyst(kubectl, tmp_path)
    hatchet.may(*RULES, MAY_CHANGE)
    start_pool(kubectl, SLOW_FAN_OUT)

    hatchet("run", "Child", "--input", json.dumps({"number": 1, "seconds": 0}), "--name", "held", "--suspended")
    assert status_of(kubectl, "held").get("phase", "Pending") == "Pending"
    hatchet("resume", "held")
    assert finished(kubectl, "held")["status"]["phase"] == "Succeeded"
    hatchet("replay", "held")
    kubectl.wait("jsonpath={.status.reruns}=1", "workflowrun/held")
    assert finished(kubectl, "held")["status"]["phase"] == "Succeeded"

    hatchet("run", "Child", "--input", json.dumps({"number": 1, "seconds": 280}), "--name", "long")
    hatchet("cancel", "long")
    assert finished(kubectl, "long")["status"]["phase"] == "Cancelled"
    hatchet("run", "Child", "--input", json.dumps({"number": 1}), "--name", "fails")
    assert finished(kubectl, "fails")["status"]["phase"] == "Failed"
    hatchet("retry", "fails")
    kubectl.wait("jsonpath={.status.reruns}=1", "workflowrun/fails")
    assert finished(kubectl, "fails")["status"]["phase"] == "Failed", "the input is the same"
