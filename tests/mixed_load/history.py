"""What a mixed load leaves behind, as values: what was asked for, the objects at the end, calls of steps, deaths."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from hatchet_operator.resources.base import Json

STILL_GOING = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Something that was answered with yes.

    Attributes:
        workflow: As in "FanOut".
        run: Name of the run; an event's: its id.
        input: Of the run.
        is_event: It was an event, that makes one run of each workflow which wants it.
    """

    workflow: str
    run: str
    input: Json = field(default_factory=dict)
    is_event: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of a step's function; times in seconds since 1970.

    Attributes:
        run: Name of the run, which no other has had.
        step: Name of the step.
        attempt: Id of what was given out.
        retry: How many attempts of the step failed before.
        pid: Of the worker.
        began: When.
        ended: However it ended; `STILL_GOING`: it did not, its worker died.
    """

    run: str
    step: str
    attempt: str
    retry: int
    pid: int
    began: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class History:
    """All of it.

    Attributes:
        asked: What was asked for and answered.
        runs: The WorkflowRuns at the end.
        calls: In the order in which they began.
        died_at: When workers were killed, by their process ids.
        resumed_at: When runs that were made suspended were resumed, by their names.
        absences: From when to when no operator was there, one after the other.
        large: Process ids of the workers that had the label which Labelled requires.
        heard: What listeners to runs heard, by the names of the runs.
        began, ended: The time in which crons had to tick.
    """

    asked: list[Asked]
    runs: list[Json]
    calls: list[Call]
    died_at: dict[int, float]
    resumed_at: dict[str, float]
    absences: list[tuple[float, float]] = field(default_factory=list)
    large: frozenset[int] = frozenset()
    heard: dict[str, list[str]] = field(default_factory=dict)
    began: float
    ended: float

    @property
    def operators_died_at(self) -> list[float]:
        """When operators were killed."""
        return [gone for gone, _ in self.absences]

    def absent_between(self, began: float, ended: float) -> float:
        """For how many seconds of a time no operator was there."""
        return sum(max(min(back, ended) - max(gone, began), 0.0) for gone, back in self.absences)

    @cached_property
    def by_name(self) -> dict[str, Json]:
        return {run["metadata"]["name"]: run for run in self.runs}

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """Calls by the name of their run."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[call.run].append(call)
        return found

    @cached_property
    def children_of(self) -> dict[str, list[Json]]:
        """Runs by the UID of their parent."""
        found: dict[str, list[Json]] = defaultdict(list)
        for run in self.runs:
            if parent := run["spec"].get("parent"):
                found[parent["uid"]].append(run)
        return found

    def of_workflow(self, name: str) -> list[Json]:
        return [run for run in self.runs if run["spec"]["workflow"] == name.lower()]


def read_calls(file: Path) -> list[Call]:
    """Put the lines that workers wrote together to calls."""
    return list(_calls(json.loads(line) for line in file.read_text().splitlines())) if file.exists() else []


def _calls(lines: Iterable[Json]) -> Iterable[Call]:
    # one process may get an attempt that it had before, after it lost its connection: each begin is a call of its own
    open_calls: dict[tuple[str, int], list[Json]] = defaultdict(list)
    ended: list[tuple[Json, float]] = []
    for line in lines:
        key = (line["attempt"], line["pid"])
        if line["event"] == "begin":
            open_calls[key].append(line)
        else:
            ended.append((open_calls[key].pop(0), line["at"]))
    ended += [(begin, STILL_GOING) for left in open_calls.values() for begin in left]
    for begin, at in sorted(ended, key=lambda each: each[0]["at"]):
        yield Call(
            run=begin["run"],
            step=begin["step"],
            attempt=begin["attempt"],
            retry=begin["retry"],
            pid=begin["pid"],
            began=begin["at"],
            ended=at,
        )


def seconds_of(timestamp: str | None) -> float:
    """Seconds since 1970 of a time in an object; `STILL_GOING`: there is none."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else STILL_GOING


def read_pids(file: Path) -> frozenset[int]:
    """Read the process ids that workers wrote, one a line."""
    return frozenset(map(int, file.read_text().split())) if file.exists() else frozenset()
