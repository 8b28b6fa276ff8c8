"""Which lines of which logs are a run's, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.run_logs.lines import Wanted, error_lines, plain, wanted_lines
from hatchet_operator.run_logs.places import places_of, wanted_in_vain
from hatchet_operator.run_logs.reader import KnownLines, RunLogs

CREATED = "2026-11-28T12:00:00Z"


def make_run(name: str = "run", *, parent: str | None = None, **steps: Json) -> Json:
    spec: Json = {"workflow": "w"}
    if parent is not None:
        spec["parent"] = {"name": parent, "uid": f"uid-{parent}", "step": "work", "index": 0}
    metadata: Json = {"name": name, "namespace": "default", "uid": f"uid-{name}", "creationTimestamp": CREATED}
    if parent is not None:
        metadata["labels"] = {"hatchet-operator.dev/root-uid": "uid-run"}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Succeeded", "steps": steps}}


def make_step(worker: str | None, attempt: int = 0, *, phase: str = "Succeeded", **fields: object) -> Json:
    return {"phase": phase, "attempt": attempt} | ({"worker": worker} if worker else {}) | fields


def shown(raw: str, *, wanted: Wanted | None = None, is_the_runs: bool = False, with_run: bool = False) -> list[str]:
    runs = {"run": WorkflowRun.model_validate(make_run())}
    lines = wanted_lines(raw, runs=runs, wanted=wanted or Wanted(), pod="pod", is_the_runs=is_the_runs)
    return [line.shown(with_run=with_run) for line in lines]


# Lines


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        pytest.param("[run/work#1] said", ["work#1 | said"], id="a line"),
        pytest.param("2026-11-28T12:00:01.123456789Z [run/work#2] said", ["work#2 | said"], id="with its time"),
        pytest.param('2026-11-28T12:00:01Z {"hatchet": "run/work#1", "a": 1}', ['work#1 | {"a": 1}'], id="JSON"),
        pytest.param('{"hatchet": "run/work#1"}', ["work#1 | {}"], id="an empty JSON object"),
        pytest.param("[run-2/work#1] said", [], id="another run, whose name begins alike"),
        pytest.param("[other/work#1] [run/work#1] said", [], id="another run, which prints a line of this one"),
        pytest.param("2026-11-28T11:59:50Z [run/work#1] said", [], id="an earlier run of the same name"),
        pytest.param(
            "2026-11-28T11:59:59Z [run/work#1] said", ["work#1 | said"], id="by a clock that is a second late"
        ),
        pytest.param("half a l[run/work#1] said", ["work#1 | said"], id="after what a subprocess left on the line"),
        pytest.param("a worker's own news", [], id="of no run"),
        pytest.param(
            "[run/work#1] \x1b[31mred\x1b[0m \x1b[2J\0\u202e", ["work#1 | red \\x1b[2J\\x00\\u202e"], id="controls"
        ),
        pytest.param("[run/a%0Ab#1] said", ["a\\nb#1 | said"], id="a step's name with a newline"),
        pytest.param("[run/work#1]  1%\r 50%\r100%", ["work#1 | 100%"], id="a progress bar, of an old SDK"),
    ],
)
def test_of_a_shared_pod_only_the_runs_lines_are_shown(raw: str, want: list[str]) -> None:
    assert shown(raw) == want


@pytest.mark.parametrize(
    ("raw", "wanted", "want"),
    [
        pytest.param("news", Wanted(), ["pod | news"], id="a line of no run"),
        pytest.param("half[run/work#1] said", Wanted(), ["pod | half", "work#1 | said"], id="both on one line"),
        pytest.param("news", Wanted(step="work"), [], id="not where a step is asked for"),
    ],
)
def test_of_the_runs_own_pod_the_rest_is_shown_apart(raw: str, wanted: Wanted, want: list[str]) -> None:
    assert shown(raw, wanted=wanted, is_the_runs=True) == want


@pytest.mark.parametrize(
    ("wanted", "want"),
    [
        pytest.param(Wanted(step="Work"), True, id="the step, in whatever case"),
        pytest.param(Wanted(step="wor"), False, id="another step"),
        pytest.param(Wanted(attempt=2), True, id="the attempt"),
        pytest.param(Wanted(attempt=1), False, id="another attempt"),
        pytest.param(Wanted(step="work", attempt=2), True, id="both"),
    ],
)
def test_a_step_and_an_attempt_may_be_asked_for(wanted: Wanted, want: bool) -> None:
    assert bool(shown("[run/work#2] said", wanted=wanted)) is want
    run = WorkflowRun.model_validate(make_run(work=make_step("p", 1, phase="Failed", error="no")))
    assert bool(list(error_lines(run, wanted))) is want


def test_errors_are_those_of_steps_that_failed_by_themselves() -> None:
    traceback = 'no\nTraceback (most recent call last):\n  File "x"\nValueError: no\n'
    run = make_run(
        a=make_step("p", phase="Failed", error=traceback, reason="StepFailed"),
        b=make_step(None, phase="Cancelled", error="due to PREVIOUS_STEP_FAILED", reason="PreviousStepFailed"),
        c=make_step("p", 1, error="its first attempt's"),
    )
    lines = error_lines(WorkflowRun.model_validate(run), Wanted())
    assert [line.shown(with_run=True) for line in lines] == [
        "run a#1 ! Traceback (most recent call last):",
        'run a#1 !   File "x"',
        "run a#1 ! ValueError: no",
    ]


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        pytest.param(
            f"2026-11-28T12:00:01.5Z [run/work#2 trace={TRACE}] said",
            {
                "time": "2026-11-28T12:00:01.500000+00:00",
                "run": "run",
                "step": "work",
                "attempt": 2,
                "trace_id": TRACE,
                "message": "said",
            },
            id="a line of text",
        ),
        pytest.param(
            f'{{"hatchet": "run/work#1", "trace_id": "{TRACE}", "span_id": "{SPAN}", "a": 1}}',
            {
                "run": "run",
                "step": "work",
                "attempt": 1,
                "trace_id": TRACE,
                "span_id": SPAN,
                "message": '{"a": 1}',
            },
            id="one of JSON",
        ),
        pytest.param(
            "[run/work#1] \x1b]0;title\x07",
            {"run": "run", "step": "work", "attempt": 1, "message": "\x1b]0;title\x07"},
            id="without a trace",
        ),
        pytest.param("news", {"pod": "pod", "message": "news"}, id="of no run"),
    ],
)
def test_lines_for_programs_keep_what_is_known_of_them(raw: str, want: Json) -> None:
    runs = {"run": WorkflowRun.model_validate(make_run())}
    (line,) = wanted_lines(raw, runs=runs, wanted=Wanted(), pod="pod", is_the_runs=True)
    assert json.loads(line.to_json()) == want
    assert line.to_json().isprintable()
    assert TRACE not in line.shown(with_run=True), "which is for people"


def test_errors_for_programs() -> None:
    run = WorkflowRun.model_validate(make_run(a=make_step("p", phase="Failed", error="no", reason="StepFailed")))
    (line,) = error_lines(run, Wanted())
    assert json.loads(line.to_json()) == {"run": "run", "step": "a", "attempt": 1, "error": "no"}


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    assert plain("\x1b]0;title\x07\x1b[1A\x1b[2Ktext\r") == "\\x1b]0;title\\x07\\x1b[1A\\x1b[2Ktext"


# Places


def test_a_runs_places_are_those_of_all_its_attempts() -> None:
    earlier = [{"attempt": 0, "worker": "lost"}, {"attempt": 0, "worker": "first"}]
    run = make_run(
        a=make_step("second", 1, earlier=earlier),
        b=make_step("first", 1, phase="Pending", earlier=[{"attempt": 0, "worker": "first"}]),
        c=make_step(None, phase="Cancelled", reason="PreviousStepFailed"),
    )
    places = places_of([WorkflowRun.model_validate(run)], Wanted())
    assert {name: place.attempts for name, place in places.items()} == {
        "lost": [("run", "a", 1)],
        "first": [("run", "a", 1), ("run", "b", 1)],
        "second": [("run", "a", 2)],
    }
    assert places["first"].in_words(with_run=True) == 'attempt 1 of step "a" of run, attempt 1 of step "b" of run'


# Reading


class LogApi(Api):
    """Runs and pods, and the logs of these, as they are now."""

    def __init__(self, *runs: Json) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=lambda: False)
        self.runs = {run["metadata"]["name"]: run for run in runs}
        self.logs: dict[str, list[str]] = {}
        self.previous: dict[str, list[str]] = {}
        self.restarts = 0

    async def get(self, resource: object, namespace: str | None, name: str) -> Json:
        if resource is RUNS:
            return self.runs[name]
        if name not in self.logs:
            raise NotFound(name)
        status = {"containerStatuses": [{"name": "worker", "restartCount": self.restarts}]}
        return {"spec": {"containers": [{"name": "worker"}]}, "status": status}

    async def list_all(self, resource: object, *args: object, **kwargs: object) -> tuple[list[Json], str]:
        return ([run for run in self.runs.values() if "parent" in run["spec"]] if resource is RUNS else []), "1"

    async def log_lines(
        self, namespace: str, pod: str, *, previous: bool = False, **kwargs: object
    ) -> AsyncIterator[str]:
        logs = self.previous if previous else self.logs
        if pod not in logs:
            raise NotFound(pod)
        for line in logs[pod]:
            yield line


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(), None),
        (Wanted(step="Work", attempt=1), None),
        (Wanted(attempt=2), None),
        (Wanted(step="wrok"), 'has begun no step "wrok"; begun so far: work (attempt 2), rest (attempt 1)'),
        (Wanted(attempt=3), "has begun no step with an attempt 3; begun so far: work (attempt 2), rest (attempt 1)"),
        (Wanted(step="rest", attempt=2), 'has begun no step "rest" with an attempt 2; begun so far: work'),
        (Wanted(step="later"), 'has begun no step "later"; begun so far: work'),
    ],
)
def test_a_step_or_attempt_that_has_not_begun_is_named(wanted: Wanted, said: str | None) -> None:
    run = make_run(work=make_step("a", 1), rest=make_step("a"), later=make_step(None, phase="Pending"))
    problem = wanted_in_vain([WorkflowRun.model_validate(run)], wanted)
    assert problem == said or (problem is not None and said is not None and problem.startswith(said))


async def test_logs_of_a_step_that_is_not_there_say_so() -> None:
    api = LogApi(make_run(work=make_step("a")))
    api.logs = {"a": [at(1, "[run/work#1] said")]}
    shown, logs = await read(api, wanted=Wanted(step="wrok"))
    assert shown == []
    assert logs.problems == ['run default/run has begun no step "wrok"; begun so far: work (attempt 1)']


def at(second: int, text: str) -> str:
    return f"{datetime(2026, 11, 28, 12, 0, second, tzinfo=UTC).isoformat().replace('+00:00', 'Z')} {text}"


async def read(api: LogApi, *, wanted: Wanted | None = None, children: bool = False) -> tuple[list[str], RunLogs]:
    lines: list[str] = []
    logs = RunLogs(api, ObjectRef("default", "run"), write=lines.append, wanted=wanted or Wanted(), children=children)
    await logs.show()
    return lines, logs


async def test_lines_of_several_pods_come_in_the_order_of_their_times() -> None:
    api = LogApi(make_run(a=make_step("one"), b=make_step("two", 1, phase="Failed", error="no")))
    api.logs = {
        "one": [at(1, "[run/a#1] first"), at(4, "[run/a#1] fourth")],
        "two": [at(2, "[run/b#1] second"), at(3, "[run/b#2] third")],
    }
    lines, logs = await read(api)
    assert lines == ["a#1 | first", "b#1 | second", "b#2 | third", "a#1 | fourth", "b#2 ! no"]
    assert (logs.problems, logs.silence) == ([], None)


async def test_a_tree_is_that_of_the_run_and_not_of_its_siblings() -> None:
    api = LogApi(
        make_run(work=make_step("pod")),
        make_run("child", parent="run", work=make_step("pod")),
        make_run("grandchild", parent="child", work=make_step("pod", phase="Failed", error="no")),
        make_run("stranger", parent="gone", work=make_step("elsewhere")),
    )
    api.logs = {"pod": [f"[{name}/work#1] {name}" for name in ("run", "stranger", "child", "grandchild")]}
    lines, logs = await read(api, children=True)
    assert lines == [
        "run work#1 | run",
        "child work#1 | child",
        "grandchild work#1 | grandchild",
        "grandchild work#1 ! no",
    ]
    assert logs.problems == []
    assert (await read(api))[0] == ["work#1 | run"]


async def test_attempts_whose_log_is_gone_are_named() -> None:
    run = make_run(a=make_step("there", 1, earlier=[{"attempt": 0, "worker": "gone"}]))
    api = LogApi(run)
    api.logs = {"there": ["[run/a#2] second"]}
    lines, logs = await read(api)
    assert lines == ["a#2 | second"]
    (problem,) = logs.problems
    assert problem.startswith('pod "gone" is gone, and its log with it (attempt 1 of step "a"): ')
    assert (await read(api, wanted=Wanted(attempt=2)))[1].problems == []


async def test_the_log_of_the_container_before_is_read_too() -> None:
    api = LogApi(make_run(a=make_step("pod", 0, earlier=[{"attempt": 0, "worker": "pod"}])))
    api.restarts = 1
    api.previous = {"pod": ["[run/a#1] before it crashed"]}
    api.logs = {"pod": ["[run/a#1] again"]}
    lines, logs = await read(api)
    assert lines == ["a#1 | before it crashed", "a#1 | again"]
    assert logs.problems == []


async def test_what_kubernetes_does_not_keep_of_a_pod_is_said() -> None:
    api = LogApi(make_run(a=make_step("pod"), b=make_step("pod")))
    api.restarts = 3
    api.previous = {"pod": []}
    api.logs = {"pod": ["[run/b#1] here"]}
    _, logs = await read(api)
    (problem,) = logs.problems
    assert "was restarted 3 times" in problem
    assert 'have nothing of attempt 1 of step "a"' in problem


async def test_nothing_is_claimed_of_a_run_whose_lines_are_not_found() -> None:
    api = LogApi(make_run(a=make_step("pod")))
    api.logs = {"pod": ["of a published SDK"]}
    lines, logs = await read(api)
    assert (lines, logs.problems) == ([], [])
    assert logs.silence is not None
    assert "no line is known to be of run default/run" in logs.silence
    assert logs.silence.endswith("kubectl logs -n default pod")


def numbered(first: int, last: int, *, time: str = "1") -> list[str]:
    return [f"{time} {number}" for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        pytest.param(numbered(1, 3), numbered(1, 3), numbered(1, 3), id="nothing new"),
        pytest.param(numbered(1, 3), numbered(1, 5), numbered(1, 5), id="the log went on"),
        pytest.param([], numbered(1, 2), numbered(1, 2), id="it has only begun"),
        pytest.param(
            numbered(1, 5),
            numbered(1, 2, time="2"),
            numbered(1, 5) + numbered(1, 2, time="2"),
            id="another container's, shorter than that of the first",
        ),
        pytest.param(
            numbered(1, 2),
            numbered(1, 5, time="2"),
            numbered(1, 2) + numbered(1, 5, time="2"),
            id="another container's, longer",
        ),
        pytest.param(
            ["same", *numbered(1, 2)],
            ["same", *numbered(1, 1, time="2")],
            ["same", *numbered(1, 2), "same", *numbered(1, 1, time="2")],
            id="another container's, which begins alike",
        ),
    ],
)
def test_a_log_that_is_read_again(before: list[str], after: list[str], want: list[str]) -> None:
    known, found = KnownLines(), list[str]()
    for lines in (before, after, after):
        known.begin()
        for line in lines:
            found += known.new(line)
    assert found == want
