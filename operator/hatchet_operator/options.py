"""Options that ``hatchet-operator`` and ``kubectl hatchet`` share, with the words of their help: they exist once.

Nothing of the operator is imported here, so that ``--help`` stays quick.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from hatchet_operator.durations import parse_duration
from hatchet_operator.given_text import UnreadableError, read_given


def run_name(text: str) -> str:
    """Take a run's name as kubectl prints and takes it, with or without its kind: "etl-7", "wfr/etl-7"."""
    kind, slash, name = text.rpartition("/")
    if slash and kind.partition(".")[0].lower() not in _KIND_OF_RUNS:
        raise typer.BadParameter(f'"{text}" is not a run; expected its name, as in etl-7 or wfr/etl-7')
    return name


_KIND_OF_RUNS = ("wfr", "workflowrun", "workflowruns")

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of the WorkflowRun.", show_default=False, parser=run_name)
]
Runs = Annotated[
    list[str], typer.Argument(metavar="RUN", help="Names of WorkflowRuns.", show_default=False, parser=run_name)
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Where the runs are.", show_default="the kubeconfig's")
]
Context = Annotated[
    str | None, typer.Option("--context", help="Context of the kubeconfig.", show_default="its current one")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Continue until the run has ended.")]
Children = Annotated[bool, typer.Option("--children", help="Also those of all runs below it.")]
Step = Annotated[str | None, typer.Option(help="Of this step.", show_default="all")]
Attempt = Annotated[int | None, typer.Option(min=1, help="Of this attempt; the first is 1.", show_default="all")]


class Lines(StrEnum):
    """How ``logs`` prints lines."""

    TEXT = "text"
    JSON = "json"


LinesOutput = Annotated[
    Lines,
    typer.Option(
        "--output", "-o", help="json: an object for each line, with its time, and the ids of its trace and span."
    ),
]
EventKey = Annotated[
    str, typer.Argument(metavar="KEY", help="Key of the event, as in user:create.", show_default=False)
]
Payload = Annotated[
    str | None,
    typer.Option(
        metavar="JSON|@FILE|-",
        help="Input of the runs, a JSON object: its text, a file with it, or - for stdin.",
        show_default="{}",
    ),
]
EventId = Annotated[
    str | None, typer.Option("--id", help="Id of the event: pushed again with its id, it starts nothing again.")
]
Scope = Annotated[str | None, typer.Option(help="Scope of the event, for registered filters.")]
Priority = Annotated[int | None, typer.Option(min=1, max=3, help="Priority of the runs; 3 goes first.")]

LOGS = """Print what the steps of a run printed and logged, and their errors.

Each line has "step#attempt | " before it, an error "step#attempt ! ". They are
found in the logs of the pods that the steps ran in."""
CANCEL = "Cancel runs, and all below them."
RETRY = """Run again what failed, in the whole tree below a run.

What succeeded is kept. Children that failed are run again first, then the steps that awaited them. A paused
run retries its failed step."""
REPLAY = "Run finished runs again from the start: all steps, with new children."
SUSPEND = "Suspend runs: running steps finish, and no others start."
RESUME = "Resume runs that are suspended, or that paused because a step failed."
EVENTS = "Push events, which start the workflows that want them."
PUSH = """Push an event and print the runs that it started.

The runs are created as you: you need to be allowed to list workflows and to create workflowruns. It works with
the kubeconfig of "hatchet-operator dev" too."""


class Shell(StrEnum):
    """The shells that ``completion`` writes scripts for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


ShellName = Annotated[Shell, typer.Argument(help="The shell.", show_default=False)]


def duration_of(text: str) -> timedelta:
    """Return the duration that an option gives.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def text_of(said: str | None, option: str, *, default: str = "{}") -> str:
    """Return the text that an option refers to: itself, that of a file after "@", or that of stdin for "-".

    Raises:
        typer.BadParameter: The file can't be read.
    """
    if said is None:
        return default
    try:
        return read_given(said)
    except UnreadableError as error:
        raise typer.BadParameter(f"{said.removeprefix('@')} can't be read: {error}", param_hint=option) from error
