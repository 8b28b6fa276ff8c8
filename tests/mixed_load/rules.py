"""The promises, each a pure function from a history to sentences that name who broke it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from tests.mixed_load.history import STILL_GOING, History, seconds_of

FINAL = frozenset({"Succeeded", "Failed", "Cancelled"})
MAY_BE_CANCELLED = frozenset({"NewestWins", "OldestWins"})
"""Workflows whose limits cancel runs."""
LARGE_BYTES = 300_000
"""Bytes of the input of Heavy, whose output has twice as many."""
PIECES = 20
"""Of what Speaking says."""
RATE_LIMITS = {"LimitedBySecond": (2, 1.0), "LimitedByMinute": (20, 60.0)}
"""Starts in a window, and its seconds."""
REPLAYED_STEP = "second"
"""Of Mended: called again by each replay."""
MAX_RUNS = {"Queued": 2, "RoundRobin": 2, "NewestWins": 1, "OldestWins": 2}
_MINUTE = 60
_RESULT_KEPT_SECONDS = 15.0  # beside the time without an operator: a worker looks for one every 5 s, then it is written

T = TypeVar("T")
K = TypeVar("K")
Rule = Callable[[History], Iterator[str]]


def nothing_is_lost(history: History) -> Iterator[str]:
    """What was answered is there, and final in the end."""
    for asked in history.asked:
        if not asked.is_event and asked.run not in history.by_name:
            yield f"{asked.workflow} {asked.run} was answered and is not there"
    for run in history.runs:
        if phase_of(run) not in FINAL:
            yield f"{name_of(run)} is {phase_of(run)} in the end: {run.get('status', {}).get('message', '')}"


def nothing_fails(history: History) -> Iterator[str]:
    """Each run has enough retries for what its input has it do, so none fails; a cancel ends a run as cancelled."""
    for run in history.runs:
        if phase_of(run) == "Failed" and not _ended_with_a_worker(history, run):
            yield f"{name_of(run)} failed: {run['status'].get('message', '')}"
    for asked in history.asked:
        run = history.by_name.get(asked.run, {})
        is_asked_to = run.get("spec", {}).get("cancelled", False)
        if run and phase_of(run) == "Cancelled" and not is_asked_to and asked.workflow not in MAY_BE_CANCELLED:
            yield f"{name_of(run)} was cancelled, and nobody asked for it"


def _ended_with_a_worker(history: History, run: Json) -> bool:
    """Whether a run that sticks to one worker waited for it in vain, as some worker was killed."""
    message = str(run["status"].get("message", ""))
    return run["spec"]["workflow"] == "stuck" and "SCHEDULING_TIMED_OUT" in message and bool(history.died_at)


def nothing_runs_twice(history: History) -> Iterator[str]:
    """A retry's function is called once, and once more for each worker that died with it or with its result.

    A worker keeps a result until an operator has written it down, which takes as long as none is there. A light child
    may be called again after an operator's death, too.
    """
    for run, calls in history.calls_of.items():
        is_light = "begunAs" in history.by_name.get(run, {}).get("spec", {})
        for (step, retry), same in _by(calls, lambda call: (call.step, call.retry)).items():
            if step == REPLAYED_STEP:
                continue
            for call, following in pairwise(same):
                if is_light and any(call.began <= at <= following.began for at in history.operators_died_at):
                    continue
                died = history.died_at.get(call.pid, STILL_GOING)
                if not call.began <= died <= following.began:
                    yield f"{run} called {step} (retry {retry}) twice, and pid {call.pid} did not die between"
                elif died - call.ended - history.absent_between(call.ended, died) > _RESULT_KEPT_SECONDS:
                    yield f"{run} called {step} (retry {retry}) again, {died - call.ended:.0f} s after its result"


def successes_were_called(history: History) -> Iterator[str]:
    """No run succeeds without a call of its step, and none that is cancelled begins one afterwards."""
    for run in history.runs:
        calls = history.calls_of.get(run["metadata"]["name"], [])
        if phase_of(run) == "Succeeded" and not calls:
            yield f"{name_of(run)} succeeded, and its function was never called"
        finished = seconds_of(run.get("status", {}).get("finishedAt"))
        for call in calls:
            # what was on its way to the worker arrives; a second is far more than that takes
            if call.began > finished + 1:
                yield f"{name_of(run)} called {call.step} {call.began - finished:.1f} s after it was final"


def fan_outs_are_right(history: History) -> Iterator[str]:
    """A parent has each child once, and the sum of what they returned."""
    for parent in history.of_workflow("FanOut"):
        children = history.children_of.get(parent["metadata"]["uid"], [])
        keys = Counter(child["spec"]["parent"].get("key") for child in children)
        for key, count in keys.items():
            if count > 1:
                yield f"{name_of(parent)} has child {key} {count} times"
        if phase_of(parent) != "Succeeded":
            continue
        wanted = parent["spec"]["input"]["children"] if "input" in parent["spec"] else len(children)
        if len(children) != wanted:
            yield f"{name_of(parent)} succeeded with {len(children)} of {wanted} children"
        output = parent["status"]["steps"]["spawn"]["output"].replace(" ", "")
        if output != (right := f'{{"sum":{sum(range(wanted))}}}'):
            yield f"{name_of(parent)} returned {output} and not {right}"


def groups_are_kept(history: History) -> Iterator[str]:
    """No more runs of a group go on at a time than may, whoever leads."""
    for workflow, most in MAX_RUNS.items():
        groups = _by(history.of_workflow(workflow), lambda run: str(run["spec"]["input"]["group"]))
        for group, runs in groups.items():
            steps: list[tuple[float, int]] = []
            for run in runs:
                if calls := history.calls_of.get(run["metadata"]["name"]):
                    # one that goes on beside its cancelled run does so until it is told, as any cancelled step
                    end = min(seconds_of(run["status"].get("finishedAt")), calls[-1].ended)
                    steps += [(calls[0].began, 1), (max(end, calls[0].began), -1)]
            going = 0
            for at, change in sorted(steps):
                going += change
                if going > most:
                    yield f"{going} runs of {workflow} in group {group} went on at {at:.3f}, of at most {most}"


def rate_limits_are_kept(history: History) -> Iterator[str]:
    """Windows are fixed, so a time that is as long as some of them touches two more at most."""
    for workflow, (limit, seconds) in RATE_LIMITS.items():
        names = {run["metadata"]["name"] for run in history.of_workflow(workflow)}
        starts = [call.began for call in history.calls if call.run in names]
        for first, began in enumerate(starts):
            for last in range(first + limit, len(starts)):
                most = limit * (int((starts[last] - began) / seconds) + 2)
                if last - first + 1 > most:
                    yield f"{last - first + 1} runs of {workflow} began within {starts[last] - began:.2f} s, of {most}"
                    return


def nothing_begins_while_it_is_held(history: History) -> Iterator[str]:
    """A run that was made suspended calls nothing before it is resumed."""
    for run, resumed_at in history.resumed_at.items():
        for call in history.calls_of.get(run, [])[:1]:
            if call.began < resumed_at:
                yield f"{run} called {call.step} {resumed_at - call.began:.2f} s before it was resumed"


def replays_keep_what_succeeded(history: History) -> Iterator[str]:
    """A replay from what failed calls the failed step again, and it alone."""
    for run in history.of_workflow("Mended"):
        calls = Counter(call.step for call in history.calls_of.get(run["metadata"]["name"], []))
        if phase_of(run) == "Succeeded" and calls["second"] < 2:
            yield f"{name_of(run)} was replayed, and called second {calls['second']} times"


def events_start_once(history: History) -> Iterator[str]:
    """Each event has one run, however often it was pushed."""
    started = Counter(run["metadata"].get("labels", {}).get(labels.EVENT) for run in history.of_workflow("Told"))
    for asked in history.asked:
        if asked.is_event and started[asked.run] != 1:
            yield f"event {asked.run} started {started[asked.run]} runs"


def crons_tick_once(history: History) -> Iterator[str]:
    """Each minute has one run."""
    ticks = Counter(seconds_of(run["metadata"]["annotations"][labels.TICK]) for run in history.of_workflow("Ticking"))
    for tick, count in ticks.items():
        if count > 1:
            yield f"the tick {tick:.0f} has {count} runs"
    # not the first minute, in which it was registered, nor a last one that is just coming
    first, last = history.began // _MINUTE + 2, history.ended // _MINUTE
    for minute in range(int(first), int(last)):
        if minute * _MINUTE not in ticks:
            yield f"the tick {minute * _MINUTE} has no run"


def required_labels_are_kept(history: History) -> Iterator[str]:
    """A step that requires a label is called by a worker that has it."""
    for run in history.of_workflow("Labelled"):
        for call in history.calls_of.get(run["metadata"]["name"], []):
            if call.pid not in history.large:
                yield f"{name_of(run)} was called by pid {call.pid}, which has not the label that it requires"


def sticky_runs_stay(history: History) -> Iterator[str]:
    """All steps of a run that sticks are called by one process; those of a child by one that called its parent."""
    parents = {run["metadata"]["uid"]: run for run in history.of_workflow("Family")}
    for run in history.of_workflow("Stuck"):
        pids = {call.pid for call in history.calls_of.get(run["metadata"]["name"], [])}
        if len(pids) > 1:
            yield f"{name_of(run)} was called by pids {sorted(pids)}, and sticks to one"
        parent = parents.get(run["spec"].get("parent", {}).get("uid", ""))
        if parent is None:
            continue
        if strangers := pids - {call.pid for call in history.calls_of.get(parent["metadata"]["name"], [])}:
            yield f"{name_of(run)} was called by pids {sorted(strangers)}, and its parent by none of them"


def streams_are_in_order(history: History) -> Iterator[str]:
    """What a process said is heard in its order, each piece once; all of it, unless somebody was killed meanwhile."""
    deaths = [*history.operators_died_at, *history.died_at.values()]
    for run, heard in history.heard.items():
        said = _by([tuple(map(int, piece.split())) for piece in heard], lambda piece: piece[0])
        for pid, pieces in said.items():
            numbers = [number for _, number in pieces]
            if any(before >= after for before, after in pairwise(numbers)):
                yield f"{run} said to its listener, by pid {pid}: {numbers}"
        calls = history.calls_of.get(run, [])
        if not calls:
            continue
        # what was on its way when somebody was killed may be lost
        was_quiet = not any(calls[0].began - 15 <= at <= calls[-1].ended + 2 for at in deaths)
        if was_quiet and sum(map(len, said.values())) != PIECES * len(calls):
            yield f"{run} said {PIECES} pieces, and its listener heard {len(heard)}"


def large_payloads_arrive(history: History) -> Iterator[str]:
    """A step gets the whole output of the step before, made of the whole input."""
    given = {asked.run: asked.input["letter"] for asked in history.asked if asked.workflow == "Heavy"}
    for run in history.of_workflow("Heavy"):
        if phase_of(run) != "Succeeded":
            continue
        output = run["status"]["steps"]["count"]["output"].replace(" ", "")
        letter = given.get(run["metadata"]["name"])
        if letter and output != (right := f'{{"bytes":{2 * LARGE_BYTES},"letters":"{letter}"}}'):
            yield f"{name_of(run)} returned {output[:200]} and not {right}"


ALL: tuple[Rule, ...] = (
    nothing_is_lost,
    nothing_fails,
    nothing_runs_twice,
    successes_were_called,
    fan_outs_are_right,
    groups_are_kept,
    rate_limits_are_kept,
    nothing_begins_while_it_is_held,
    replays_keep_what_succeeded,
    events_start_once,
    crons_tick_once,
    required_labels_are_kept,
    sticky_runs_stay,
    streams_are_in_order,
    large_payloads_arrive,
)


def phase_of(run: Json) -> str:
    return str(run.get("status", {}).get("phase", "Pending"))


def name_of(run: Json) -> str:
    return f"{run['spec']['workflow']} {run['metadata']['name']}"


def _by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found
