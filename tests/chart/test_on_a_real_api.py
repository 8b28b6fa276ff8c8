"""A real kube-apiserver takes what the chart makes. Nothing runs there: pods are objects and nothing more."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.ownership import read_account
from hatchet_operator.operator import Operator
from hatchet_operator.pace import Pace
from hatchet_operator.settings import Settings, Tls
from tests.e2e.eventually import eventually as eventually_sync
from tests.kube.eventually import eventually
from tests.kube.helm import CHART, RELEASE, Helm, HelmError, Json, of_kind, serving
from tests.kube.real_api import BinariesMissingError, RealApi

CERT_MANAGER_VARIABLE = "HATCHET_TEST_CERT_MANAGER_CRD"
READ_WRITE = ("get", "create", "update", "patch", "delete")
FOREIGN = ("Certificate", "ServiceMonitor")  # kinds of others, whose CRDs are not there
RUN = {
    "apiVersion": "hatchet-operator.dev/v1alpha1",
    "kind": "WorkflowRun",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {"workflow": "any"},
}

RESTRICTED = {
    "serviceAccountName": "default",  # which nobody sets here: controllers are off
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "worker",
            "image": "none",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
POOL = {
    "apiVersion": "hatchet-operator.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool", "namespace": "etl"},
    "spec": {"template": {"spec": RESTRICTED}},
}


class Kubectl:
    """kubectl for the API server of these tests; ``user`` is somebody else than the administrator."""

    def __init__(self, api: RealApi, user: str | None = None) -> None:
        self._command = [str(api.kubectl), f"--kubeconfig={api.kubeconfig}", *([f"--as={user}"] if user else [])]

    def __call__(self, *args: str, stdin: str | None = None) -> str:
        done = self._run(*args, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        assert "Warning" not in done.stderr, done.stderr
        return done.stdout

    def refused(self, *args: str, stdin: str | None = None) -> str:
        """Have kubectl fail, and return what it said."""
        done = self._run(*args, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def finds(self, kinds: str) -> bool:
        return self._run("get", kinds, "--all-namespaces").returncode == 0

    def can(self, verb: str, kind: str, namespace: str) -> bool:
        return self._run("auth", "can-i", verb, kind, f"--namespace={namespace}").stdout.strip() == "yes"

    def may(self, verb: str, resource: str, *, namespace: str = "etl", subresource: str = "") -> bool:
        where = (f"{resource}.hatchet-operator.dev", f"--subresource={subresource}", f"--namespace={namespace}")
        return self._run("auth", "can-i", verb, *where).stdout.strip() == "yes"

    def _run(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._command, *args], input=stdin, capture_output=True, text=True, timeout=60)

    def create(self, *objects: Json, dry_run: bool = False) -> str:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self("create", "--filename=-", f"--dry-run={'server' if dry_run else 'none'}", stdin=text)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    try:
        server = RealApi(tmp_path_factory.mktemp("real-api"), unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(scope="module")
def kubectl(api: RealApi) -> Kubectl:
    """kubectl, and namespaces in which only pods of the restricted standard may run."""
    kubectl = Kubectl(api)
    for name in ("operators", "elsewhere", "etl"):
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
        kubectl.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return kubectl


@pytest.fixture
def controllers(api: RealApi) -> None:
    """Those that the chart counts on."""
    api.start_controllers(("garbage-collector-controller", "clusterrole-aggregation-controller"))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param((), id="defaults"),
        pytest.param(("namespaces={etl}",), id="one namespace"),
        pytest.param(("namespaces={etl,elsewhere}", "shards=2"), id="two namespaces and shards"),
        pytest.param(("tls.mode=none",), id="plain text"),
        pytest.param(("tls.mode=certManager", "tls.issuer.name=ca"), id="cert-manager"),
        pytest.param(("replicas=1", "workers.serviceAccountTokens=false"), id="one operator, pool tokens only"),
        pytest.param(
            (
                "metrics.serviceMonitor.enabled=true",
                "networkPolicy.grpcFrom[0].namespaceSelector.matchLabels.team=etl",
                "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
                "imagePullSecrets[0].name=registry",
                "serviceAccount.name=somebody",
                "serviceAccount.annotations.a=b",
                "podAnnotations.a=b",
                "podLabels.a=b",
                "nodeSelector.disk=fast",
                "tolerations[0].operator=Exists",
                "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
                "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key=metadata.name",
                "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].operator=In",
                "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].values={n}",
                "priorityClassName=system-cluster-critical",
                "tls.names={a.example.com}",
                "grpc.host=::",
                "grpc.service.type=LoadBalancer",
                "grpc.service.annotations.a=b",
            ),
            id="everything",
        ),
    ],
)
def test_every_object_is_valid_and_every_pod_is_restricted(
    values: tuple[str, ...], helm: Helm, kubectl: Kubectl
) -> None:
    objects = [body for body in helm.render(*values) if body["kind"] not in FOREIGN]
    kubectl.create(*objects, dry_run=True)
    (template,) = (body["spec"]["template"] for body in objects if body["kind"] == "Deployment")
    metadata = {"name": "operator", "namespace": "operators"} | template["metadata"]
    kubectl.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}, dry_run=True)


def test_cert_managers_own_definition_takes_the_certificate(helm: Helm, kubectl: Kubectl) -> None:
    definition = os.environ.get(CERT_MANAGER_VARIABLE)
    if not definition:
        pytest.skip(f"set {CERT_MANAGER_VARIABLE} to cert-manager.io_certificates.yaml of cert-manager to run this")
    kubectl("create", f"--filename={definition}")
    kubectl("wait", "--for=condition=Established", "crd/certificates.cert-manager.io", "--timeout=90s")
    objects = helm.render(
        "tls.mode=certManager,tls.issuer.name=ca,tls.issuer.kind=ClusterIssuer,tls.names={a.example.com}"
    )
    (certificate,) = of_kind(objects, "Certificate")
    kubectl.create(certificate)
    stored = json.loads(kubectl("get", "certificate", RELEASE, "--namespace=operators", "--output=json"))
    assert stored["spec"].items() >= certificate["spec"].items(), "and nothing was pruned"


def test_runs_and_their_crds_outlive_upgrades_and_the_release(
    helm: Helm, kubectl: Kubectl, api: RealApi, tmp_path: Path
) -> None:
    helm = replace(helm, kubeconfig=api.kubeconfig)
    chart = tmp_path / "chart"
    subprocess.run(["cp", "--recursive", "--dereference", CHART, chart], check=True)
    helm("install", RELEASE, str(chart))
    until_served(kubectl)
    kubectl.create(RUN)
    crd = chart / "files/crds/workflowruns.yaml"
    crd.write_text(crd.read_text().replace("shortNames:\n    - wfr", "shortNames:\n    - wfr\n    - newer"))
    helm("upgrade", RELEASE, str(chart))
    names = kubectl("get", "crd", "workflowruns.hatchet-operator.dev", "--output=jsonpath={.spec.names.shortNames}")
    assert names == '["wfr","newer"]'
    helm("uninstall", RELEASE)
    assert kubectl("get", "workflowrun", "kept", "--output=name")

    elsewhere = replace(helm, namespace="elsewhere")
    with pytest.raises(HelmError, match="cannot be imported into the current release"):
        elsewhere("install", RELEASE, str(CHART))
    elsewhere("install", RELEASE, str(CHART), "--take-ownership")
    assert kubectl("get", "workflowrun", "kept", "--output=name")
    elsewhere("uninstall", RELEASE)


def test_a_version_that_comes_and_goes_is_served_and_never_stored(helm: Helm, kubectl: Kubectl, api: RealApi) -> None:
    helm = replace(helm, kubeconfig=api.kubeconfig)
    run = {**RUN, "metadata": {"name": "of-all-versions", "namespace": "default"}}

    def versions(path: str) -> list[str]:
        name = "crd/workflowruns.hatchet-operator.dev"
        return kubectl("get", name, f"--output=jsonpath={{{path}}}").split()

    helm("install", RELEASE, str(CHART), "--take-ownership")
    try:
        until_served(kubectl)
        kubectl.create(run)
        for light, served in (("true", ["v1alpha1", "v1alpha1-recorded"]), ("false", ["v1alpha1"])):
            helm("upgrade", RELEASE, str(CHART), f"--set=runs.light={light}")
            assert versions(".spec.versions[?(@.served==true)].name") == served
            assert versions(".status.storedVersions[*]") == ["v1alpha1"], "so an earlier release can read all there is"
            for version in served:
                kind = f"workflowruns.{version}.hatchet-operator.dev"
                eventually_sync(lambda kind=kind: kubectl.finds(kind))  # type: ignore[misc]
                assert kubectl("get", kind, "of-all-versions", "--output=jsonpath={.spec.workflow}") == "any"
    finally:
        kubectl("delete", "workflowrun", "of-all-versions", "--ignore-not-found")
        helm("uninstall", RELEASE)


def test_a_second_release_is_told_whose_the_crds_are(helm: Helm, kubectl: Kubectl, api: RealApi) -> None:
    first = replace(helm, kubeconfig=api.kubeconfig)
    second = replace(first, namespace="elsewhere")
    first("install", RELEASE, str(CHART), "--take-ownership", "--set=namespaces={operators}")
    try:
        for options in ((), ("--take-ownership",)):
            with pytest.raises(HelmError) as refused:
                second("install", "second", str(CHART), "--set=namespaces={elsewhere}", *options)
            assert f'the CRDs of this cluster belong to the release "{RELEASE}" in the namespace "operators"' in str(
                refused.value
            )
            assert "install this one with --set crds.install=false" in str(refused.value)
        second("install", "second", str(CHART), "--set=namespaces={elsewhere},crds.install=false")
        second("uninstall", "second")
        first("upgrade", RELEASE, str(CHART), "--set=namespaces={operators}")
    finally:
        first("uninstall", RELEASE)


def test_two_releases_of_one_name_serve_a_namespace_each(helm: Helm, kubectl: Kubectl, api: RealApi) -> None:
    twins = [replace(helm, kubeconfig=api.kubeconfig, namespace=namespace) for namespace in ("operators", "etl")]
    for twin in twins:
        served = serving(twin.namespace)
        twin("install", "twin-hatchet-operator", str(CHART), f"--set={served},crds.install=false")
    for twin in twins:
        twin("uninstall", "twin-hatchet-operator")


@pytest.mark.parametrize(
    ("there", "beside", "want"),
    [
        pytest.param(
            "namespaces={etl,operators}", "namespaces={elsewhere,etl}", 'the namespace "etl" is served', id="two lists"
        ),
        pytest.param("namespaces={etl}", "", 'the namespace "etl" is served', id="a list, and the whole cluster"),
        pytest.param("", "namespaces={etl}", "every namespace is served", id="the whole cluster, and a list"),
        pytest.param("", "", "every namespace is served", id="the whole cluster twice"),
        pytest.param("namespaces={etl,operators}", "namespaces={elsewhere}", None, id="lists that do not meet"),
        pytest.param("replicas=0", "namespaces={etl}", None, id="one that stands still"),
    ],
)
@pytest.mark.parametrize("where", ["operators", "elsewhere"], ids=["in one namespace", "in two namespaces"])
def test_a_release_that_would_serve_what_another_does_is_refused(
    where: str, there: str, beside: str, want: str | None, helm: Helm, kubectl: Kubectl, api: RealApi
) -> None:
    first = replace(helm, kubeconfig=api.kubeconfig)
    second = replace(first, namespace=where)
    only = "crds.install=false,"
    first("install", RELEASE, str(CHART), f"--set={only}{there}")
    try:
        if want is None:
            second("install", "second", str(CHART), f"--set={only}{beside}")
            second("uninstall", "second")
        else:
            with pytest.raises(HelmError) as refused:
                second("install", "second", str(CHART), f"--set={only}{beside}")
            assert f'{want} by the release "{RELEASE}" in the namespace "operators"' in str(refused.value)
        first("upgrade", RELEASE, str(CHART), f"--set={only}{there}")
    finally:
        first("uninstall", RELEASE)


@pytest.mark.parametrize(
    "served",
    [
        pytest.param((), id="cluster-wide"),
        pytest.param(("etl",), id="one namespace"),
        pytest.param(("elsewhere", "etl"), id="two namespaces"),
    ],
)
async def test_the_rights_suffice_for_a_life_and_a_handover_and_nothing_is_left_behind(
    served: tuple[str, ...],
    helm: Helm,
    kubectl: Kubectl,
    api: RealApi,
    controllers: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    helm = replace(helm, kubeconfig=api.kubeconfig)
    helm("install", RELEASE, str(CHART), "--take-ownership", f"--set={serving(*served)}")
    try:
        until_served(kubectl)
        until_it_may(Kubectl(api, f"system:serviceaccount:operators:{RELEASE}"))
        token = kubectl("create", "token", RELEASE, "--namespace=operators").strip()
        endpoint = Endpoint(server=api.url, token=token, ssl_context=api.endpoint.ssl_context())
        kubectl.create(POOL)
        for ip in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            settings = settings_of(token, served, ip)
            async with running(Operator(settings, endpoint)):
                await eventually(partial(leads_to, kubectl, ip))
        assert len(kubectl("get", "pods", "--namespace=etl", "--output=name").split()) == 1
        assert [record.getMessage() for record in caplog.records if "forbidden" in str(vars(record)).lower()] == []
        assert len(own_objects(kubectl)) == 4
    finally:
        kubectl("delete", "workerpool,pods", "--all", "--namespace=etl", "--wait=false")
        helm("uninstall", RELEASE)

    async def gone() -> bool:
        return not await asyncio.to_thread(own_objects, kubectl)

    await eventually(gone)


async def test_a_namespace_that_may_not_be_read_keeps_no_other_waiting(
    helm: Helm, kubectl: Kubectl, api: RealApi, caplog: pytest.LogCaptureFixture
) -> None:
    helm = replace(helm, kubeconfig=api.kubeconfig)
    helm("install", RELEASE, str(CHART), "--take-ownership", "--set=namespaces={elsewhere,etl}")
    account = Kubectl(api, f"system:serviceaccount:operators:{RELEASE}")
    binding = kubectl("get", "rolebinding", RELEASE, "--namespace=elsewhere", "--output=json")
    try:
        until_served(kubectl)
        until_it_may(account)
        kubectl("delete", "rolebinding", RELEASE, "--namespace=elsewhere")
        eventually_sync(lambda: not account.can("list", "workflowruns.hatchet-operator.dev", "elsewhere"))
        kubectl.create(POOL)
        token = kubectl("create", "token", RELEASE, "--namespace=operators").strip()
        endpoint = Endpoint(server=api.url, token=token, ssl_context=api.endpoint.ssl_context())
        settings = settings_of(token, ("elsewhere", "etl"), "192.0.2.1")
        operator = Operator(settings, endpoint, pace=Pace(unread_looks=0.2))
        ending = asyncio.create_task(operator.run(asyncio.Event()))
        await eventually(partial(leads_to, kubectl, "192.0.2.1"))
        unread = [vars(record).get("namespaces") for record in caplog.records if "may not be read" in record.message]
        assert unread == [["elsewhere"]]
        restored = json.loads(binding)
        del restored["metadata"]["resourceVersion"], restored["metadata"]["uid"]
        kubectl.create(restored)
        async with asyncio.timeout(60):
            await ending  # to be started again, as by the kubelet
        async with running(Operator(settings_of(token, ("elsewhere", "etl"), "192.0.2.2"), endpoint)) as again:
            assert again.engine is not None
            assert again.engine.scope.namespaces == ("elsewhere", "etl")
    finally:
        kubectl("delete", "workerpool,pods", "--all", "--namespace=etl", "--wait=false")
        helm("uninstall", RELEASE)


async def test_who_may_edit_a_namespace_may_use_our_kinds_and_not_do_what_is_the_operators(
    helm: Helm, kubectl: Kubectl, api: RealApi, controllers: None
) -> None:
    helm = replace(helm, kubeconfig=api.kubeconfig)
    helm("install", RELEASE, str(CHART), "--take-ownership")
    viewer, editor = Kubectl(api, "vera"), Kubectl(api, "ed")
    for role, user in (("view", "vera"), ("edit", "ed")):
        kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}", "--namespace=etl")
    try:
        until_served(kubectl)

        async def aggregated() -> bool:
            return await asyncio.to_thread(
                lambda: all(
                    [viewer.may("list", "workflowruns"), *(editor.may(verb, "workflows") for verb in READ_WRITE)]
                )
            )

        await eventually(aggregated)
        for kind in ("workflows", "workflowruns", "workerpools", "webhooksources", "ratelimits"):
            assert all(viewer.may(verb, kind) for verb in ("get", "list", "watch"))
            assert not any(viewer.may(verb, kind) for verb in ("create", "update", "patch", "delete"))
            assert all(editor.may(verb, kind) for verb in READ_WRITE)
            assert not editor.may("update", kind, subresource="status")
            assert not editor.may("list", kind, namespace="elsewhere")

        editor.create(POOL, in_etl("root"))
        editor("scale", "workerpool", "pool", "--replicas=2", "--namespace=etl")
        uid = kubectl("get", "workflowrun", "root", "--namespace=etl", "--output=jsonpath={.metadata.uid}")

        async def guarded() -> bool:
            child = in_etl("child", parent={"name": "root", "uid": uid, "step": "work", "index": 0})
            said = await asyncio.to_thread(
                editor.refused, "create", "--filename=-", "--dry-run=server", stdin=json.dumps(child)
            )
            return "spec.parent is set by the operator only" in said

        await eventually(guarded)
        said = editor.refused(
            "patch", "workflowrun", "root", "--namespace=etl", "--subresource=status", "--type=merge", "--patch={}"
        )
        assert 'cannot patch resource "workflowruns/status"' in said
        editor("delete", "workflowrun", "root", "--namespace=etl")
    finally:
        kubectl("delete", "workerpool,workflowrun,rolebinding", "--all", "--namespace=etl", "--wait=false")
        helm("uninstall", RELEASE)


def settings_of(token: str, served: tuple[str, ...], ip: str) -> Settings:
    return Settings(
        namespaces=served,
        operator_namespace="operators",
        owner=read_account(token),
        leader_election=True,
        lease_name=RELEASE,
        grpc_service=RELEASE,
        grpc_advertise="hatchet-operator.operators.svc:7070",
        pod_ip=ip,
        tls=Tls.OWN,
        token_audience="hatchet-operator",
    )


def until_served(kubectl: Kubectl) -> None:
    """Wait until kubectl finds our kinds: discovery has a CRD a moment after it is established."""
    kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=90s")
    eventually_sync(lambda: kubectl.finds("workflows,workflowruns,workerpools,webhooksources,ratelimits"))


def until_it_may(account: Kubectl) -> None:
    """Wait until each of the operator's bindings is in effect, which is a moment after it was made."""
    eventually_sync(
        lambda: all(
            account.can(verb, kind, namespace)
            for verb, kind, namespace in (
                ("create", "tokenreviews.authentication.k8s.io", "operators"),
                ("create", "leases.coordination.k8s.io", "operators"),
                ("list", "workflowruns.hatchet-operator.dev", "etl"),
            )
        )
    )


def in_etl(name: str, **spec: object) -> Json:
    return {**RUN, "metadata": {"name": name, "namespace": "etl"}, "spec": {"workflow": "any", **spec}}


def own_objects(kubectl: Kubectl) -> list[str]:
    """What the operator made for itself, which Helm knows nothing of."""
    found = kubectl("get", "leases,endpointslices,secrets", "--namespace=operators", "--output=name").split()
    return [name for name in found if "/hatchet-operator" in name]


@asynccontextmanager
async def running(operator: Operator) -> AsyncIterator[Operator]:
    stop = asyncio.Event()
    task = asyncio.create_task(operator.run(stop))
    try:
        async with asyncio.timeout(90):
            await operator.ready.wait()
        yield operator
    finally:
        stop.set()
        await task


async def leads_to(kubectl: Kubectl, ip: str) -> bool:
    """Whether the Service leads there, and the pool has its pod."""
    path = "--output=jsonpath={.items[*].endpoints[*].addresses}"
    slices = await asyncio.to_thread(kubectl, "get", "endpointslices", "--namespace=operators", path)
    pods = await asyncio.to_thread(kubectl, "get", "pods", "--namespace=etl", "--output=name")
    return ip in slices and bool(pods)
