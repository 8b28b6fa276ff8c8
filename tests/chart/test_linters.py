"""What linters of Kubernetes manifests find in the chart, and why it is meant so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.kube.helm import Helm, Json

VARIABLE = "HATCHET_TEST_CHECKOV"
BUILT = Path(__file__).parents[2] / ".venv/checkov/bin/checkov"  # by make checkov
SCORE_BUILT = Path(__file__).parents[2] / ".venv/kube-score/kube-score"  # by make kube-score
EVERYTHING = (
    "shards=2,events.port=7180,dashboard.enabled=true",
    "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true",
)
OPERATOR, PAGE, TEST = (
    "Deployment.operators.hatchet-operator",
    "Deployment.operators.hatchet-operator-dashboard",
    "Pod.operators.hatchet-operator-test",
)
REASONS = {
    ("CKV_K8S_11", "CPU limits"): ((OPERATOR, PAGE, TEST), "an operator that is throttled renews its Lease late"),
    ("CKV_K8S_43", "digests"): (
        (OPERATOR, PAGE, TEST),
        "image.tag may be TAG@sha256:DIGEST; which one, a release says",
    ),
    ("CKV_K8S_15", "pull always"): ((OPERATOR, PAGE, TEST), "tags are never moved, and a node may be cut off"),
    ("CKV_K8S_38", "API token"): ((OPERATOR,), "the API server is all that an operator works with"),
    ("CKV_K8S_8", "liveness"): ((TEST,), "it ends by itself, within a minute"),
    ("CKV_K8S_9", "readiness"): ((TEST,), "nobody asks it anything"),
    ("CKV2_K8S_6", "NetworkPolicy"): ((TEST,), "it listens to nobody"),
}
ALL_IS_WELL = 10
NOT_WRITTEN = "nothing is written: the root file system is read-only, and there is no emptyDir"
SCORE_REASONS = {
    "container-resources": ((OPERATOR, PAGE, TEST), "an operator that is throttled renews its Lease late"),
    "container-ephemeral-storage-request-and-limit": ((OPERATOR, PAGE, TEST), NOT_WRITTEN),
    "container-image-pull-policy": ((OPERATOR, PAGE, TEST), "tags are never moved, and a node may be cut off"),
    "pod-networkpolicy": (
        (OPERATOR, PAGE, TEST),
        "no policy of egress can name an API server; the test listens to nobody",
    ),
    "pod-probes": ((TEST,), "nobody asks it anything"),
    "pod-probes-identical": ((PAGE,), "it has nothing to get ready"),
    "deployment-has-host-podantiaffinity": ((OPERATOR,), "topologySpreadConstraints spread the operators"),
    "deployment-replicas": ((PAGE,), "sessions are in the memory of one"),
    "deployment-strategy": ((PAGE,), "sessions are in the memory of one"),
}


@pytest.fixture(scope="module")
def checkov() -> str:
    found = os.environ.get(VARIABLE) or (str(BUILT) if BUILT.exists() else shutil.which("checkov"))
    if found is None:
        pytest.skip(f"needs checkov: make checkov, in the PATH, or where {VARIABLE} says")
    return found


def found_in(checkov: str, folder: Path) -> set[tuple[str, str]]:
    """Return what is found in a folder's files: the check, and the object."""
    options = ("--framework=kubernetes", "--compact", "--quiet", "--skip-download", "--soft-fail", "--output=json")
    command = [checkov, f"--directory={folder}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report: Json = json.loads(done.stdout)
    assert report["summary"]["resource_count"] > 20, "it has looked at something"
    assert report["summary"]["parsing_errors"] == 0
    return {(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]}


@pytest.mark.timeout(300)
def test_checkov_finds_nothing_but_what_has_a_reason(checkov: str, helm: Helm, tmp_path: Path) -> None:
    for name, values in (("usual", ()), ("everything", EVERYTHING)):
        objects = helm.render("crds.install=false", *values)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
    want = {(check, each) for (check, _), (objects, _) in REASONS.items() for each in objects}
    assert found_in(checkov, tmp_path) == want


@pytest.fixture(scope="module")
def kube_score() -> str:
    found = str(SCORE_BUILT) if SCORE_BUILT.exists() else shutil.which("kube-score")
    if found is None:
        pytest.skip("needs kube-score: make kube-score, or in the PATH")
    return found


def test_kube_score_finds_nothing_but_what_has_a_reason(kube_score: str, helm: Helm) -> None:
    objects = helm.render("crds.install=false", *EVERYTHING)
    command = [kube_score, "score", "--output-format=json", "--kubernetes-version=v1.31", "-"]
    done = subprocess.run(command, input=yaml.safe_dump_all(objects), capture_output=True, text=True, timeout=60)
    report: list[Json] = json.loads(done.stdout)
    assert len(report) > 5, "it has looked at something"
    found = {
        (
            check["check"]["id"],
            "{kind}.{namespace}.{name}".format(kind=each["type_meta"]["kind"], **each["object_meta"]),
        )
        for each in report
        for check in each["checks"]
        if not check["skipped"] and check["grade"] < ALL_IS_WELL
    }
    assert found == {(check, each) for check, (objects_of_it, _) in SCORE_REASONS.items() for each in objects_of_it}
