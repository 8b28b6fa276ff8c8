"""What Helm makes of values, and which values it refuses."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hatchet_operator.resources.crds import load_crds
from tests.kube.helm import CHART, CRDS_CHART, RELEASE, Helm, HelmError, Json, aggregates_to, of_kind, serving

HOST = "hatchet-operator.operators.svc"


def the(objects: list[Json], kind: str) -> Json:
    (found,) = of_kind(objects, kind)
    return found


def args_of(objects: list[Json]) -> list[str]:
    args: list[str] = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


@pytest.mark.parametrize(
    "values", ["", "tls.mode=none", "namespaces={etl,ml}", "tls.mode=certManager,tls.issuer.name=ca"]
)
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
        ("fullnameOverride=7up", "at '/fullnameOverride': '7up' does not match pattern"),
        ("nameOverride=My_Name", "at '/nameOverride': 'My_Name' does not match pattern"),
        ("namespaces={My_Space}", "at '/namespaces/0': 'My_Space' does not match pattern"),
        ("namespaces={etl,etl}", "at '/namespaces': items at 0 and 1 are equal"),
        ("namespace=etl", "additional properties 'namespace' not allowed"),
        ("image.pullPolicy=Sometimes", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("metrics.podMonitor.interval=often", "'often' does not match pattern"),
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


@pytest.mark.parametrize("named", [["etl"], ["etl", "ml"], ["operators"]], ids=" and ".join)
def test_named_namespaces_need_no_right_in_the_cluster_but_token_reviews(named: list[str], helm: Helm) -> None:
    objects = helm.render(serving(*named))
    assert [arg for arg in args_of(objects) if arg.startswith("--namespace=")] == [f"--namespace={n}" for n in named]
    ours = [role for role in of_kind(objects, "ClusterRole") if not aggregates_to(role)]
    assert [role["rules"][0]["resources"] for role in ours] == [["tokenreviews"]]
    everywhere = the(list(of_kind(helm.render("aggregatedRoles.enabled=false"), "ClusterRole"))[:1], "ClusterRole")
    roles = {
        (role["metadata"]["namespace"], role["metadata"]["name"]): role["rules"] for role in of_kind(objects, "Role")
    }
    assert roles.keys() == {*((name, RELEASE) for name in named), ("operators", f"{RELEASE}-own")}
    assert all(roles[name, RELEASE] == everywhere["rules"] for name in named)
    bound = {(each["metadata"]["namespace"], each["roleRef"]["name"]) for each in of_kind(objects, "RoleBinding")}
    assert bound == roles.keys()
    (selected,) = the(objects, "ValidatingAdmissionPolicyBinding")["spec"]["matchResources"]["namespaceSelector"][
        "matchExpressions"
    ]
    assert selected == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": named}


def test_named_namespaces_need_nothing_in_the_cluster_if_told_so(helm: Helm) -> None:
    none = helm.render("namespaces={etl,ml},workers.serviceAccountTokens=false,aggregatedRoles.enabled=false")
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
        ("", "CustomResourceDefinition", len(load_crds())),
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
        ("metrics.podMonitor.enabled=true", "PodMonitor", 1),
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


def test_light_runs_need_a_version_of_the_crd_and_the_policy(helm: Helm) -> None:
    rendered = list(of_kind(helm.render("runs.light=true"), "CustomResourceDefinition"))
    want = {crd["metadata"]["name"]: crd["spec"] for crd in load_crds(light_runs=True)}
    assert {crd["metadata"]["name"]: crd["spec"] for crd in rendered} == want
    with pytest.raises(HelmError, match=r"runs.light needs admissionPolicy.enabled"):
        helm.render("runs.light=true", "admissionPolicy.enabled=false")


@pytest.mark.parametrize("values", [(), ("runs.light=true",)], ids=["full", "light"])
def test_the_chart_of_the_crds_alone_has_the_same_ones(values: tuple[str, ...], helm: Helm) -> None:
    rendered = list(of_kind(helm.render(*values), "CustomResourceDefinition"))
    alone = helm.render(*values, chart=CRDS_CHART)
    assert [body["spec"] for body in alone] == [body["spec"] for body in rendered]
    assert {body["metadata"]["annotations"]["helm.sh/resource-policy"] for body in alone} == {"keep"}


def test_both_charts_have_one_version_and_name_the_kinds() -> None:
    ours, alone = (yaml.safe_load((chart / "Chart.yaml").read_text()) for chart in (CHART, CRDS_CHART))
    assert (ours["version"], ours["appVersion"]) == (alone["version"], alone["appVersion"])
    named = yaml.safe_load(ours["annotations"]["artifacthub.io/crds"])
    stored = {
        crd["metadata"]["name"]: (crd["spec"]["names"]["kind"], version["name"])
        for crd in load_crds()
        for version in crd["spec"]["versions"]
        if version["storage"]
    }
    assert {each["name"]: (each["kind"], each["version"]) for each in named} == stored


def test_a_package_has_the_crds_themselves(helm: Helm, tmp_path: Path) -> None:
    helm("package", str(CHART), f"--destination={tmp_path}")
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        crds = [member for member in archive if "/files/crds/" in member.name]
    assert len(crds) == len(load_crds())
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


def ports_let_in(objects: list[Json]) -> dict[str, bool]:
    """Return which ports the NetworkPolicy opens, and whether only for some."""
    rules = the(objects, "NetworkPolicy")["spec"]["ingress"]
    return {rule["ports"][0]["port"]: "from" in rule for rule in rules}


def test_events_come_to_a_port_of_their_own_if_at_all(helm: Helm) -> None:
    without, objects = helm.render(), helm.render("events.port=7080")
    assert not any(arg.startswith("--events-port") for arg in args_of(without))
    assert ports_let_in(without) == {"grpc": True, "metrics": False}
    assert ports_let_in(objects) == {"grpc": True, "events": False, "metrics": False}
    some = helm.render("events.port=7080", "networkPolicy.eventsFrom[0].podSelector.matchLabels.app=ingress")
    assert ports_let_in(some)["events"]
    (service, _) = of_kind(objects, "Service")
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("grpc", 7070), ("events", 7080)]
    container = the(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "events", "containerPort": 7080} in container["ports"]
    assert not any(arg.startswith("--rest-url") for arg in args_of(objects))
    elsewhere = helm.render("events.port=7080", "events.restUrl=https://hatchet.example.com/rest")
    assert "--rest-url=https://hatchet.example.com/rest" in args_of(elsewhere)


@pytest.mark.parametrize("port", [7070, 8080])
def test_a_port_for_events_that_is_taken_is_refused(port: int, helm: Helm) -> None:
    with pytest.raises(HelmError, match=rf"events.port is {port}, which is grpc.port or metrics.port"):
        helm.render(f"events.port={port}")


def test_the_store_of_payloads_gets_its_credentials_key_and_variables(helm: Helm) -> None:
    values = "payloads.store=s3://bucket/runs,payloads.variables.AWS_REGION=eu-central-1"
    more = "payloads.credentialsSecret=bucket,payloads.keySecret=seal"
    (container,) = the(helm.render(f"{values},{more}"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {"--payload-store=s3://bucket/runs", "--payload-variable=AWS_REGION"} <= set(container["args"])
    env = {entry["name"]: entry for entry in container["env"]}
    assert env["AWS_REGION"]["value"] == "eu-central-1"
    assert env["HATCHET_OPERATOR_PAYLOAD_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "seal", "key": "key"}
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]


def test_a_volume_with_payloads_is_mounted_where_the_store_is(helm: Helm) -> None:
    values = "payloads.store=file:///payloads,payloads.volume.nfs.server=nfs,payloads.volume.nfs.path=/p"
    pod = the(helm.render(values), "Deployment")["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "payloads", "nfs": {"server": "nfs", "path": "/p"}}]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "payloads", "mountPath": "/payloads"}]


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ("payloads.store=bucket", "at '/payloads/store': 'bucket' does not match pattern"),
        ("payloads.inlineBytes=300000", "at '/payloads/inlineBytes': maximum: got 300,000, want 262,144"),
        ("payloads.volume.nfs.path=/p", 'payloads.volume is for a store file:///folder, and payloads.store is ""'),
        ("payloads.keySecret=seal", "payloads.keySecret encrypts what is in payloads.store, which is not given"),
    ],
)
def test_a_store_of_payloads_that_makes_no_sense_is_refused(values: str, want: str, helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(values)
    assert want in str(refused.value)


def test_each_shard_has_a_service_and_rights_for_it(helm: Helm) -> None:
    objects = helm.render("shards=3", "events.port=7180", "tls.mode=certManager", "tls.issuer.name=ca")
    names = [f"hatchet-operator-shard-{shard}" for shard in range(3)]
    *services, _ = of_kind(objects, "Service")
    assert [service["metadata"]["name"] for service in services] == names
    assert not any("selector" in service["spec"] for service in services)
    assert [[port["port"] for port in service["spec"]["ports"]] for service in services] == [[7070, 7180]] * 3
    assert [service["spec"]["ports"][0]["targetPort"] for service in services] == [7071, 7072, 7073]
    assert "--shards=3" in args_of(objects)
    assert not [arg for arg in args_of(objects) if arg.startswith("--grpc-advertise")], "each shard has its own"
    certified = the(objects, "Certificate")["spec"]["dnsNames"]
    assert {f"{name}.operators.svc" for name in names} <= set(certified)
    role = next(each for each in of_kind(objects, "Role"))
    named = {rule["resources"][0]: rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule}
    assert named["services"] == names
    assert named["endpointslices"] == [f"{name}-leader" for name in names]
    assert named["configmaps"] == [f"hatchet-operator-rate-limits-{shard}-of-3" for shard in range(3)]
    grpc, events, _ = the(objects, "NetworkPolicy")["spec"]["ingress"]
    assert grpc["ports"] == [{"port": "grpc"}, {"port": 7071, "endPort": 7073}]
    assert events["ports"] == [{"port": "events"}, {"port": 7181, "endPort": 7183}]


@pytest.mark.parametrize(
    ("values", "want"),
    [
        pytest.param("shards=2,namespaces={etl}", 'namespaces has only "etl"', id="one namespace"),
        pytest.param("shards=12,events.port=7075", "port 7075 is needed twice", id="ports that meet"),
        pytest.param("shards=12,metrics.port=7082", "port 7082 is needed twice", id="the port of the metrics"),
        pytest.param("shards=65", "at '/shards': maximum: got 65, want 64", id="too many"),
    ],
)
def test_shards_that_make_no_sense_are_refused(values: str, want: str, helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render(values)
    assert want in str(refused.value)


def test_the_operator_names_its_certificates_for_its_shards(helm: Helm) -> None:
    args = args_of(helm.render("shards=3"))
    assert "--tls-name=hatchet-operator-shard-{shard}.operators" in args


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


EVERYTHING = (
    "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true,tls.mode=certManager,tls.issuer.name=ca,crds.install=false",
)
FOR_ALL_RELEASES = {"hatchet-operator-tokens", "hatchet-operator-ca"}  # of what the operators of a namespace share


def names_of(objects: list[Json]) -> set[tuple[str, str, str]]:
    return {(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]) for body in objects}


@pytest.mark.parametrize(
    ("release", "values", "want"),
    [
        ("hatchet-operator", "", "hatchet-operator"),
        ("prod", "", "prod-hatchet-operator"),
        ("prod", "nameOverride=runs", "prod-runs"),
        ("prod-runs", "nameOverride=runs", "prod-runs"),
        ("prod", "fullnameOverride=runs", "runs"),
        ("prod", "fullnameOverride=runs,nameOverride=ignored", "runs"),
        ("prod", f"fullnameOverride={'a' * 49}-b", "a" * 49),
    ],
)
def test_every_object_is_named_after_the_release_or_as_values_say(
    release: str, values: str, want: str, helm: Helm
) -> None:
    objects = helm.render(*EVERYTHING, *([values] if values else []), release=release)
    names = {name for _, _, name in names_of(objects)}
    assert want in names
    assert {name for name in names if name != want and not name.startswith(f"{want}-")} <= FOR_ALL_RELEASES
    assert {f"--lease-name={want}", f"--grpc-service={want}"} <= set(args_of(objects))
    (pod,) = of_kind(objects, "Pod")
    assert f"{want}.operators.svc" in pod["spec"]["containers"][0]["command"]
    for binding in (*of_kind(objects, "RoleBinding"), *of_kind(objects, "ClusterRoleBinding")):
        role = (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        assert role in {(kind, name) for kind, _, name in names_of(objects)}
        assert [subject["name"] for subject in binding["subjects"]] == [want]
    assert want in {name for role in of_kind(objects, "Role") for name in named_in(role)}, "its rights by name follow"


def named_in(role: Json) -> set[str]:
    return {name for rule in role["rules"] for name in rule.get("resourceNames", [])}


@pytest.mark.parametrize("values", ["", "nameOverride=runs"])
def test_two_releases_in_one_namespace_share_no_object(values: str, helm: Helm) -> None:
    blue, green = (
        names_of(helm.render(*EVERYTHING, serving(served), values, release=release))
        for release, served in (("blue", "etl,ml"), ("green", "shop"))
    )
    assert blue & green == set()


@pytest.mark.parametrize("values", ["namespaces={etl}", "namespaces={etl},fullnameOverride=runs"])
def test_releases_of_one_name_in_two_namespaces_share_no_object(values: str, helm: Helm) -> None:
    # each serves a namespace of its own: operators for the whole cluster are never two
    here = names_of(helm.render(*EVERYTHING, values))
    there = names_of(replace(helm, namespace="elsewhere").render(*EVERYTHING, values.replace("etl", "ml")))
    assert here & there == set()


def test_the_notes_tell_the_next_command(helm: Helm) -> None:
    notes = helm("install", RELEASE, str(CHART), "--dry-run=client", "--set=namespaces={etl,ml}")
    assert "serves the namespaces etl, ml." in notes
    assert "helm --namespace=operators test hatchet-operator" in notes
    assert "kubectl --namespace=etl apply -f - <<EOF" in notes
    assert "no run is deleted" in notes
    assert "serves all namespaces" in helm("install", RELEASE, str(CHART), "--dry-run=client")
