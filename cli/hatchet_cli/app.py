"""The command line. Each command reads its options, and passes them on; `commands` carries it out."""

import shlex
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # there, and not in its __all__

from hatchet_cli.arguments import entries, place_first, time_of
from hatchet_cli.dashboard.options import serve_dashboard
from hatchet_cli.output import Format
from hatchet_cli.place import Place, carry_out
from hatchet_operator import options
from hatchet_operator.command_line import Commands


class RunCommands(Commands):
    """The commands; the options that name the cluster may also follow them, as with kubectl."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, place_first(args))


app = typer.Typer(
    name="hatchet",
    cls=RunCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

events = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=options.EVENTS)
app.add_typer(events, name="events")


class EventFormat(StrEnum):
    """How to print the runs that an event started."""

    TEXT = "text"
    JSON = "json"


class PhaseName(StrEnum):
    """Phases as they are typed."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


def _place(context: typer.Context) -> Place:
    place: Place = context.obj
    return place


WorkflowName = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="Name of the workflow, as in code or kubectl.", show_default=False)
]
HeldRuns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN…]",
        help="Names of WorkflowRuns, unless --workflow is given.",
        show_default=False,
        parser=options.run_name,
    ),
]
HeldWorkflow = Annotated[str | None, typer.Option("--workflow", "-w", help="All runs of this workflow instead.")]
Input = Annotated[
    str | None,
    typer.Option("--input", metavar="JSON|@FILE|-", help="A JSON object: its text, @ and a file, or - for stdin."),
]

Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="An entry of the run's metadata; repeatable."),
]
Priority = Annotated[int | None, typer.Option(min=1, max=3, help="3 goes first.", show_default="1")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Draw the run until it ends; exit with 1 unless it succeeds.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="Output format.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"hatchet {version('hatchet-operator-cli')}\n")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    namespace: options.Namespace = None,
    kube_context: options.Context = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Path of the kubeconfig.", show_default="$KUBECONFIG, or ~/.kube/config")
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Start, find, understand and change runs of hatchet-operator, with your kubeconfig and your rights."""
    context.obj = Place(namespace=namespace, context=kube_context, kubeconfig=kubeconfig)


@app.command()
def run(
    context: typer.Context,
    workflow: WorkflowName,
    input_text: Input = None,
    metadata: Metadata = None,
    priority: Priority = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="generated")] = None,
    suspended: Annotated[bool, typer.Option("--suspended", help="Start no step until it is resumed.")] = False,
    wait: Wait = False,
) -> None:
    """Start a run, and print its name; with --wait, its result."""
    from hatchet_cli import commands

    given = commands.NewRun(
        workflow=workflow,
        input_text=options.text_of(input_text, "--input"),
        metadata=entries(metadata),
        priority=priority,
        name=name,
        suspended=suspended,
    )
    raise typer.Exit(carry_out(commands.start(_place(context), given, wait=wait)))


@app.command()
def schedule(
    context: typer.Context,
    workflow: WorkflowName,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When, such as 2027-01-31T06:30:00Z.")] = None,
    within: Annotated[
        timedelta | None,
        typer.Option("--in", metavar="DURATION", parser=options.duration_of, help="How long from now, such as 90m."),
    ] = None,
    input_text: Input = None,
    metadata: Metadata = None,
    priority: Priority = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="generated")] = None,
) -> None:
    """Create a run that starts later, and print its name."""
    from hatchet_cli import commands

    given = commands.NewRun(
        workflow=workflow,
        input_text=options.text_of(input_text, "--input"),
        metadata=entries(metadata),
        priority=priority,
        name=name,
        start_at=time_of(at, within),
    )
    raise typer.Exit(carry_out(commands.start(_place(context), given, wait=False)))


@app.command("list")
def list_runs(
    context: typer.Context,
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", help="Runs of this workflow.")] = None,
    phase: Annotated[
        list[PhaseName] | None, typer.Option("--phase", "-p", case_sensitive=False, help="In this phase; repeatable.")
    ] = None,
    since: Annotated[
        timedelta | None,
        typer.Option(metavar="DURATION", parser=options.duration_of, help="Created within this time, such as 12h."),
    ] = None,
    metadata: Metadata = None,
    group: Annotated[str | None, typer.Option(help="In this concurrency group.")] = None,
    children: Annotated[bool, typer.Option("--children", help="Also runs that others spawned.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """List runs: failed ones first, then active ones, then the rest."""
    from hatchet_cli import commands
    from hatchet_cli.listing import Wanted
    from hatchet_operator.resources.reasons import Phase

    wanted = Wanted(
        phases=frozenset(Phase(each.value) for each in phase or ()),
        workflow=workflow,
        created_after=datetime.now(UTC) - since if since is not None else None,
        metadata=entries(metadata),
        group=group,
        children=children,
    )
    raise typer.Exit(carry_out(commands.list_runs(_place(context), wanted, limit=limit, output=output)))


@app.command()
def get(context: typer.Context, run: options.Run, output: Output = Format.TABLE) -> None:
    """Show one run: its phase, its steps, and its result or error."""
    from hatchet_cli import commands

    raise typer.Exit(carry_out(commands.show(_place(context), run, output=output)))


@app.command()
def tree(
    context: typer.Context,
    run: options.Run,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Redraw it with each change, until it ends.")] = False,
) -> None:
    """Draw a run with everything below it."""
    from hatchet_cli import commands

    raise typer.Exit(carry_out(commands.draw(_place(context), run, watch=watch)))


@app.command()
def why(context: typer.Context, run: options.Run) -> None:
    """Say why a run failed, waits, or is slow, down to the run below it that is the cause."""
    from hatchet_cli import commands

    raise typer.Exit(carry_out(commands.say_why(_place(context), run)))


@app.command(help=options.LOGS)
def logs(
    context: typer.Context,
    run: options.Run,
    follow: options.Follow = False,
    children: options.Children = False,
    step: options.Step = None,
    attempt: options.Attempt = None,
    output: options.LinesOutput = options.Lines.TEXT,
) -> None:
    from hatchet_operator.run_logs.command import LogOptions, show_logs

    place = _place(context)
    given = LogOptions(
        run=run,
        follow=follow,
        children=children,
        step=step,
        attempt=attempt,
        namespace=place.namespace,
        context=place.context,
        kubeconfig=place.kubeconfig,
        as_json=output is options.Lines.JSON,
    )
    raise typer.Exit(show_logs(given))


@app.command(help=options.CANCEL)
def cancel(context: typer.Context, runs: options.Runs) -> None:
    from hatchet_cli import commands
    from hatchet_operator.decisions.acts import Act

    raise typer.Exit(carry_out(commands.change_all(_place(context), runs, Act.CANCEL)))


@app.command(help=options.RETRY)
def retry(context: typer.Context, runs: options.Runs, wait: Wait = False) -> None:
    from hatchet_cli import commands
    from hatchet_operator.decisions.acts import Act

    raise typer.Exit(carry_out(commands.change_all(_place(context), runs, Act.RETRY, wait=wait)))


@app.command(help=options.REPLAY)
def replay(context: typer.Context, runs: options.Runs, wait: Wait = False) -> None:
    from hatchet_cli import commands
    from hatchet_operator.decisions.acts import Act

    raise typer.Exit(carry_out(commands.change_all(_place(context), runs, Act.REPLAY, wait=wait)))


@app.command()
def suspend(
    context: typer.Context,
    runs: HeldRuns = None,
    workflow: HeldWorkflow = None,
) -> None:
    """Suspend runs, or a workflow: no more steps start; running steps go on."""
    raise typer.Exit(_hold(context, runs, workflow, wanted=True))


@app.command()
def resume(
    context: typer.Context,
    runs: HeldRuns = None,
    workflow: HeldWorkflow = None,
) -> None:
    """Resume suspended runs, runs that paused because a step failed, or a workflow."""
    raise typer.Exit(_hold(context, runs, workflow, wanted=False))


def _hold(context: typer.Context, runs: list[str] | None, workflow: str | None, *, wanted: bool) -> int:
    from hatchet_cli import commands
    from hatchet_operator.decisions.acts import Act

    if bool(runs) == (workflow is not None):
        raise typer.BadParameter("expected either names of runs or --workflow")
    if workflow is not None:
        done = "suspended" if wanted else "resumed"
        return carry_out(commands.hold_workflow(_place(context), workflow, wanted=wanted, done=done))
    act = Act.SUSPEND if wanted else Act.RESUME
    return carry_out(commands.change_all(_place(context), runs or [], act))


@app.command()
def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print it once, and exit.")] = False,
) -> None:
    """Show pools live: workers, slots, what is running, and what waits and for how long."""
    from hatchet_cli import commands

    raise typer.Exit(carry_out(commands.show_pools(_place(context), live=not once)))


@events.command(help=options.PUSH)
def push(
    context: typer.Context,
    key: options.EventKey,
    payload: options.Payload = None,
    event_id: options.EventId = None,
    metadata: Metadata = None,
    scope: options.Scope = None,
    priority: options.Priority = None,
    output: Annotated[EventFormat, typer.Option("--output", "-o", help="Output format.")] = EventFormat.TEXT,
) -> None:
    import json

    from hatchet_operator.event_push.command import PushOptions
    from hatchet_operator.event_push.command import push as push_event

    place = _place(context)
    given = PushOptions(
        key=key,
        payload=options.text_of(payload, "--payload", default=""),
        event_id=event_id,
        metadata=json.dumps(entries(metadata)) if metadata else None,
        scope=scope,
        priority=priority,
        as_json=output is EventFormat.JSON,
        namespace=place.namespace,
        context=place.context,
        kubeconfig=place.kubeconfig,
    )
    raise typer.Exit(push_event(given))


@app.command()
def dashboard(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve it on; 0: a free one.")] = 0,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = True,
) -> None:
    """Show runs, workflows and pools in a browser, with the rights of your kubeconfig.

    The dashboard is served on this machine, for you alone, until Ctrl-C. Its address contains a key.
    """
    from hatchet_cli.dashboard.command import show_dashboard

    raise typer.Exit(carry_out(show_dashboard(_place(context), port=port, opens=opens)))


app.command()(serve_dashboard)


@app.command()
def completion(shell: options.ShellName) -> None:
    """Print a shell's completion script for "hatchet".

    bash: source <(hatchet completion bash)

    "kubectl hatchet" needs none: kubectl's own completion asks the program kubectl_complete-hatchet.
    """
    script = get_completion_script(prog_name="hatchet", complete_var="_HATCHET_COMPLETE", shell=shell.value)
    sys.stdout.write(script + "\n")


def complete_for_kubectl() -> None:
    """Answer kubectl, which asks a program of this name for the words that may come next."""
    import os

    words = shlex.join(["hatchet", *sys.argv[1:]])
    os.environ |= {"_HATCHET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(sys.argv) - 1)}
    from typer.completion import completion_init  # type: ignore[attr-defined]  # there, and not in its __all__

    completion_init()
    app(prog_name="hatchet")
