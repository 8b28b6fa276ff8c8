"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

import os
import signal
import sys
from datetime import timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from hatchet_operator.settings import Tls

app = typer.Typer(
    name="hatchet-operator",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


class OutputFormat(StrEnum):
    """What ``dev`` writes."""

    TEXT = "text"
    JSON = "json"


class LogFormat(StrEnum):
    """How ``run`` writes its log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """From which severity on ``run`` writes its log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"hatchet-operator {version('hatchet-operator')}\n")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Dynamic, durable Python workflows on Kubernetes, with nothing but Kubernetes."""


@app.command()
def dev(
    worker: Annotated[Path, typer.Argument(help="Python file that starts a worker.", show_default=False)],
    run: Annotated[str | None, typer.Option(help="Run this workflow once, print its result, and exit.")] = None,
    input_text: Annotated[str, typer.Option("--input", help="Input of the run, a JSON object.")] = "{}",
    workers: Annotated[int, typer.Option(min=1, max=100, help="Processes that run the file.")] = 1,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port for workers and Python clients; 0: a free one.")
    ] = 0,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Write the kubeconfig here.", show_default="a temporary file", dir_okay=False)
    ] = None,
    output: Annotated[
        OutputFormat, typer.Option(help="json: nothing but the result on stdout, and errors.")
    ] = OutputFormat.TEXT,
) -> None:
    """Run a file of workflows without a cluster.

    Operator, API server and workers run on this machine and end with this command.

    Without --run it stays up, reloads the worker when its code changes, and says how to start runs.
    """
    from hatchet_operator.dev.command import DevOptions, run_dev

    options = DevOptions(
        worker=worker,
        run=run,
        input_text=input_text,
        workers=workers,
        port=port,
        kubeconfig=kubeconfig,
        output=output.value,
    )
    raise typer.Exit(run_dev(options))


@app.command()
def run(
    kubeconfig: Annotated[
        Path | None, typer.Option(help="How to reach the cluster.", show_default="this Pod's account, or $KUBECONFIG")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Serve one namespace.", show_default="all")] = None,
    grpc_host: Annotated[str, typer.Option(help="Address to listen on for workers.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port for workers; 0: a free one.")] = 7070,
    grpc_advertise: Annotated[
        str | None, typer.Option(help="host:port that worker pods connect to.", show_default="where it listens")
    ] = None,
    grpc_service: Annotated[
        str | None,
        typer.Option(
            help="Service without selector that is to lead to this operator while it leads.", show_default="none"
        ),
    ] = None,
    advertise_ip: Annotated[
        str | None, typer.Option(envvar="POD_IP", help="Address for --grpc-service.", show_default="--grpc-host")
    ] = None,
    tls: Annotated[
        Tls,
        typer.Option(help="Whose certificate workers see. own: of a CA that the operator makes, keeps and rotates."),
    ] = Tls.NONE,
    tls_name: Annotated[
        list[str] | None,
        typer.Option(help="For own: one more name that workers use; that of --grpc-advertise always is one."),
    ] = None,
    tls_cert_file: Annotated[
        Path | None,
        typer.Option(help="For files: the certificate's chain; all three are read again when they change."),
    ] = None,
    tls_key_file: Annotated[Path | None, typer.Option(help="For files: its key.")] = None,
    tls_ca_file: Annotated[
        Path | None, typer.Option(help="For files: what workers are to trust.", show_default="what their images know")
    ] = None,
    token_audience: Annotated[
        str | None,
        typer.Option(
            help='Audience of the service-account tokens that worker pods present; "": only pools\' tokens are taken.',
            show_default="in a cluster: hatchet-operator",
        ),
    ] = None,
    operator_namespace: Annotated[
        str | None,
        typer.Option(help="Where its own objects are.", show_default="this Pod's, or the kubeconfig's"),
    ] = None,
    leader_elect: Annotated[
        bool | None,
        typer.Option(
            "--leader-elect/--no-leader-elect",
            help="Act only while holding a Lease, so that others may stand by.",
            show_default="in a cluster",
        ),
    ] = None,
    lease_name: Annotated[str, typer.Option(help="Name of the Lease.")] = "hatchet-operator",
    lease_seconds: Annotated[
        int, typer.Option(min=2, max=300, help="A standby takes over when nothing was heard for so long.")
    ] = 10,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for /metrics, /livez, /readyz.", show_default="none")
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="Log from this severity on.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="How log lines look.")] = LogFormat.TEXT,
) -> None:
    """Run the operator, in a cluster or against a kubeconfig."""
    # The imports take a second, in which the first process of a container would not even hear that it is to end.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    from hatchet_operator.logs import configure_logging
    from hatchet_operator.serve import serve

    configure_logging(log_level.value, log_format.value)
    options = {
        "namespace": namespace,
        "grpc_host": grpc_host,
        "grpc_port": grpc_port,
        "grpc_advertise": grpc_advertise,
        "grpc_service": grpc_service,
        "tls": tls,
        "tls_names": tuple(tls_name or ()),
        "tls_cert_file": tls_cert_file,
        "tls_key_file": tls_key_file,
        "tls_ca_file": tls_ca_file,
        "token_audience": token_audience,
        "operator_namespace": operator_namespace,
        "leader_election": leader_elect,
        "lease_name": lease_name,
        "lease_duration": timedelta(seconds=lease_seconds),
        "metrics_port": metrics_port,
        "pod_ip": advertise_ip,
        "pod_name": os.environ.get("POD_NAME"),
        "pod_uid": os.environ.get("POD_UID"),
    }
    raise typer.Exit(serve(options, kubeconfig))


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="Name of the WorkflowRun.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Where the run is.", show_default="the kubeconfig's")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="How to reach the cluster.", show_default="this Pod's account, or $KUBECONFIG")
    ] = None,
) -> None:
    """Print what the steps of a run logged.

    It is found in the logs of the pods that they were on.
    """
    from hatchet_operator.run_logs import show_logs

    raise typer.Exit(show_logs(run, namespace=namespace, kubeconfig=kubeconfig, follow=follow))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def apiserver(context: typer.Context) -> None:
    """Run the embedded API server alone."""
    from hatchet_operator.apiserver.__main__ import main as serve_api

    sys.argv = ["hatchet-operator apiserver", *context.args]
    serve_api()


@app.command()
def manifests(
    program: Annotated[Path, typer.Argument(help="Python file that starts a worker.", show_default=False)],
    pool: Annotated[str | None, typer.Option(help="Name of the WorkerPool.", show_default="the worker's name")] = None,
    image: Annotated[
        str | None, typer.Option(help="Image with the file in its working directory.", show_default="the pool's name")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of the objects.", show_default="where they are applied")
    ] = None,
    replicas: Annotated[
        str | None, typer.Option(metavar="MIN[:MAX]", help="How many pods the pool has.", show_default="1")
    ] = None,
) -> None:
    """Print a program's Workflows and WorkerPool as YAML.

    They are to be kept in a repository and applied. The file is run up to worker.start(), which connects
    to nothing and returns.
    """
    from hatchet_operator.manifests.command import ManifestOptions, print_manifests

    options = ManifestOptions(program=program, pool=pool, image=image, namespace=namespace, replicas=replicas)
    raise typer.Exit(print_manifests(options))


@app.command()
def crds() -> None:
    """Print the CRDs as YAML, for kubectl apply -f -."""
    from hatchet_operator.resources.crds import load_crds, render_crd

    sys.stdout.write("---\n".join(render_crd(crd) for crd in load_crds()))
