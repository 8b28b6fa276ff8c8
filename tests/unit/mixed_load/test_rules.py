"""The checker of the mixed load finds each kind of broken promise: one that finds nothing would prove nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from tests.mixed_load import rules
from tests.mixed_load.history import STILL_GOING, Asked, Call, History, read_calls

START = 1_000_000_020.0  # a whole minute


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def run(name: str, workflow: str = "leaf", phase: str = "Succeeded", **more: Any) -> Json:
    metadata: Json = {"name": name, "uid": f"uid-{name}"}
    for key in ("labels", "annotations"):
        if key in more:
            metadata[key] = more.pop(key)
    status: Json = {"phase": phase}
    for key in ("finishedAt", "steps", "message"):
        if key in more:
            status[key] = more.pop(key)
    return {"metadata": metadata, "spec": {"workflow": workflow, "input": {}} | more, "status": status}


def call(
    of: str, began: float = START, ended: float = START + 1, *, pid: int = 1, retry: int = 0, step: str = "work"
) -> Call:
    return Call(run=of, step=step, attempt="a", retry=retry, pid=pid, began=began, ended=ended)


def history(*runs: Json, **given: Any) -> History:
    defaults: dict[str, Any] = {
        "asked": [],
        "calls": [],
        "died_at": {},
        "resumed_at": {},
        "began": START,
        "ended": START,
    }
    return History(runs=list(runs), **(defaults | given))


def asked(name: str, workflow: str = "Leaf", *, is_event: bool = False) -> Asked:
    return Asked(workflow=workflow, run=name, is_event=is_event)


def in_group(name: str, workflow: str = "queued", group: str = "a", finished: float = START + 1) -> Json:
    return run(name, workflow, input={"group": group}, finishedAt=timestamp(finished))


def fan_out(output: str, children: int) -> Json:
    return run("p", "fanout", input={"children": children}, steps={"spawn": {"output": output}})


def child(name: str, key: str) -> Json:
    return run(name, parent={"uid": "uid-p", "key": key})


def tick(name: str, minute: int) -> Json:
    return run(name, "ticking", annotations={labels.TICK: timestamp(START + 60 * minute)})


def told(name: str, event: str) -> Json:
    return run(name, "told", labels={labels.EVENT: event})


def stuck(name: str, parent: str) -> Json:
    return run(name, "stuck", parent={"uid": f"uid-{parent}", "key": name})


def said(pid: int, numbers: Iterable[int]) -> list[str]:
    return [f"{pid} {number}" for number in numbers]


def heavy(size: int, letters: str) -> Json:
    return run("h", "heavy", steps={"count": {"output": f'{{"bytes": {size}, "letters": "{letters}"}}'}})


def asked_heavy(letter: str) -> Asked:
    return Asked(workflow="Heavy", run="h", input={"letter": letter})


KEPT = [
    pytest.param(rules.nothing_is_lost, history(run("a"), asked=[asked("a")]), id="it is there and final"),
    pytest.param(rules.nothing_fails, history(run("a", "newestwins", "Cancelled")), id="a limit cancels"),
    pytest.param(
        rules.nothing_fails,
        history(run("a", phase="Cancelled", cancelled=True), asked=[asked("a")]),
        id="somebody cancels",
    ),
    pytest.param(
        rules.nothing_runs_twice,
        history(calls=[call("a", ended=STILL_GOING), call("a", START + 5, START + 6, pid=2)], died_at={1: START + 1}),
        id="its worker died with it",
    ),
    pytest.param(
        rules.nothing_runs_twice,
        history(calls=[call("a"), call("a", START + 9, START + 10, pid=2)], died_at={1: START + 4}),
        id="its worker died with its result",
    ),
    pytest.param(
        rules.nothing_runs_twice,
        history(
            calls=[call("a"), call("a", START + 60, START + 61, pid=2)],
            died_at={1: START + 50},
            absences=[(START - 5, START + 20), (START + 22, START + 45)],
        ),
        id="its worker died with its result, and operators took long to start",
    ),
    pytest.param(rules.nothing_runs_twice, history(calls=[call("a"), call("a", retry=1)]), id="it is retried"),
    pytest.param(
        rules.groups_are_kept,
        history(*map(in_group, "abc"), calls=[call("a"), call("b"), call("c", START + 1.5, START + 2)]),
        id="two at a time",
    ),
    pytest.param(
        rules.groups_are_kept,
        history(
            in_group("a", "newestwins", finished=START + 1),
            in_group("b", "newestwins", finished=START + 9),
            calls=[call("a", ended=START + 5), call("b", START + 1.1, START + 9)],
        ),
        id="one goes on that was cancelled",
    ),
    pytest.param(
        rules.fan_outs_are_right, history(fan_out('{"sum": 1}', 2), child("x", "0"), child("y", "1")), id="the sum"
    ),
    pytest.param(
        rules.events_start_once, history(told("x", "e"), asked=[asked("e", "Told", is_event=True)]), id="one event"
    ),
    pytest.param(
        rules.rate_limits_are_kept,
        history(
            *(run(str(number), "limitedbysecond") for number in range(9)),
            calls=[call(str(number), START + number / 2) for number in range(9)],
        ),
        id="two a second",
    ),
    pytest.param(
        rules.nothing_runs_twice,
        history(calls=[call("a", step="second"), call("a", START + 9, step="second")]),
        id="a step that was replayed",
    ),
    pytest.param(rules.crons_tick_once, history(tick("x", 2), tick("y", 3), ended=START + 270), id="each minute"),
    pytest.param(
        rules.required_labels_are_kept,
        history(run("a", "labelled"), calls=[call("a", pid=3)], large=frozenset({3})),
        id="a worker with the label",
    ),
    pytest.param(
        rules.sticky_runs_stay,
        history(
            run("f", "family"),
            stuck("a", "f"),
            calls=[call("f", pid=1), call("f", pid=2), call("a", pid=2), call("a", pid=2, step="second")],
        ),
        id="a child on one of its parent's workers",
    ),
    pytest.param(
        rules.nothing_fails,
        history(run("a", "stuck", "Failed", message="SCHEDULING_TIMED_OUT"), died_at={1: START}),
        id="the worker died that it sticks to",
    ),
    pytest.param(
        rules.streams_are_in_order, history(calls=[call("a")], heard={"a": said(1, range(20))}), id="all that was said"
    ),
    pytest.param(
        rules.streams_are_in_order,
        history(calls=[call("a")], heard={"a": said(1, [0, 1, 7])}, absences=[(START + 0.5, START + 9)]),
        id="some was lost with an operator",
    ),
    pytest.param(
        rules.streams_are_in_order,
        history(
            calls=[call("a"), call("a", pid=2)],
            heard={"a": said(1, range(5)) + said(2, range(20))},
            died_at={1: START + 0.5},
        ),
        id="said again by another worker",
    ),
    pytest.param(
        rules.large_payloads_arrive,
        history(heavy(2 * rules.LARGE_BYTES, "b"), asked=[asked_heavy("b")]),
        id="all of a large payload",
    ),
]

BROKEN = [
    pytest.param(rules.nothing_is_lost, history(asked=[asked("a")]), "a was answered and is not there", id="lost"),
    pytest.param(rules.nothing_is_lost, history(run("a", phase="Running")), "leaf a is Running in the end", id="stuck"),
    pytest.param(rules.nothing_fails, history(run("a", phase="Failed")), "leaf a failed", id="failed"),
    pytest.param(
        rules.nothing_fails,
        history(run("a", phase="Cancelled"), asked=[asked("a")]),
        "leaf a was cancelled, and nobody asked",
        id="cancelled",
    ),
    pytest.param(
        rules.nothing_runs_twice, history(calls=[call("a"), call("a")]), "pid 1 did not die between", id="twice"
    ),
    pytest.param(
        rules.nothing_runs_twice,
        history(calls=[call("a"), call("a", START + 5)], died_at={1: START + 8}),
        "pid 1 did not die between",
        id="twice, and its worker died later",
    ),
    pytest.param(
        rules.nothing_runs_twice,
        history(calls=[call("a"), call("a", START + 70)], died_at={1: START + 61}),
        "again, 60 s after its result",
        id="again, with a result that must have been written down",
    ),
    pytest.param(rules.successes_were_called, history(run("a")), "function was never called", id="a success of nobody"),
    pytest.param(
        rules.successes_were_called,
        history(run("a", finishedAt=timestamp(START)), calls=[call("a", START + 5)]),
        "called work 5.0 s after it was final",
        id="called when it was final",
    ),
    pytest.param(
        rules.fan_outs_are_right,
        history(fan_out('{"sum": 1}', 2), child("x", "0"), child("y", "0")),
        "fanout p has child 0 2 times",
        id="a child twice",
    ),
    pytest.param(
        rules.fan_outs_are_right, history(fan_out('{"sum": 1}', 2), child("x", "0")), "1 of 2 children", id="one less"
    ),
    pytest.param(
        rules.fan_outs_are_right,
        history(fan_out('{"sum": 7}', 2), child("x", "0"), child("y", "1")),
        'returned {"sum":7} and not {"sum":1}',
        id="a wrong sum",
    ),
    pytest.param(
        rules.groups_are_kept,
        history(*map(in_group, "abc"), calls=[call("a"), call("b"), call("c", START + 0.5)]),
        "3 runs of Queued in group a",
        id="three at a time",
    ),
    pytest.param(
        rules.groups_are_kept,
        history(
            in_group("a", "newestwins", finished=START + 3),
            in_group("b", "newestwins", finished=START + 9),
            calls=[call("a", ended=START + 5), call("b", START + 1, START + 9)],
        ),
        "2 runs of NewestWins",
        id="its successor began before it was final",
    ),
    pytest.param(
        rules.rate_limits_are_kept,
        history(
            *(run(str(number), "limitedbysecond") for number in range(5)),
            calls=[call(str(number), START + number / 10) for number in range(5)],
        ),
        "5 runs of LimitedBySecond began within 0.40 s, of 4",
        id="more than two windows in one",
    ),
    pytest.param(
        rules.nothing_begins_while_it_is_held,
        history(calls=[call("a")], resumed_at={"a": START + 2}),
        "a called work 2.00 s before it was resumed",
        id="begun while it was held",
    ),
    pytest.param(
        rules.replays_keep_what_succeeded,
        history(run("a", "mended"), calls=[call("a", step="first"), call("a", START + 1, step="second")]),
        "called second 1 times",
        id="a replay that called nothing",
    ),
    pytest.param(
        rules.events_start_once, history(asked=[asked("e", "Told", is_event=True)]), "e started 0 runs", id="no run"
    ),
    pytest.param(
        rules.events_start_once,
        history(told("x", "e"), told("y", "e"), asked=[asked("e", "Told", is_event=True)]),
        "e started 2 runs",
        id="an event twice",
    ),
    pytest.param(
        rules.crons_tick_once, history(tick("x", 2), ended=START + 270), "has no run", id="a minute without a run"
    ),
    pytest.param(rules.crons_tick_once, history(tick("x", 2), tick("y", 2)), "has 2 runs", id="a tick twice"),
    pytest.param(
        rules.required_labels_are_kept,
        history(run("a", "labelled"), calls=[call("a", pid=4)], large=frozenset({3})),
        "labelled a was called by pid 4, which has not the label",
        id="a worker without the label",
    ),
    pytest.param(
        rules.sticky_runs_stay,
        history(run("a", "stuck"), calls=[call("a", step="first"), call("a", pid=2, step="second")]),
        "was called by pids [1, 2], and sticks to one",
        id="a sticky run on two workers",
    ),
    pytest.param(
        rules.sticky_runs_stay,
        history(run("f", "family"), stuck("a", "f"), calls=[call("f"), call("a", pid=2)]),
        "was called by pids [2], and its parent by none of them",
        id="a sticky child elsewhere",
    ),
    pytest.param(
        rules.nothing_fails,
        history(run("a", "stuck", "Failed", message="SCHEDULING_TIMED_OUT")),
        "stuck a failed",
        id="a sticky run that nobody's death ended",
    ),
    pytest.param(
        rules.streams_are_in_order,
        history(calls=[call("a")], heard={"a": said(1, [0, 2, 1])}, died_at={1: START}),
        "by pid 1: [0, 2, 1]",
        id="in another order",
    ),
    pytest.param(
        rules.streams_are_in_order,
        history(calls=[call("a")], heard={"a": said(1, [0, 1, 1])}, died_at={1: START}),
        "by pid 1: [0, 1, 1]",
        id="a piece twice",
    ),
    pytest.param(
        rules.streams_are_in_order,
        history(calls=[call("a")], heard={"a": said(1, range(19))}),
        "its listener heard 19",
        id="a piece that nobody's death lost",
    ),
    pytest.param(
        rules.large_payloads_arrive,
        history(heavy(3, "b"), asked=[asked_heavy("b")]),
        'returned {"bytes":3,"letters":"b"} and not {"bytes":600000,"letters":"b"}',
        id="a part of a large payload",
    ),
]


@pytest.mark.parametrize(("rule", "kept"), KEPT)
def test_a_promise_that_was_kept_is_not_complained_about(rule: rules.Rule, kept: History) -> None:
    assert list(rule(kept)) == []


@pytest.mark.parametrize(("rule", "broken", "said"), BROKEN)
def test_a_promise_that_was_broken_is_found(rule: rules.Rule, broken: History, said: str) -> None:
    (sentence,) = rule(broken)
    assert said in sentence


def test_every_rule_is_among_those_that_are_broken_here() -> None:
    assert {param.values[0] for param in BROKEN} == set(rules.ALL)


def test_calls_are_put_together_from_what_workers_wrote(tmp_path: Path) -> None:
    def line(event: str, at: float, attempt: str, pid: int) -> str:
        of = {"run": "r", "step": "work", "attempt": attempt, "retry": 0, "pid": pid}
        return json.dumps({"event": event, "at": at} | of) + "\n"

    file = tmp_path / "calls"
    assert read_calls(file) == []
    lines = [line("begin", 1, "a", 7), line("begin", 2, "b", 8), line("end", 3, "b", 8), line("begin", 4, "a", 9)]
    file.write_text("".join(lines))
    assert [(each.attempt, each.pid, each.began, each.ended) for each in read_calls(file)] == [
        ("a", 7, 1, STILL_GOING),
        ("b", 8, 2, 3),
        ("a", 9, 4, STILL_GOING),
    ]
