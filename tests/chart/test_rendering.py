"""What Helm makes of values, and which values it refuses."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from hatchet_operator.resources.crds import load_crds
from tests.kube.helm import CHART, RELEASE, Helm, HelmError, Json, aggregates_to, of_kind

HOST = "hatchet-operator.operators.svc"


def the(objects: list[Json], kind: str) -> Json:
    (found,) = of_kind(objects, kind)
    return found


def args_of(objects: list[Json]) -> list[str]:
    args: list[str] = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


@pytest.mark.parametrize("values", ["", "tls.mode=none", "namespace=etl", "tls.mode=certManager,tls.issuer.name=ca"])
def test_helm_finds_nothing_to_complain_about(values: str, helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), f"--set={values}")


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ("replcas=3", "additional properties 'replcas' not allowed"),
        ("replicas=-1", "at '/replicas': minimum: got -1, want 0"),
        ("grpc.port=70000", "at '/grpc/port': maximum: got 70,000, want 65,535"),
        ("leaderElection.leaseDuration=1s", "at '/leaderElection/leaseDuration': '1s' does not match pattern"),
        ("leaderElection.seconds=10", "additional properties 'seconds' not allowed"),
        ("runs.ttl=1w", "at '/runs/ttl': '1w' does not match pattern"),
        ("runs.maxLosses=0", "at '/runs/maxLosses': minimum: got 0, want 1"),
        ("tls.mode=mtls", "at '/tls/mode': value must be one of 'own', 'certManager', 'none'"),
        ("tls.mode=certManager", "at '/tls/issuer': missing property 'name'"),
        ("namespace=My_Space", "at '/namespace': 'My_Space' does not match pattern"),
        ("image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("metrics.serviceMonitor.interval=often", "'often' does not match pattern"),
        ("grpc.service.type=ExternalName", "value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(values: str, want: str, helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(values)
    assert want in str(refused.value)


def test_tls_is_the_operators_own_by_default(helm: Helm) -> None:
    objects = helm.render()
    names = [f"--tls-name={name}" for name in ("hatchet-operator.operators", f"{HOST}.cluster.local")]
    assert {"--tls=own", *names, f"--grpc-advertise={HOST}:7070"} <= set(args_of(objects))
    assert next(of_kind(objects, "Service"))["spec"]["ports"][0]["appProtocol"] == "https"


def test_more_names_are_for_whoever_makes_the_certificate(helm: Helm) -> None:
    names = "tls.names={hatchet.example.com}"
    assert "--tls-name=hatchet.example.com" in args_of(helm.render(names))
    certificate = the(helm.render(names, "tls.mode=certManager,tls.issuer.name=ca"), "Certificate")
    want = [HOST, "hatchet-operator.operators", f"{HOST}.cluster.local", "hatchet.example.com"]
    assert certificate["spec"]["dnsNames"] == want


def test_a_certificate_of_cert_manager_is_read_from_its_secret(helm: Helm) -> None:
    objects = helm.render("tls.mode=certManager,tls.issuer.name=ca,tls.issuer.kind=ClusterIssuer")
    certificate = the(objects, "Certificate")["spec"]
    assert certificate["issuerRef"] == {"name": "ca", "kind": "ClusterIssuer"}
    pod = the(objects, "Deployment")["spec"]["template"]["spec"]
    (volume,), (mount,) = pod["volumes"], pod["containers"][0]["volumeMounts"]
    assert volume["secret"] == {"secretName": certificate["secretName"], "defaultMode": 0o440}
    assert mount == {"name": "tls", "mountPath": "/tls", "readOnly": True}
    files = [
        f"--tls-{name}-file=/tls/{file}" for name, file in (("cert", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt"))
    ]
    assert {"--tls=files", *files} <= set(args_of(objects))


def test_plain_text_is_said_to_meshes(helm: Helm) -> None:
    objects = helm.render("tls.mode=none")
    assert "--tls=none" in args_of(objects)
    assert next(of_kind(objects, "Service"))["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"
    assert "hatchet-operator-ca" not in str(objects)


def test_one_namespace_needs_no_right_in_the_cluster_but_token_reviews(helm: Helm) -> None:
    objects = helm.render("namespace=etl")
    assert "--namespace=etl" in args_of(objects)
    ours = [role for role in of_kind(objects, "ClusterRole") if not aggregates_to(role)]
    assert [role["rules"][0]["resources"] for role in ours] == [["tokenreviews"]]
    assert {role["metadata"]["namespace"] for role in of_kind(objects, "Role")} == {"etl", "operators"}
    binding = the(objects, "ValidatingAdmissionPolicyBinding")["spec"]
    assert binding["matchResources"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "etl"}
    none = helm.render("namespace=etl,workers.serviceAccountTokens=false,aggregatedRoles.enabled=false")
    assert "--token-audience=" in args_of(none)
    assert [*of_kind(none, "ClusterRole"), *of_kind(none, "ClusterRoleBinding")] == []


def test_the_clusters_roles_are_told_of_our_kinds(helm: Helm) -> None:
    roles = {role["metadata"]["name"]: role for role in of_kind(helm.render(), "ClusterRole") if aggregates_to(role)}
    view, edit = roles["hatchet-operator-operators-view"], roles["hatchet-operator-operators-edit"]
    assert aggregates_to(view) == {"view", "edit", "admin"}
    assert aggregates_to(edit) == {"edit", "admin"}
    kinds = {crd["spec"]["names"]["plural"] for crd in load_crds()}
    assert {*view["rules"][0]["resources"]} == {*edit["rules"][0]["resources"]} == kinds
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    written = {resource for rule in edit["rules"] for resource in rule["resources"]}
    assert written == kinds | {"workerpools/scale"}, "and no status"


@pytest.mark.parametrize(
    ("values", "kind", "want"),
    [
        ("crds.install=false", "CustomResourceDefinition", 0),
        ("", "CustomResourceDefinition", 3),
        ("admissionPolicy.enabled=false", "ValidatingAdmissionPolicy", 0),
        ("", "ValidatingAdmissionPolicy", 1),
        ("", "ClusterRole", 4),
        ("aggregatedRoles.enabled=false", "ClusterRole", 2),
        ("networkPolicy.enabled=false", "NetworkPolicy", 0),
        ("", "PodDisruptionBudget", 1),
        ("replicas=1", "PodDisruptionBudget", 0),
        ("podDisruptionBudget.enabled=false", "PodDisruptionBudget", 0),
        ("", "ServiceMonitor", 0),
        ("metrics.serviceMonitor.enabled=true", "ServiceMonitor", 1),
        ("", "Certificate", 0),
    ],
)
def test_what_can_be_left_out(values: str, kind: str, want: int, helm: Helm) -> None:
    assert len(list(of_kind(helm.render(values), kind))) == want


def test_the_crds_are_the_repositorys_and_stay(helm: Helm) -> None:
    rendered = list(of_kind(helm.render(), "CustomResourceDefinition"))
    want = {crd["metadata"]["name"]: crd["spec"] for crd in load_crds()}
    assert {crd["metadata"]["name"]: crd["spec"] for crd in rendered} == want
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in rendered} == {"keep"}


def test_a_package_has_the_crds_themselves(helm: Helm, tmp_path: Path) -> None:
    helm("package", str(CHART), f"--destination={tmp_path}")
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        crds = [member for member in archive if "/files/crds/" in member.name]
    assert len(crds) == 3
    assert all(member.isreg() and member.size for member in crds)


def test_probes_ask_what_the_operator_serves(helm: Helm) -> None:
    container = the(helm.render(), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert {field["name"] for field in container["env"]} == {"POD_IP", "POD_NAME", "POD_UID"}


def test_nothing_differs_when_nothing_changed(helm: Helm) -> None:
    """Argo CD and Flux render again and again; what is random would be rolled out each time."""
    assert helm.render() == helm.render()


def test_the_service_can_be_reached_from_outside(helm: Helm) -> None:
    grpc, metrics = of_kind(
        helm.render("grpc.service.type=LoadBalancer", "grpc.service.annotations.scheme=internal"), "Service"
    )
    assert grpc["spec"]["type"] == "LoadBalancer"
    assert grpc["metadata"]["annotations"] == {"scheme": "internal"}
    assert metrics["spec"]["clusterIP"] == "None"


def test_the_service_has_no_selector(helm: Helm) -> None:
    grpc, metrics = of_kind(helm.render(), "Service")
    assert "selector" not in grpc["spec"]
    assert metrics["spec"]["selector"]["app.kubernetes.io/instance"] == RELEASE


def test_helm_test_checks_the_certificate_of_who_leads(helm: Helm) -> None:
    pod = the(helm.render(), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["containers"][0]["command"][-3:] == [HOST, "7070", "/ca/ca.crt"]
    (volume,) = pod["spec"]["volumes"]
    want = {"secretName": "hatchet-operator-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert volume["secret"] == want, "and not the key"


def test_the_notes_tell_the_next_command(helm: Helm) -> None:
    notes = helm("install", RELEASE, str(CHART), "--dry-run=client", "--set=namespace=etl")
    assert "serves the namespace etl" in notes
    assert "helm --namespace=operators test hatchet-operator" in notes
    assert "kubectl --namespace=etl apply -f - <<EOF" in notes
    assert "no run is deleted" in notes
    assert "serves all namespaces" in helm("install", RELEASE, str(CHART), "--dry-run=client")
