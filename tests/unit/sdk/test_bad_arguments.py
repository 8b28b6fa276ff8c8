"""Every argument of every call, given what it can't be: one exception, with its name, the value and what it may be.

The table is complete: a parameter of a public call without a bad value in it, or a reason to have none, fails a test.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, is_typeddict

import pytest

import hatchet_sdk
from hatchet_sdk import (
    BulkPushEventWithMetadata,
    ChildScheduleWorkflowOptions,
    ChildTriggerWorkflowOptions,
    ChildWorkflowRunDict,
    ClientConfig,
    ConcurrencyExpression,
    Context,
    DesiredWorkerLabel,
    Event,
    GatheredRuns,
    Hatchet,
    NotConfigured,
    OperatorUnavailable,
    PushEventOptions,
    RateLimit,
    RequestRefused,
    RetryAfterError,
    Run,
    RunActResult,
    RunDetails,
    RunFilter,
    RunPage,
    RunStep,
    StepRunEvent,
    TriggerWorkflowOptions,
    WorkflowNotFound,
    WorkflowRunDict,
    WorkflowRunRef,
    sync_gather_runs,
    testing,
)
from hatchet_sdk._client.admin import Admin, AdminAio
from hatchet_sdk._client.config import endpoint_of
from hatchet_sdk._client.events import EventClient
from hatchet_sdk._client.listener import Listener
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._client.runs import Runs, RunsAio
from hatchet_sdk._hatchet import paced
from hatchet_sdk._runner.context_aio import ContextAio
from hatchet_sdk._runner.definition import definition_of
from hatchet_sdk.testing import FakeContext, LocalServer, Spawned

HUGE = 2**31
DEEP: Any = []
DEEP.append(DEEP)
hatchet = paced(Pace(patience=0.0), ClientConfig(host_port="127.0.0.1:9", token="t", tls_strategy="none"))
"""What is sent to the operator that is not there fails soon, with an error that no test here takes."""


def step(self: object, context: Context) -> None:
    return None


def workflow(**options: Any) -> object:
    return definition_of(hatchet.workflow(**options)(type("Made", (), {"step": hatchet.step()(_copy())}))())


def a_step(**options: Any) -> object:
    return hatchet.workflow()(type("Made", (), {"step": hatchet.step(**options)(_copy())}))


def an_on_failure_step(**options: Any) -> object:
    made = {"step": hatchet.step()(_copy()), "tidy": hatchet.on_failure_step(**{"name": "tidy", **options})(_copy())}
    return hatchet.workflow()(type("Made", (), made))


def _copy() -> Any:
    def copied(self: object, context: Context) -> None:
        return step(self, context)

    return copied


def run(**given: Any) -> object:
    return hatchet.admin.run_workflow(**{"workflow_name": "Etl", "input": {}, **given})


def run_option(name: str) -> Callable[..., object]:
    return lambda **given: run(options={name: given[name]})


def one_of_many(name: str) -> Callable[..., object]:
    return lambda **given: hatchet.admin.run_workflows([{"workflow_name": "Etl", **given}])  # type: ignore[typeddict-item]


def schedule(**given: Any) -> object:
    soon = [datetime.now().astimezone()]
    return hatchet.admin.schedule_workflow(**{"name": "Etl", "schedules": soon, "input": {}, **given})


def schedule_child(**given: Any) -> object:
    soon = [datetime.now().astimezone()]
    return FakeContext().schedule_workflow(**{"workflow_name": "Etl", "schedules": soon, **given})


def put_rate_limit(**given: Any) -> None:
    hatchet.admin.put_rate_limit(**{"key": "api", "limit": 5, **given})


def push(**given: Any) -> object:
    return hatchet.event.push(**{"event_key": "order", "payload": {}, **given})


def push_option(name: str) -> Callable[..., object]:
    return lambda **given: push(options={name: given[name]})


def one_event(name: str) -> Callable[..., object]:
    return lambda **given: hatchet.event.bulk_push([{"key": "order", **given}])  # type: ignore[typeddict-item]


def spawn(**given: Any) -> object:
    return FakeContext().spawn_workflow(**{"workflow_name": "Etl", **given})


def spawn_option(name: str) -> Callable[..., object]:
    return lambda **given: spawn(options={name: given[name]})


def one_child(name: str) -> Callable[..., object]:
    return lambda **given: FakeContext().spawn_workflows([{"workflow_name": "Etl", **given}])  # type: ignore[typeddict-item]


def scheduled_option(name: str) -> Callable[..., object]:
    return lambda **given: schedule_child(options={name: given[name]})


def a_naming_method(**given: Any) -> object:
    made = {"step": hatchet.step()(_copy()), "group": hatchet.concurrency(**given)(lambda self, context: "all")}
    return hatchet.workflow()(type("Made", (), made))


def limited(**given: Any) -> object:
    return workflow(concurrency=ConcurrencyExpression(**{"expression": "input.user", **given}))


def rate_limited(**given: Any) -> object:
    keyed = given.keys() & {"key", "static_key", "dynamic_key"}
    return a_step(rate_limits=[RateLimit(**given if keyed else {"key": "api", **given})])


def labelled(**given: Any) -> object:
    return a_step(desired_worker_labels={"model": {"value": "large", **given}})


def configured(**given: Any) -> object:
    return endpoint_of(ClientConfig(host_port="h:1", **given), {})


def a_ref() -> WorkflowRunRef:
    context = FakeContext()
    context.answer("Etl", {})
    return context.spawn_workflow("Etl")


def fake(call: str) -> Callable[..., object]:
    """How a method of a fake context is called, with whatever else it needs."""
    needed: dict[str, dict[str, Any]] = {
        "answer": {"outputs": {}},
        "fail": {"error": "boom"},
        "refuse": {"error": WorkflowNotFound("no such")},
    }
    return lambda **given: getattr(FakeContext(), call)(**{"workflow_name": "Etl", **needed[call], **given})


def answered(**given: Any) -> object:
    """Await a child whose answer, a function of the test, makes what it should not."""
    context = FakeContext()
    context.answer("Etl", lambda child: given["outputs"])
    return context.spawn_workflow("Etl").sync_result()


def of_a_server(call: str) -> Callable[..., object]:
    def called(**given: Any) -> object:
        server = LocalServer()
        server.environment = {"HATCHET_CLIENT_HOST_PORT": "127.0.0.1:9"}
        server.hatchet = hatchet
        if call == "run":
            return server.run(**{"workflow_name": "Etl", **given})
        workflows = given.pop("workflows", ())
        with server.worker(*(workflows if isinstance(workflows, tuple) else (workflows,)), **given):
            return None

    return called


CONFIGURED = {field.name for field in fields(ClientConfig)}
NO_TEXT = [5, True, b"x", ["x"], {"x": 1}]
NO_WORD = [*NO_TEXT, "", None]
NO_NAME = [*NO_TEXT, "", "x" * 254]
NO_WHOLE = ["3", 1.5, True, -1, [1], HUGE]
NO_DURATION = [5, True, "", "soon", "-5s", "0s", "1e9d", ["5s"], None]
NO_MAPPING = [5, 0, "x", "", [1], True, {"a": {1, 1j}}, {"a": float("nan")}, {"a": "x" * 300_000}]
NO_TEXTS = ["x", 5, [5], [""], [None], {"a": 1}]

# Call, parameter, how it is called with it, bad values.
TABLE: list[tuple[str, str, Callable[..., object], list[Any]]] = [
    ("workflow", "name", workflow, [5, True, b"x", ["x"], "x" * 254, " "]),
    ("workflow", "version", workflow, [*NO_TEXT, "x" * 254]),
    ("workflow", "timeout", workflow, NO_DURATION),
    ("workflow", "schedule_timeout", workflow, NO_DURATION),
    ("workflow", "default_priority", workflow, ["high", 1.5, True, [1]]),
    ("workflow", "sticky", workflow, [5, "SOFT", True, {"a": 1}]),
    ("workflow", "record", workflow, [5, "Result", "none", True, {"a": 1}]),
    ("workflow", "concurrency", workflow, [5, "input.user", ["input.user"], {"a": 1}, True]),
    ("workflow", "on_events", workflow, [*NO_TEXTS, ["x" * 1025], [f"x{n}" for n in range(101)]]),
    ("workflow", "on_crons", workflow, [*NO_TEXTS, ["x" * 257], [f"x{n}" for n in range(101)]]),
    ("workflow", "cron_input", workflow, NO_MAPPING),
    ("workflow", "input_validator", workflow, [5, "Order", dict, {}]),
    ("step", "name", a_step, [5, True, b"x", ["x"], "x" * 254, " "]),
    ("step", "timeout", a_step, [5, True, "soon", "-5s", "0s", "1e9d", ["5s"]]),
    ("step", "parents", a_step, ["x", 5, [5], {"a": 1}, True, [""]]),
    ("step", "retries", a_step, [*NO_WHOLE, None]),
    ("step", "backoff_factor", a_step, ["2", 0.5, True, -1, float("nan"), float("inf"), [2]]),
    ("step", "backoff_max_seconds", a_step, [*NO_WHOLE, 0]),
    ("step", "backoff_delays", a_step, ["5s", 5, [5], [], ["soon"], {"a": 1}, ["1s"] * 33]),
    ("step", "backoff_jitter", a_step, ["0.5", -0.1, 1.1, True, float("nan"), [1]]),
    ("step", "max_reassignments", a_step, NO_WHOLE),
    ("step", "desired_worker_labels", a_step, [5, "x", [1], {"a": 1.5}, {5: 1}]),
    ("step", "rate_limits", a_step, [5, "x", ["x"], {"a": 1}, True]),
    ("on_failure_step", "rate_limits", an_on_failure_step, [5, "x", ["x"], {"a": 1}]),
    ("on_failure_step", "name", an_on_failure_step, [5, True, b"x", ["x"], "x" * 254, " "]),
    ("on_failure_step", "run_on", an_on_failure_step, [5, "success", "", None, ["always"]]),
    ("on_failure_step", "timeout", an_on_failure_step, [5, True, "soon", "-5s", "0s"]),
    ("on_failure_step", "retries", an_on_failure_step, [*NO_WHOLE, None]),
    ("on_failure_step", "backoff_factor", an_on_failure_step, ["2", 0.5, True, -1]),
    ("on_failure_step", "backoff_max_seconds", an_on_failure_step, [*NO_WHOLE, 0]),
    ("on_failure_step", "backoff_delays", an_on_failure_step, ["5s", 5, [5], []]),
    ("on_failure_step", "backoff_jitter", an_on_failure_step, ["0.5", -0.1, 1.1, True]),
    ("on_failure_step", "max_reassignments", an_on_failure_step, NO_WHOLE),
    ("worker", "name", hatchet.worker, NO_NAME),
    ("worker", "max_runs", lambda **given: hatchet.worker("w", **given), [*NO_WHOLE, 0, 10_001]),
    ("worker", "labels", lambda **given: hatchet.worker("w", **given), [5, "x", [1], {"a": 1.5}, {5: 1}]),
    ("worker", "max_overruns", lambda **given: hatchet.worker("w", **given), [*NO_WHOLE, 0]),
    ("run_workflow", "workflow_name", run, [*NO_TEXT, "", None, "\ud800"]),
    ("run_workflow", "input", run, NO_MAPPING),
    ("run_workflow", "options", run, [5, "x", [1], {"unknown": 1}]),
    ("run_workflow", "additional_metadata", run_option("additional_metadata"), NO_MAPPING),
    ("run_workflow", "priority", run_option("priority"), ["3", 1.5, True, 0, 4, [1]]),
    ("run_workflow", "request_id", run_option("request_id"), [*NO_TEXT, ""]),
    ("run_workflows", "workflow_runs", hatchet.admin.run_workflows, [5, "x", [5], [{}], {"workflow_name": "x"}]),
    ("run_workflows", "workflow_name", one_of_many("workflow_name"), [*NO_TEXT, "", None]),
    ("run_workflows", "options", one_of_many("options"), [5, "x", [1], {"unknown": 1}]),
    ("run_workflows", "input", one_of_many("input"), NO_MAPPING),
    ("schedule_workflow", "name", schedule, [*NO_TEXT, "", None]),
    ("schedule_workflow", "schedules", schedule, [5, "x", [5], [], datetime.now(), [None], {"a": 1}]),
    ("schedule_workflow", "input", schedule, NO_MAPPING),
    ("schedule_workflow", "options", schedule, [5, "x", [1], {"unknown": 1}]),
    ("put_rate_limit", "key", put_rate_limit, [*NO_TEXT, "", None, "x" * 5000]),
    ("put_rate_limit", "limit", put_rate_limit, [*NO_WHOLE, None]),
    ("put_rate_limit", "duration", put_rate_limit, ["fortnight", 5.5, None]),
    ("schedule_workflow of a step", "workflow_name", schedule_child, [*NO_TEXT, "", None]),
    ("schedule_workflow of a step", "schedules", schedule_child, [5, "x", [5], [], datetime.now(), [None], {"a": 1}]),
    ("schedule_workflow of a step", "input", schedule_child, NO_MAPPING),
    ("schedule_workflow of a step", "key", schedule_child, [*NO_TEXT, "", "x" * 65_537]),
    *[
        ("schedule_workflow of a step", name, scheduled_option(name), bad)
        for name, bad in (("additional_metadata", NO_MAPPING), ("priority", ["3", 0, 4, True]))
    ],
    ("schedule_workflow of a step", "options", schedule_child, [5, "x", [1], {"unknown": 1}]),
    ("get_workflow_run", "workflow_run_id", hatchet.admin.get_workflow_run, [*NO_TEXT, "", None]),
    ("push", "event_key", push, [*NO_TEXT, "", None, "x" * 1025]),
    ("push", "payload", push, NO_MAPPING),
    ("push", "options", push, [5, "x", [1], {"unknown": 1}]),
    ("push", "additional_metadata", push_option("additional_metadata"), NO_MAPPING),
    ("push", "priority", push_option("priority"), ["3", 1.5, True, 0, 4, [1]]),
    ("push", "scope", push_option("scope"), [*NO_TEXT, ""]),
    ("push", "event_id", push_option("event_id"), [*NO_TEXT, "", "x" * 1025]),
    *[
        ("bulk_push", name, one_event(name), bad)
        for name, bad in (
            ("key", [*NO_TEXT, "", None, "x" * 1025]),
            ("payload", NO_MAPPING),
            ("additional_metadata", NO_MAPPING),
            ("event_id", [*NO_TEXT, "", "x" * 1025]),
            ("scope", [*NO_TEXT, ""]),
        )
    ],
    ("bulk_push", "events", hatchet.event.bulk_push, [5, "x", [5], [{}], {"key": "x"}]),
    ("stream", "workflow_run_id", hatchet.listener.stream, [*NO_TEXT, "", None]),
    (
        "stream_by_additional_metadata",
        "key",
        lambda key: hatchet.listener.stream_by_additional_metadata(key, "x"),
        [*NO_TEXT, "", None],
    ),
    (
        "stream_by_additional_metadata",
        "value",
        lambda value: hatchet.listener.stream_by_additional_metadata("x", value),
        [*NO_TEXT, None],
    ),
    ("spawn_workflow", "workflow_name", spawn, [*NO_TEXT, "", None]),
    ("spawn_workflow", "input", spawn, NO_MAPPING),
    ("spawn_workflow", "key", spawn, [*NO_TEXT, "", "x" * 65_537]),
    ("spawn_workflow", "options", spawn, [5, "x", [1], {"unknown": 1}]),
    ("spawn_workflow", "priority", spawn_option("priority"), ["3", 0, 4, True]),
    ("spawn_workflow", "additional_metadata", spawn_option("additional_metadata"), NO_MAPPING),
    ("spawn_workflow", "sticky", spawn_option("sticky"), ["yes", 5, [1]]),
    ("spawn_workflow", "on_conflict", spawn_option("on_conflict"), ["retry", 5, [1]]),
    ("spawn_workflow", "on_failed", spawn_option("on_failed"), ["fail", 5, [1]]),
    ("spawn_workflow", "on_parent_close", spawn_option("on_parent_close"), ["cancel", 5, [1]]),
    ("spawn_workflow", "record", spawn_option("record"), ["Result", 5, [1]]),
    (
        "spawn_workflows",
        "child_workflow_runs",
        lambda child_workflow_runs: FakeContext().spawn_workflows(child_workflow_runs),
        [5, "x", [5], [{}], {"workflow_name": "x"}],
    ),
    *[
        ("spawn_workflows", name, one_child(name), bad)
        for name, bad in (
            ("workflow_name", [*NO_TEXT, "", None]),
            ("input", NO_MAPPING),
            ("key", [*NO_TEXT, "", "x" * 65_537]),
            ("options", [5, "x", [1], {"unknown": 1}]),
        )
    ],
    ("step_output", "step", lambda step: FakeContext().step_output(step), [*NO_TEXT, "", None]),
    ("step_output", "model", lambda model: FakeContext(parents={"a": {}}).step_output("a", model), [5, "x", dict]),
    ("workflow_input", "model", lambda model: FakeContext().workflow_input(model), [5, "x", dict]),
    ("refresh_timeout", "increment_by", lambda increment_by: FakeContext().refresh_timeout(increment_by), NO_DURATION),
    ("playground", "name", lambda name: FakeContext().playground(name), [5, "", None]),
    ("put_stream", "data", lambda data: FakeContext().put_stream(data), [5, None, ["x"], b"\xff", "x" * 65_537]),
    (
        "wait_until_stopping",
        "timeout",
        lambda timeout: FakeContext().wait_until_stopping(timeout),
        ["5s", [1], -1, float("nan")],
    ),
    ("sync_result", "timeout", lambda timeout: a_ref().sync_result(timeout), ["5s", [1], -1, float("nan")]),
    ("sync_gather_runs", "refs", sync_gather_runs, [5, "x", [5], {"a": 1}, None]),
    ("sync_gather_runs", "max_failed", lambda max_failed: sync_gather_runs([], max_failed=max_failed), [-1, "x", 0.5]),
    ("Hatchet", "config", lambda config: Hatchet(config=config), [5, "x", {"token": "t"}]),
    *[("ClientConfig", name, ClientConfig, [5, True, b"x", ["x"]]) for name in sorted(CONFIGURED - {"payloads_above"})],
    ("ClientConfig", "payloads_above", configured, ["x", 1.5, True, -1, 0, 2**20]),
    ("ClientConfig", "tls_strategy", configured, ["ssl", "TLS"]),
    ("concurrency", "name", hatchet.concurrency, [_copy()]),
    ("concurrency", "max_runs", a_naming_method, [*NO_WHOLE, 0, None]),
    ("concurrency", "limit_strategy", a_naming_method, [5, "QUEUE_NEWEST", None]),
    ("ConcurrencyExpression", "expression", limited, [*NO_TEXT, "", " ", None]),
    ("ConcurrencyExpression", "max_runs", limited, [*NO_WHOLE, 0, None]),
    ("ConcurrencyExpression", "limit_strategy", limited, [5, "QUEUE_NEWEST", None]),
    *[("RateLimit", name, rate_limited, [*NO_TEXT, ""]) for name in ("key", "static_key", "dynamic_key")],
    ("RateLimit", "key", rate_limited, ["x" * 257]),
    ("RateLimit", "units", rate_limited, [1.5, True, -1, [1], HUGE, "", None]),
    ("RateLimit", "limit", rate_limited, [1.5, True, -1, [1], HUGE, ""]),
    ("RateLimit", "duration", rate_limited, ["fortnight", 5.5, None]),
    ("a desired label", "value", labelled, [1.5, True, b"x", ["x"], "x" * 254]),
    ("a desired label", "comparator", labelled, [5.5, "Is", ["x"]]),
    ("a desired label", "required", labelled, ["yes", 5, ["x"]]),
    ("a desired label", "weight", labelled, ["3", 1.5, True, HUGE]),
    ("upsert_labels", "labels", FakeContext().worker.upsert_labels, [5, "x", [1], {"a": 1.5}, {5: 1}, None]),
    *[
        (f"runs.{name}", "run_id", getattr(hatchet.runs, name), [*NO_TEXT, "", None])
        for name in ("get", "cancel", "replay", "suspend", "resume")
    ],
    *[
        (f"runs.bulk_{name}", "runs", getattr(hatchet.runs, f"bulk_{name}"), [5, "x", [5], [""], {"a": 1}, None])
        for name in ("cancel", "replay", "suspend", "resume")
    ],
    ("runs.list", "which", hatchet.runs.list, [5, "x", 0, {"workflow": "x"}, ["x"]]),
    ("runs.list", "limit", hatchet.runs.list, [*NO_WHOLE, 0, 1001, None]),
    ("runs.list", "page", hatchet.runs.list, [*NO_TEXT, ""]),
    ("RunFilter", "workflow", RunFilter, [*NO_TEXT, ""]),
    ("RunFilter", "phases", RunFilter, [5, "Failed", {"Failed": 1}, ["failed"], [5], None]),
    ("RunFilter", "since", RunFilter, [5, "2027-01-31", True, ["x"]]),
    ("RunFilter", "until", RunFilter, [5, "2027-01-31", True, ["x"]]),
    ("RunFilter", "metadata", RunFilter, [5, "x", ["x"], {"a": 1}, {1: "a"}, None]),
    ("RunFilter", "tree", RunFilter, [*NO_TEXT, ""]),
    ("register_workflow", "workflow", lambda workflow: hatchet.worker("w").register_workflow(workflow), [5, "x", None]),
    ("RetryAfterError", "retry_after", lambda retry_after: RetryAfterError(retry_after=retry_after), ["5s", -1, True]),
]
TABLE += [
    ("FakeContext", "input", FakeContext, NO_MAPPING),
    ("FakeContext", "parents", FakeContext, [5, "x", [1], {"a": 5}, {5: {}}, {"a": {"b": {1, 1j}}}]),
    ("FakeContext", "step", FakeContext, NO_WORD),
    ("FakeContext", "retry_count", FakeContext, [*NO_WHOLE, None]),
    ("FakeContext", "additional_metadata", FakeContext, [5, "x", [1], True, {"a": {1, 1j}}]),
    ("FakeContext", "step_run_errors", FakeContext, [5, "x", [1], {"a": 5}, {5: "a"}]),
    ("FakeContext", "workflow_run_id", FakeContext, NO_WORD),
    *[("FakeContext", name, FakeContext, [*NO_TEXT, None]) for name in ("parent_workflow_run_id", "child_key")],
    ("FakeContext", "child_index", FakeContext, ["3", 1.5, True, -2, [1], HUGE, None]),
    ("FakeContext", "triggered_by", FakeContext, [5, "MANUAL", "", None, ["cron"]]),
    ("FakeContext", "worker_labels", FakeContext, [5, "x", [1], {"a": 1.5}, {5: 1}]),
    ("FakeContext", "input_validator", FakeContext, [5, "Order", dict, {}]),
    ("FakeContext", "payloads", FakeContext, [5, "x", None, ["x"]]),
    *[(call, "workflow_name", fake(call), [*NO_WORD, dict]) for call in ("answer", "fail", "refuse")],
    *[(call, "key", fake(call), [*NO_TEXT, "", "x" * 65_537]) for call in ("answer", "fail", "refuse")],
    ("answer", "outputs", fake("answer"), [5, "x", [1], None, {"a": 5}, {5: {}}, {"a": {"b": float("nan")}}]),
    ("answer", "outputs", answered, [5, "x", [1], None, {"a": 5}, {5: {}}, {"a": {"b": float("nan")}}]),
    ("fail", "error", fake("fail"), [5, None, [1], {"a": 5}, {5: "a"}, ValueError("x")]),
    ("fail", "phase", fake("fail"), [5, "failed", "", None, ["Failed"]]),
    ("refuse", "error", fake("refuse"), [5, "x", None, ValueError("x"), RequestRefused]),
    ("LocalServer", "payloads", LocalServer, [5, True, b"x", ["x"]]),
    ("server.worker", "workflows", of_a_server("worker"), [5, "x", None, dict]),
    ("server.worker", "max_runs", of_a_server("worker"), [*NO_WHOLE, 0, 10_001]),
    ("server.run", "workflow_name", of_a_server("run"), [*NO_WORD, dict]),
    ("server.run", "input", of_a_server("run"), NO_MAPPING),
    ("server.run", "options", of_a_server("run"), [5, "x", [1], {"unknown": 1}]),
    ("server.run", "timeout", of_a_server("run"), ["5s", [1], -1, float("nan"), True]),
]
HINTS = ("expected", "more than the limit", "has no JSON form", "known: ", "defined: ", "leave it out", "there are: ")
"""How a message says what may be instead."""
NEEDS_NONE = {
    "afresh",
    "default",  # of `playground`: it is returned as it is
    "message",  # of `log` and of errors: whatever it is has a text
    "debug",  # a truth, and everything is true or false
    "lacking",
    "self",
}


CASES = [
    pytest.param(call, name, how, value, id=f"{call}({name}={repr(value)[:30]})")
    for call, name, how, values in TABLE
    for value in values
]


@pytest.mark.parametrize(("call", "name", "how", "value"), CASES)
def test_a_bad_argument_is_refused_by_its_name(call: str, name: str, how: Callable[..., object], value: object) -> None:
    try:
        how(**{name: value})
    except OperatorUnavailable:
        pytest.fail("it was sent")
    except (TypeError, ValueError, NotConfigured) as error:
        words = str(error)
    else:
        pytest.fail("it was taken")
    assert any(said in words for said in names_of(name)), words
    assert any(said in words for said in forms_of(value)), words
    assert any(said in words for said in HINTS), words


def names_of(argument: str) -> list[str]:
    """Return how messages may call an argument, or a member of it."""
    last = argument.split("_")[-1]
    if argument == "value":  # of a label, which is named by its key
        return ["model", "value"]
    return [argument, argument.replace("_", " "), last, last.removesuffix("s"), "item 0" if last == "runs" else last]


def forms_of(value: object) -> list[str]:
    """Return how messages may show a value: it itself, what is wrong in it, or, of a large one, how it is."""
    inner = value[0] if isinstance(value, list) and value else value
    inner = next(iter(value.items())) if isinstance(value, dict) and value else inner
    parts = inner if isinstance(inner, tuple) else (inner,)
    shown = [repr(value), type(value).__name__, *map(repr, parts), *(type(part).__name__ for part in parts)]
    if isinstance(value, type):
        shown += [value.__name__]
    if not value or not inner:
        shown += ["empty", "has no ", '""']
    if isinstance(inner, str):
        shown += [str(len(inner))]
    if isinstance(value, str):
        shown += [value[:40]] if value.strip() else ["empty"]
    if isinstance(value, dict):
        shown += ["bytes", *(key for key in value if isinstance(key, str))]
    if isinstance(value, str | bytes | list) and len(value) > 30:
        shown += [str(len(value)), str(len(str(inner)))]
    return shown


RESULTS = {Spawned, Event, GatheredRuns, Run, RunActResult, RunDetails, RunPage, RunStep, StepRunEvent}
"""What programs get, and never make."""
OPTIONS: dict[Any, str] = {
    BulkPushEventWithMetadata: "bulk_push",
    ChildScheduleWorkflowOptions: "schedule_workflow of a step",
    ChildTriggerWorkflowOptions: "spawn_workflow",
    ChildWorkflowRunDict: "spawn_workflows",
    DesiredWorkerLabel: "a desired label",
    PushEventOptions: "push",
    TriggerWorkflowOptions: "run_workflow",
    WorkflowRunDict: "run_workflows",
}
"""Where the table has the keys of a mapping."""


def public_calls() -> Iterator[tuple[str, set[str]]]:
    """Yield all that a program may call, as the table calls it, with its arguments: nobody has to list a new one."""
    behind_hatchet = (Admin, EventClient, Listener, Runs)
    public = [getattr(module, name) for module in (hatchet_sdk, testing) for name in module.__all__]
    for kind in (*public, *behind_hatchet):
        if kind in RESULTS or (isinstance(kind, type) and issubclass(kind, Enum | Exception)):
            continue
        if is_typeddict(kind):
            yield OPTIONS[kind], set(kind.__annotations__)
        elif not isinstance(kind, type):
            yield kind.__name__, set(inspect.signature(kind).parameters)
        elif is_dataclass(kind):
            yield kind.__name__, {field.name for field in fields(kind)}
        else:
            if kind in (FakeContext, LocalServer):  # which programs make, of more than others
                yield kind.__name__, set(inspect.signature(kind).parameters)
            for name, function in vars(kind).items():
                if name.startswith("_") or isinstance(function, property):
                    continue
                call = getattr(kind, name)
                prefix = {Runs: "runs.", LocalServer: "server."}.get(kind, "")
                suffix = " of a step" if (kind, name) == (Context, "schedule_workflow") else ""
                twin = name.removeprefix("aio_").removeprefix("async_")
                yield prefix + twin + suffix, set(inspect.signature(call).parameters)


@pytest.mark.parametrize(("call", "arguments"), list(public_calls()))
def test_every_argument_has_a_bad_value(call: str, arguments: set[str]) -> None:
    of_the_table = {"gather_runs": "sync_gather_runs", "result": "sync_result"}.get(call, call)
    assert arguments - NEEDS_NONE - {argument for other, argument, _, _ in TABLE if other == of_the_table} == set()


@pytest.mark.parametrize(
    ("there", "here"), [(AdminAio, Admin), (RunsAio, Runs), (ContextAio, Context)], ids=lambda kind: kind.__name__
)
def test_the_async_calls_take_the_same_arguments(there: type, here: type) -> None:
    for name in (name for name in vars(there) if not name.startswith("_")):
        asked = [inspect.signature(getattr(kind, name)).parameters.keys() for kind in (there, here)]
        assert asked[0] == asked[1], name


def test_limits_are_checked_where_they_are_declared() -> None:
    for bad in (ConcurrencyExpression("", 1), ConcurrencyExpression("input.a", 0), ConcurrencyExpression(5)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="concurrency has"):
            workflow(concurrency=bad)
