"""What the cluster does to the operator's pods: who reaches them, how they are spread, replaced, probed and scraped.

None of it is noticed while all is well, so each value is stated here with what it is for.
"""

from __future__ import annotations

import pytest
import yaml

from tests.e2e.kubectl import MANIFESTS
from tests.kube.helm import Helm, Json, of_kind

PEERS = "networkPolicy.grpcFrom[0].namespaceSelector.matchLabels.team=etl"
SCRAPERS = "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus"


def the(objects: list[Json], kind: str) -> Json:
    (found,) = of_kind(objects, kind)
    return found


def selects(selector: Json, labels: Json) -> bool:
    """Whether a selector, which has labels only, takes an object."""
    assert selector.keys() == {"matchLabels"}
    return bool(selector["matchLabels"].items() <= labels.items())


@pytest.fixture(scope="module")
def objects(helm: Helm) -> list[Json]:
    return helm.render("metrics.serviceMonitor.enabled=true")


@pytest.fixture(scope="module")
def deployment(objects: list[Json]) -> Json:
    spec: Json = the(objects, "Deployment")["spec"]
    return spec


@pytest.fixture(scope="module")
def container(deployment: Json) -> Json:
    (found,) = deployment["template"]["spec"]["containers"]
    one: Json = found
    return one


def test_the_deployment_its_budget_and_its_policy_are_about_the_same_pods(
    objects: list[Json], deployment: Json
) -> None:
    labels = deployment["template"]["metadata"]["labels"]
    (constraint,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    selectors = [
        deployment["selector"],
        constraint["labelSelector"],
        the(objects, "PodDisruptionBudget")["spec"]["selector"],
        the(objects, "NetworkPolicy")["spec"]["podSelector"],
    ]
    assert [selects(selector, labels) for selector in selectors] == [True] * 4
    (probe,) = of_kind(objects, "Pod")
    assert not any(selects(selector, probe["metadata"].get("labels", {})) for selector in selectors)


def test_worker_pods_of_all_namespaces_and_standbys_reach_grpc_and_anybody_the_metrics(objects: list[Json]) -> None:
    policy = the(objects, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"], "the operator itself may reach the API server"
    workers = {
        "namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": "hatchet-operator.dev/pool", "operator": "Exists"}]},
    }
    standbys = {"podSelector": policy["podSelector"]}
    assert policy["ingress"] == [
        {"ports": [{"port": "grpc"}], "from": [workers, standbys]},
        {"ports": [{"port": "metrics"}]},
    ]


@pytest.mark.parametrize("manifest", ["client.yaml", "deployment.yaml"])
def test_pods_that_no_pool_makes_are_let_in_as_the_chart_is_by_default(manifest: str, objects: list[Json]) -> None:
    """The cluster tests' own pods; not every cluster enforces policies, so that they would not notice."""
    *_, pod = yaml.safe_load_all((MANIFESTS / manifest).read_text())
    labels = pod["spec"].get("template", pod)["metadata"].get("labels", {})
    let_in, _ = the(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    (expression,) = let_in["podSelector"]["matchExpressions"]
    assert expression["key"] in labels


def test_further_peers_are_let_in_beside_the_workers(helm: Helm) -> None:
    grpc, metrics = the(helm.render(f"{PEERS},{SCRAPERS}"), "NetworkPolicy")["spec"]["ingress"]
    assert [peer.keys() for peer in grpc["from"]] == [
        {"namespaceSelector", "podSelector"},
        {"podSelector"},
        {"namespaceSelector"},
    ]
    assert grpc["from"][2] == {"namespaceSelector": {"matchLabels": {"team": "etl"}}}
    assert metrics == {
        "ports": [{"port": "metrics"}],
        "from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
    }


def test_ports_that_are_named_are_the_containers(objects: list[Json], container: Json) -> None:
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert named == {"grpc": 7070, "metrics": 8080}
    assert {"--grpc-port=7070", "--metrics-port=8080"} <= set(container["args"])
    asked_for = {rule["ports"][0]["port"] for rule in the(objects, "NetworkPolicy")["spec"]["ingress"]} | {
        container[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "liveness", "readiness")
    }
    assert asked_for == named.keys()


def test_prometheus_finds_the_metrics_of_each_operator_once(objects: list[Json], deployment: Json) -> None:
    """A ServiceMonitor names a port of Services that it selects; the one for gRPC leads to the leader only."""
    monitor = the(objects, "ServiceMonitor")["spec"]
    found = [each for each in of_kind(objects, "Service") if selects(monitor["selector"], each["metadata"]["labels"])]
    assert [each["metadata"]["name"] for each in found] == ["hatchet-operator-metrics"]
    service = found[0]["spec"]
    (endpoint,) = monitor["endpoints"]
    (port,) = service["ports"]
    assert (endpoint["port"], port["targetPort"]) == (port["name"], "metrics")
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    assert service["clusterIP"] == "None", "standbys are scraped too, each by its own address"


def test_a_drain_takes_one_operator_at_a_time(objects: list[Json]) -> None:
    """More than one, and there may be no standby; none, and a drain would never end."""
    budget = the(objects, "PodDisruptionBudget")["spec"]
    assert {name: value for name, value in budget.items() if name != "selector"} == {"maxUnavailable": 1}


def test_a_rollout_has_a_new_operator_ready_before_an_old_one_goes(deployment: Json) -> None:
    assert deployment["strategy"].get("type", "RollingUpdate") == "RollingUpdate"
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment["replicas"] == 2


def test_operators_are_on_different_nodes_where_there_are_several(deployment: Json) -> None:
    (constraint,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["maxSkew"]) == ("kubernetes.io/hostname", 1)
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", "one node has to do as well"
    assert constraint["matchLabelKeys"] == ["pod-template-hash"], "old pods of a rollout don't count"


@pytest.mark.parametrize(
    ("probe", "want_seconds"),
    [
        pytest.param("startup", (30, 120), id="a slow machine has time to start the process"),
        pytest.param("liveness", (30, 90), id="one hiccup ends nobody, and who makes no progress is ended soon"),
        pytest.param("readiness", (2, 10), id="a rollout goes on within seconds"),
    ],
)
def test_how_long_a_probe_may_fail(probe: str, want_seconds: tuple[int, int], container: Json) -> None:
    timing = container[f"{probe}Probe"]
    takes = timing.get("periodSeconds", 10) * timing.get("failureThreshold", 3)
    shortest, longest = want_seconds
    assert shortest <= takes <= longest
    assert timing.get("timeoutSeconds", 1) <= timing.get("periodSeconds", 10)


def test_resources_reach_the_container(helm: Helm, container: Json) -> None:
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}, "a limit of the CPU would delay the Lease"
    (given,) = the(helm.render("resources.limits.memory=3Gi"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert given["resources"]["limits"] == {"memory": "3Gi"}
