"""The page that the chart installs: it has no rights, and only whoever may reach it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from hatchet_cli.app import app
from tests.chart.test_on_a_real_api import Kubectl, api, kubectl
from tests.kube.helm import CHART, RELEASE, Helm, HelmError, Json, of_kind

__all__ = ["api", "kubectl"]  # its fixtures
NAME = f"{RELEASE}-dashboard"
ON = "dashboard.enabled=true"


def named(objects: list[Json], kind: str) -> Json:
    (found,) = (body for body in of_kind(objects, kind) if body["metadata"]["name"] == NAME)
    return found


def pod_of(objects: list[Json]) -> Json:
    template: Json = named(objects, "Deployment")["spec"]["template"]
    return template


def test_it_is_off_unless_somebody_wants_it(helm: Helm) -> None:
    assert f"{RELEASE}-dashboard" not in json.dumps(helm.render())


def test_it_has_no_token_and_no_role_is_bound_to_it(helm: Helm) -> None:
    objects = helm.render(ON)
    spec = pod_of(objects)["spec"]
    account = named(objects, "ServiceAccount")
    assert spec["serviceAccountName"] == NAME
    assert [each["automountServiceAccountToken"] for each in (spec, account)] == [False, False]
    assert spec["volumes"] == [{"name": "api-server", "configMap": {"name": "kube-root-ca.crt"}}]
    bindings = [*of_kind(objects, "RoleBinding"), *of_kind(objects, "ClusterRoleBinding")]
    assert bindings
    assert not any(NAME in json.dumps(binding) for binding in bindings)


def test_nothing_of_the_operator_selects_its_pods_and_the_other_way_round(helm: Helm) -> None:
    objects = helm.render(ON)
    ours = pod_of(objects)["metadata"]["labels"]
    for body in objects:
        spec = body.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if body["kind"] not in ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget") or not selector:
            continue
        selects = selector.get("matchLabels", selector).items() <= ours.items()
        assert selects == (body["metadata"]["name"] == NAME), body["kind"]


def test_only_the_named_peers_reach_it_if_any_are(helm: Helm) -> None:
    assert named(helm.render(ON), "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": "http"}]}]
    some = helm.render(ON, "networkPolicy.dashboardFrom[0].podSelector.matchLabels.app=oauth2-proxy")
    peers = [{"podSelector": {"matchLabels": {"app": "oauth2-proxy"}}}]
    assert named(some, "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": "http"}], "from": peers}]
    off = helm.render(ON, "networkPolicy.enabled=false")
    assert list(of_kind(off, "NetworkPolicy")) == []


def test_what_the_chart_gives_is_understood(helm: Helm) -> None:
    (container,) = pod_of(
        helm.render(ON, "namespaces={etl,ml}", "dashboard.urls={https://a.example,http://localhost:1}")
    )["spec"]["containers"]
    assert container["command"] == ["hatchet"]
    name, *args = container["args"]
    command: Any = typer.main.get_command(app)
    with command.commands[name].make_context(
        name, [arg for arg in args if not arg.startswith("--namespace=")]
    ) as context:
        given = context.params
    assert given["urls"] == ["https://a.example", "http://localhost:1"]
    assert (given["session"].total_seconds(), given["most_viewers"], given["most_rows"]) == (43200, 50, 200_000)
    assert "--namespace=etl" in args


SECURE = "dashboard.tlsSecret=page-tls,dashboard.urls={https://hatchet.example.com}"


def test_with_a_certificate_all_that_asks_speaks_https(helm: Helm) -> None:
    for values, scheme in (((), "HTTP"), ((SECURE,), "HTTPS")):
        objects = helm.render(ON, *values)
        spec = pod_of(objects)["spec"]
        (container,) = spec["containers"]
        probes = [container[probe]["httpGet"]["scheme"] for probe in ("livenessProbe", "readinessProbe")]
        (port,) = named(objects, "Service")["spec"]["ports"]
        assert (probes, port["appProtocol"]) == ([scheme, scheme], scheme.lower())
    assert {"name": "tls", "secret": {"secretName": "page-tls", "defaultMode": 0o440}} in spec["volumes"]
    assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in container["volumeMounts"]
    assert {"--tls-cert-file=/tls/tls.crt", "--tls-key-file=/tls/tls.key"} <= set(container["args"])


def test_an_address_without_tls_is_refused_for_a_page_with_a_certificate(helm: Helm) -> None:
    with pytest.raises(HelmError, match=r"is opened with https, and dashboard\.urls has http://localhost:8080"):
        helm.render(ON, "dashboard.tlsSecret=page-tls")


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ("dashboard.tlsSecret=Page", "'Page' does not match pattern"),
        ("dashboard.urls={hatchet.example.com}", "'hatchet.example.com' does not match pattern"),
        ("dashboard.urls={https://a.example/hatchet}", "'https://a.example/hatchet' does not match pattern"),
        ("dashboard.urls=null", "at '/dashboard': missing property 'urls'"),
        ("dashboard.session=long", "'long' does not match pattern"),
        ("dashboard.mostViewers=0", "at '/dashboard/mostViewers': minimum: got 0, want 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(values: str, want: str, helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(ON, values)
    assert want in str(refused.value)


def test_helm_finds_nothing_to_complain_about(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), f"--set={ON}")


@pytest.mark.parametrize("values", [(), (SECURE,)], ids=["plain", "with a certificate"])
def test_every_object_is_valid_and_the_pod_is_restricted(values: tuple[str, ...], helm: Helm, kubectl: Kubectl) -> None:
    objects = [body for body in helm.render(ON, *values) if body["metadata"]["name"] == NAME]
    assert {body["kind"] for body in objects} == {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"}
    kubectl.create(*objects, dry_run=True)
    template = pod_of(objects)
    metadata = {"name": "dashboard", "namespace": "operators"} | template["metadata"]
    kubectl.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}, dry_run=True)
