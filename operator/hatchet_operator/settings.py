"""What can be configured: one table, the source of options, environment variables and the chart's values.

A field of `Settings` is a row. The module `cli` derives an option and a variable of ``hatchet-operator run`` from it,
and the chart has a value for it, or it says why not; tests/chart/test_settings.py compares the chart with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

SHARD = "{shard}"
"""In an address: the number of the shard that is reached there."""

NOWHERE = ("0.0.0.0", "::", "[::]")  # noqa: S104  # where one may listen, but nobody can be reached


class Tls(StrEnum):
    """Whose certificate the gRPC server presents."""

    NONE = "none"  # it speaks plain text
    OWN = "own"  # of an authority that the operator creates and rotates, in the Secret hatchet-operator-ca
    FILES = "files"  # in files that are renewed by something else, such as cert-manager


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a person sets a field of `Settings`.

    Attributes:
        help: What it means, as a sentence.
        unset: What is done without it, if the default does not say so.
        option: Its option, if that differs from the field's name.
        env: Its variable, if that differs from the field's name.
        least, most: The bounds of a number, or of a duration.
        chart: The chart's value.
        no_chart: Why the chart has none; what it gives instead, if anything.
        nobody: Why nobody can set it.
    """

    help: str
    unset: str | None = None
    option: str | None = None
    env: str | None = None
    least: int | timedelta | None = None
    most: int | timedelta | None = None
    chart: str | None = None
    no_chart: str | None = None
    nobody: str | None = None


_PORT = 65535
_MOST_INLINE = 256 * 1024  # what a run has room for, see resources/limits.py
_FROM_MODE = "it follows from tls.mode"
_FROM_POD = "the Deployment gives what the Pod says of itself"
_INSTANT = timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one operator process."""

    namespaces: Annotated[
        tuple[str, ...],
        Setting(
            help="A namespace to serve; given again, one more.",
            unset="all of the cluster",
            option="--namespace",
            env="HATCHET_OPERATOR_NAMESPACE",
            chart="namespaces",
        ),
    ] = ()
    grpc_host: Annotated[str, Setting(help="Address to listen on for workers.", chart="grpc.host")] = "127.0.0.1"
    grpc_port: Annotated[
        int, Setting(help="Port for workers; 0: a free one.", unset="7070", least=0, most=_PORT, chart="grpc.port")
    ] = 0
    grpc_advertise: Annotated[
        str | None,
        Setting(
            help="host:port that worker pods connect to; with shards, {shard} in it stands for the shard's number.",
            unset="where it listens",
            no_chart="it follows from the release's name and grpc.port",
        ),
    ] = None
    events_port: Annotated[
        int | None,
        Setting(
            help="Port for events and webhooks over HTTP, at the address for workers; 0: a free one.",
            unset="none",
            least=0,
            most=_PORT,
            chart="events.port",
        ),
    ] = None
    rest_url: Annotated[
        str | None,
        Setting(
            help="URL by which clients of Hatchet's REST API find the port for events; it is part of pools' tokens.",
            unset="that port, at the host of --grpc-advertise",
            chart="events.restUrl",
        ),
    ] = None
    token_key: Annotated[
        str | None,
        Setting(
            help="Secret that pool tokens are signed with; prefer its variable, since ps shows options.",
            unset='kept in the Secret "hatchet-operator-tokens", and made at the first start',
            no_chart="values are no place for secrets, and the operator makes it and keeps it in a Secret",
        ),
    ] = None
    token_audience: Annotated[
        str | None,
        Setting(
            help='Audience of the service-account tokens that worker pods present; "": only pools\' tokens count.',
            unset="in a cluster: hatchet-operator",
            no_chart="it follows from workers.serviceAccountTokens",
        ),
    ] = None
    tls: Annotated[
        Tls,
        Setting(
            help="Whose certificate workers see. own: of a CA that the operator makes, keeps and rotates.",
            no_chart=_FROM_MODE,
        ),
    ] = Tls.NONE
    tls_names: Annotated[
        tuple[str, ...],
        Setting(
            help="For own: another name that workers use, besides that of --grpc-advertise.",
            unset="none",
            option="--tls-name",
            chart="tls.names",
        ),
    ] = ()
    tls_cert_file: Annotated[
        Path | None,
        Setting(
            help="For files: the certificate's chain; all three are read again when they change.", no_chart=_FROM_MODE
        ),
    ] = None
    tls_key_file: Annotated[Path | None, Setting(help="For files: its key.", no_chart=_FROM_MODE)] = None
    tls_ca_file: Annotated[
        Path | None,
        Setting(help="For files: what workers trust.", unset="what their images know", no_chart=_FROM_MODE),
    ] = None
    operator_namespace: Annotated[
        str,
        Setting(
            help="Where the operator keeps its own Secret and Lease, and has its Service.",
            unset="this Pod's, or the kubeconfig's",
            no_chart="it is the release's",
        ),
    ] = "default"
    owner: Annotated[
        Mapping[str, Any] | None,
        Setting(
            help="Reference to what those objects go with when it is deleted.",
            nobody="it is this Pod's ServiceAccount, if that is in the operator's namespace",
        ),
    ] = None
    leader_election: Annotated[
        bool,
        Setting(
            help="Act only while holding a Lease, so that others may stand by.",
            unset="in a cluster",
            option="--leader-elect/--no-leader-elect",
            no_chart="replicas of a Deployment may overlap, so they always do",
        ),
    ] = False
    lease_name: Annotated[str, Setting(help="Name of the Lease.", no_chart="it is the release's")] = "hatchet-operator"
    lease_duration: Annotated[
        timedelta,
        Setting(
            help="A standby takes over when the leader has been silent for this long.",
            least=timedelta(seconds=2),
            most=timedelta(minutes=5),
            chart="leaderElection.leaseDuration",
        ),
    ] = timedelta(seconds=10)
    shards: Annotated[
        int,
        Setting(
            help="Shards that namespaces are dealt to, each led by one of the operators; the same number for all.",
            least=1,
            most=64,
            chart="shards",
        ),
    ] = 1
    shard: Annotated[
        int | None, Setting(help="The shard that these settings are for.", nobody="an operator leads several")
    ] = None
    grpc_service: Annotated[
        str | None,
        Setting(
            help="Service without a selector that points to this operator while it leads.",
            unset="none",
            no_chart="it is the release's",
        ),
    ] = None
    pod_ip: Annotated[
        str | None,
        Setting(
            help="Address for --grpc-service.",
            unset="--grpc-host",
            option="--advertise-ip",
            env="POD_IP",
            no_chart=_FROM_POD,
        ),
    ] = None
    pod_name: Annotated[
        str | None,
        Setting(help="The Pod that this process runs in.", unset="in none", env="POD_NAME", no_chart=_FROM_POD),
    ] = None
    pod_uid: Annotated[
        str | None, Setting(help="UID of that Pod.", unset="in none", env="POD_UID", no_chart=_FROM_POD)
    ] = None
    max_writes: Annotated[
        int, Setting(help="Writes to the API server in flight at a time.", least=1, chart="apiServer.maxWrites")
    ] = 32
    running_after: Annotated[
        timedelta,
        Setting(help="Attempts longer than this have Running written to their run.", chart="runs.runningAfter"),
    ] = timedelta(seconds=1)
    worker_silent: Annotated[
        timedelta,
        Setting(
            help="A worker without a heartbeat for this long is dead; heartbeats come every 4 s.",
            least=timedelta(seconds=5),
            chart="workers.silent",
        ),
    ] = timedelta(seconds=30)
    rejoin: Annotated[
        timedelta,
        Setting(
            help="After a start, how long known workers have to say which attempts they have.",
            least=_INSTANT,
            chart="workers.rejoin",
        ),
    ] = timedelta(seconds=30)
    rejoin_running: Annotated[
        timedelta,
        Setting(
            help="The same for one whose container still runs: it may be directed to an earlier leader's address.",
            least=_INSTANT,
            chart="workers.rejoinRunning",
        ),
    ] = timedelta(minutes=2)
    protect_after: Annotated[
        timedelta,
        Setting(
            help="Cluster autoscalers are to leave a pod alone once an attempt has gone on for so long; 0s: never.",
            chart="workers.protectAfter",
        ),
    ] = timedelta(seconds=10)
    max_losses: Annotated[
        int,
        Setting(
            help="A step fails after this many of its workers died, unless it sets its own number.",
            least=1,
            chart="runs.maxLosses",
        ),
    ] = 3
    max_disruptions: Annotated[
        int,
        Setting(
            help="A step fails after this many of its workers were taken away: drained, evicted, scaled in, deleted.",
            least=1,
            chart="runs.maxDisruptions",
        ),
    ] = 50
    cancel_grace: Annotated[
        timedelta,
        Setting(help="How long a timed-out attempt with retries left may still complete.", chart="runs.cancelGrace"),
    ] = timedelta(seconds=1)
    run_ttl: Annotated[
        timedelta,
        Setting(
            help="How long finished root runs are kept, unless the run or its workflow says otherwise.",
            chart="runs.ttl",
        ),
    ] = timedelta(hours=24)
    failed_run_ttl: Annotated[
        timedelta,
        Setting(
            help="The same for those that failed: people look at them, though not always the next day.",
            chart="runs.failedTtl",
        ),
    ] = timedelta(days=7)
    children_every: Annotated[
        timedelta,
        Setting(
            help="The counts of a parent's children are written at most this often.",
            least=_INSTANT,
            chart="runs.childrenEvery",
        ),
    ] = timedelta(seconds=1)
    waiting_told_after: Annotated[
        timedelta,
        Setting(
            help="When a step has waited this long for workers that can't start, its run says why.",
            chart="runs.waitingToldAfter",
        ),
    ] = timedelta(seconds=3)
    light_runs: Annotated[
        bool,
        Setting(
            help="Children of which only the result is recorded cost one write; the CRD must have the version "
            "v1alpha1-recorded. Otherwise they are recorded in full.",
            chart="runs.light",
        ),
    ] = False
    watch_silence: Annotated[
        timedelta,
        Setting(
            help="A watch that is silent for this long is cut; the API server says something about once a minute.",
            least=timedelta(seconds=1),
            chart="apiServer.watchSilence",
        ),
    ] = timedelta(seconds=75)
    payload_store: Annotated[
        str | None,
        Setting(
            help="Where inputs and outputs go that are too large for their run: s3://bucket/prefix, "
            "gs://bucket/prefix, az://account/container/prefix or file:///folder.",
            unset="nowhere, they are refused",
            chart="payloads.store",
        ),
    ] = None
    payload_inline_bytes: Annotated[
        int,
        Setting(
            help="Inputs and outputs larger than this go there.",
            least=1024,
            most=_MOST_INLINE,
            chart="payloads.inlineBytes",
        ),
    ] = _MOST_INLINE
    payload_key: Annotated[
        str | None,
        Setting(
            help="Key that payloads are encrypted with, 32 bytes in base64; earlier keys follow it, separated by "
            "commas. Prefer its variable, since ps shows options.",
            unset="they are not encrypted",
            no_chart="values are no place for secrets: payloads.keySecret names one",
        ),
    ] = None
    payload_variables: Annotated[
        tuple[str, ...],
        Setting(
            help="A variable of this process that pools' pods get too, such as AWS_REGION; none that is secret.",
            unset="none",
            option="--payload-variable",
            no_chart="it follows from payloads.variables",
        ),
    ] = ()
    payload_orphans_after: Annotated[
        timedelta,
        Setting(
            help="Payloads without a run are removed once they are this old, and looked for this often.",
            least=timedelta(seconds=1),
            chart="payloads.orphansAfter",
        ),
    ] = timedelta(hours=1)
    tracing: Annotated[
        bool,
        Setting(
            help="Send spans of runs and attempts by OTLP; OpenTelemetry's own variables say which, and where to.",
            chart="tracing.enabled",
        ),
    ] = False
    metrics_port: Annotated[
        int | None,
        Setting(
            help="Port for /metrics, /livez, /readyz; 0: a free one.",
            unset="none",
            least=0,
            most=_PORT,
            chart="metrics.port",
        ),
    ] = None

    def of_shard(self, shard: int) -> "Settings":
        """Return the settings of the term that leads a shard: its own ports, its own Service and address."""
        service = f"{self.grpc_service}-shard-{shard}" if self.grpc_service is not None else None
        advertise = self.grpc_advertise
        if advertise is not None:
            advertise = advertise.replace(SHARD, str(shard))
        elif service is not None and self.grpc_port:
            advertise = f"{service}.{self.operator_namespace}.svc:{self.grpc_port}"
        rest_url = self.rest_url
        if rest_url is not None:
            rest_url = rest_url.replace(SHARD, str(shard))
        elif service is not None and self.events_port:
            scheme = "http" if self.tls is Tls.NONE else "https"
            rest_url = f"{scheme}://{service}.{self.operator_namespace}.svc:{self.events_port}"
        return replace(
            self,
            shard=shard,
            grpc_port=self.grpc_port and self.grpc_port + 1 + shard,
            events_port=self.events_port and self.events_port + 1 + shard,
            grpc_service=service,
            grpc_advertise=advertise,
            rest_url=rest_url,
            tls_names=tuple(name.replace(SHARD, str(shard)) for name in self.tls_names),
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting with all of its names.

    Attributes:
        name: Its field.
        kind: Type of its value, without None.
        default: Its value if nobody sets it.
        setting: What else is known about it.
    """

    name: str
    kind: Any
    default: Any
    setting: Setting

    @property
    def option(self) -> str:
        return self.setting.option or f"--{self.name.replace('_', '-')}"

    @property
    def env(self) -> str:
        # Kubernetes' own HATCHET_OPERATOR_…_PORT, for Services of that name, are kept out of the chart's pods.
        return self.setting.env or f"HATCHET_OPERATOR_{self.name.upper()}"


@cache
def settings_table() -> tuple[Row, ...]:
    """Return all settings in their order."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in fields(Settings):
        kind, setting = get_args(hints[field.name])
        given = [each for each in get_args(kind) if each is not type(None)] if type(None) in get_args(kind) else [kind]
        rows.append(Row(name=field.name, kind=given[0], default=field.default, setting=setting))
    return tuple(rows)
