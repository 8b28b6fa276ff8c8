"""What can be configured, with its default. Every value is also an option or environment variable of ``run``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any


class Tls(StrEnum):
    """Whose certificate the gRPC server shows."""

    NONE = "none"  # it speaks plain text
    OWN = "own"  # of an authority that the operator makes and rotates, in the Secret hatchet-operator-ca
    FILES = "files"  # of files that somebody else renews, such as cert-manager


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one operator process.

    Attributes:
        namespace: The one namespace to serve; None: all of the cluster.
        grpc_host: Address to listen on for workers.
        grpc_port: Port to listen on; 0: a free one.
        grpc_advertise: "host:port" that worker pods connect to; None: where the server listens.
        token_key: Secret that pool tokens are signed with; None: kept in the Secret ``hatchet-operator-tokens``.
        token_audience: Audience of the service-account tokens that workers in Pods present; None: only pools' tokens.
        tls: Whose certificate the gRPC server shows.
        tls_names: More names that an own certificate is for; that of ``grpc_advertise`` always is.
        tls_cert_file: For ``Tls.FILES``: the certificate's chain; read again when it changes, like the others.
        tls_key_file: Its key.
        tls_ca_file: What workers are to trust; None: authorities that their images know.
        operator_namespace: Where the operator keeps its own Secret and Lease, and has its Service.
        owner: Reference to what those objects go with when it is deleted; None: they stay.
        leader_election: Act only while holding the Lease; else this must be the only operator.
        lease_name: The Lease's name.
        lease_duration: A standby takes over when nothing was heard of the leader for so long.
        grpc_service: Service without selector that is to lead to this operator while it leads; None: there is none.
        pod_ip: Address of this process for ``grpc_service``.
        pod_name: The Pod that this process lives in.
        pod_uid: UID of that Pod.
        max_writes: API writes under way at a time.
        running_after: Attempts longer than this have ``Running`` written to their run.
        worker_silent: A worker without heartbeat for this long is dead.
        rejoin: After a start, how long workers that are known have to say what they hold.
        rejoin_running: The same for one whose container runs on: it may still be led to an earlier leader's address.
        max_losses: A step fails after this many of its workers died.
        cancel_grace: How long a timed-out attempt with retries left may still complete.
        run_ttl: How long finished root runs are kept, unless the run or its workflow says otherwise.
        children_every: Children counts of a parent are written at most this often.
        waiting_told_after: When a step has waited this long for workers that can't start, its run says why.
        watch_silence: A watch that says nothing for this long is cut; bookmarks come about once a minute.
        metrics_port: Port for /metrics, /livez and /readyz; None: not served; 0: a free one.
    """

    namespace: str | None = None
    grpc_host: str = "127.0.0.1"
    grpc_port: int = 0
    grpc_advertise: str | None = None
    token_key: str | None = None
    token_audience: str | None = None
    tls: Tls = Tls.NONE
    tls_names: tuple[str, ...] = ()
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_ca_file: Path | None = None
    operator_namespace: str = "default"
    owner: Mapping[str, Any] | None = None
    leader_election: bool = False
    lease_name: str = "hatchet-operator"
    lease_duration: timedelta = timedelta(seconds=10)
    grpc_service: str | None = None
    pod_ip: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    max_writes: int = 32
    running_after: timedelta = timedelta(seconds=1)
    worker_silent: timedelta = timedelta(seconds=30)
    rejoin: timedelta = timedelta(seconds=30)
    rejoin_running: timedelta = timedelta(minutes=2)
    max_losses: int = 3
    cancel_grace: timedelta = timedelta(seconds=1)
    run_ttl: timedelta = timedelta(hours=24)
    children_every: timedelta = timedelta(seconds=1)
    waiting_told_after: timedelta = timedelta(seconds=3)
    watch_silence: timedelta = timedelta(seconds=75)
    metrics_port: int | None = None
