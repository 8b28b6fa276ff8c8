"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

import os
import shlex
import signal
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.completion import (  # type: ignore[attr-defined]  # there, and not in its __all__
    completion_init,
    get_completion_script,
)

from hatchet_operator import options
from hatchet_operator.command_line import Commands
from hatchet_operator.setting_options import takes_settings

_COMPLETING = "_HATCHET_OPERATOR_COMPLETE"

app = typer.Typer(
    name="hatchet-operator",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
if _COMPLETING in os.environ:
    completion_init()


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


_Kubeconfig = Annotated[
    Path | None, typer.Option(help="How to reach the cluster.", show_default="this Pod's account, or $KUBECONFIG")
]


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


def _refuse_two_sdks() -> None:
    from hatchet_operator.installation import conflict

    if problem := conflict():
        sys.stderr.write(f"error: {problem}\n")
        raise typer.Exit(2)


def _refuse_without_dev() -> None:
    """End the command if the rest of ``dev`` is not installed: it is a separate distribution, not needed in a Pod."""
    try:
        import hatchet_operator_dev  # noqa: F401  # whether it is installed
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"error: hatchet-operator-dev is not installed here; run {shlex.quote(sys.executable)} -m pip install "
            "FOLDER/dev, where FOLDER is hatchet-operator's source (docs/install.md)\n"
        )
        raise typer.Exit(2) from error


@app.command()
def dev(
    worker: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Python file that starts a worker.", show_default=False)
    ] = None,
    module: Annotated[
        str | None, typer.Option("-m", metavar="MODULE", help="Instead of FILE: a module, as python -m takes it.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Run this workflow once, print its result, and exit.")] = None,
    input_text: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="JSON|@FILE|-",
            help="Input of that run, a JSON object: its text, a file with it, or - for stdin.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=100, help="Processes that run the program; 0: none, you start it yourself, say in a debugger."
        ),
    ] = 1,
    debug: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help="The worker waits at this port for the debugger of an editor (needs debugpy); steps have no timeouts.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port for workers and Python clients; 0: a free one.")
    ] = 0,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Write the kubeconfig here.", show_default="a temporary file", dir_okay=False)
    ] = None,
    output: Annotated[
        OutputFormat, typer.Option(help="json: nothing but the result on stdout, or the error, as JSON.")
    ] = OutputFormat.TEXT,
    otlp: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send traces of runs, and of the program, to this collector, by OTLP over gRPC.",
            show_default="OTEL_EXPORTER_OTLP_ENDPOINT, if that is set",
        ),
    ] = None,
    payloads: Annotated[
        Path | None,
        typer.Option(
            help="Keep inputs and outputs that are too large for their run in this folder.",
            show_default="they are refused",
            file_okay=False,
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Run a program with workflows without a cluster.

    Operator, API server and workers run on this machine and end with this command.

    Without --run it stays up, reloads the worker when its code changes, and says how to start runs.

    Without FILE and -m it has no worker, and says how to start one in another terminal.

    The program runs in the folder that you are in, as "python FILE" or "python -m MODULE" would; for
    a package with relative imports, take -m and its parent folder. breakpoint() in a step opens a
    prompt in this terminal, and no timeout counts meanwhile.
    """
    _refuse_two_sdks()
    _refuse_without_dev()
    from hatchet_operator_dev.command import DevOptions, run_dev

    given = DevOptions(
        worker=worker,
        module=module,
        run=run,
        input_text=input_text,
        workers=workers,
        debug_port=debug,
        port=port,
        kubeconfig=kubeconfig,
        output=output.value,
        payloads=payloads,
        otlp=otlp,
    )
    raise typer.Exit(run_dev(given))


@app.command()
@takes_settings
def run(
    *,
    kubeconfig: _Kubeconfig = None,
    log_level: Annotated[LogLevel, typer.Option(help="Log from this severity on.")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(help="How log lines look.")] = LogFormat.TEXT,
    **settings: Any,
) -> None:
    """Run the operator, in a cluster or against a kubeconfig."""
    # The imports take a second, in which the first process of a container would not even react to SIGTERM.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    from hatchet_operator import garbage
    from hatchet_operator.logs import configure_logging

    with garbage.while_importing():
        from hatchet_operator.serve import serve

    configure_logging(log_level.value, log_format.value)
    raise typer.Exit(serve(settings, kubeconfig))


@app.command(help=options.LOGS)
def logs(
    run: options.Run,
    follow: options.Follow = False,
    children: options.Children = False,
    step: options.Step = None,
    attempt: options.Attempt = None,
    output: options.LinesOutput = options.Lines.TEXT,
    namespace: options.Namespace = None,
    context: options.Context = None,
    kubeconfig: _Kubeconfig = None,
) -> None:
    from hatchet_operator.run_logs.command import LogOptions, show_logs

    given = LogOptions(
        run=run,
        follow=follow,
        children=children,
        step=step,
        attempt=attempt,
        namespace=namespace,
        context=context,
        kubeconfig=kubeconfig,
        as_json=output is options.Lines.JSON,
    )
    raise typer.Exit(show_logs(given))


events = typer.Typer(no_args_is_help=True, help=options.EVENTS)
app.add_typer(events, name="events")


@events.callback(help=options.EVENTS)
def events_of_a_namespace() -> None:
    """Have ``push`` be a command of its own, though it is the only one."""


@events.command(help=options.PUSH)
def push(
    key: options.EventKey,
    payload: options.Payload = None,
    event_id: options.EventId = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="Metadata of the runs, a JSON object.")] = None,
    scope: options.Scope = None,
    priority: options.Priority = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="What is printed.")] = OutputFormat.TEXT,
    namespace: options.Namespace = None,
    context: options.Context = None,
    kubeconfig: _Kubeconfig = None,
) -> None:
    from hatchet_operator.event_push.command import PushOptions
    from hatchet_operator.event_push.command import push as push_event

    given = PushOptions(
        key=key,
        payload=options.text_of(payload, "--payload", default=""),
        event_id=event_id,
        metadata=metadata,
        scope=scope,
        priority=priority,
        as_json=output is OutputFormat.JSON,
        namespace=namespace,
        context=context,
        kubeconfig=kubeconfig,
    )
    raise typer.Exit(push_event(given))


def _add_act(act: str, text: str) -> None:
    @app.command(act, help=text)
    def act_on(
        runs: options.Runs,
        namespace: options.Namespace = None,
        context: options.Context = None,
        kubeconfig: _Kubeconfig = None,
    ) -> None:
        from hatchet_operator.decisions.acts import Act
        from hatchet_operator.run_acts.command import ActOptions, act_on_runs

        given = ActOptions(act=Act(act), runs=tuple(runs), namespace=namespace, context=context, kubeconfig=kubeconfig)
        raise typer.Exit(act_on_runs(given))


for _act, _help in (
    ("cancel", options.CANCEL),
    ("retry", options.RETRY),
    ("replay", options.REPLAY),
    ("suspend", options.SUSPEND),
    ("resume", options.RESUME),
):
    _add_act(_act, _help)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def apiserver(context: typer.Context) -> None:
    """Run the embedded API server alone."""
    _refuse_without_dev()
    from hatchet_operator_dev.apiserver.__main__ import main as serve_api

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
    _refuse_two_sdks()
    from hatchet_operator.manifests.command import ManifestOptions, print_manifests

    given = ManifestOptions(program=program, pool=pool, image=image, namespace=namespace, replicas=replicas)
    raise typer.Exit(print_manifests(given))


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Where; its name becomes the project's.", show_default=False)],
) -> None:
    """Write a project: a worker, tests, a Dockerfile, a pool, a run, CI. It runs as it is."""
    _refuse_without_dev()
    from hatchet_operator_dev.errors import DevError
    from hatchet_operator_dev.new_project import write_project

    try:
        sys.stdout.write(write_project(folder))
    except DevError as error:
        sys.stderr.write(f"error: {error.message}\n")
        raise typer.Exit(error.exit_code) from error


@app.command()
def crds(
    schemas: Annotated[
        Path | None,
        typer.Option(
            help="Write JSON schemas of the kinds into this folder instead, for editors and linters.",
            metavar="DIR",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    light_runs: Annotated[
        bool, typer.Option("--light-runs", help="With the version that light runs are made in, as run --light-runs.")
    ] = False,
) -> None:
    """Print the CRDs as YAML, for kubectl apply -f -."""
    from hatchet_operator.resources.crds import load_crds, render_crd
    from hatchet_operator.resources.schemas import write_schemas

    if schemas is not None:
        write_schemas(schemas)
        return
    sys.stdout.write("---\n".join(render_crd(crd) for crd in load_crds(light_runs=light_runs)))


@app.command()
def completion(shell: options.ShellName) -> None:
    """Print a script that lets a shell complete this command.

    bash: source <(hatchet-operator completion bash)

    zsh: source <(hatchet-operator completion zsh), after compinit

    fish: hatchet-operator completion fish | source
    """
    script = get_completion_script(prog_name="hatchet-operator", complete_var=_COMPLETING, shell=shell.value)
    sys.stdout.write(script.replace(" --no-files", "") + "\n")  # file names are often wanted
