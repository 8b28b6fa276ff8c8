import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cached_property, partialmethod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_sdk import ClientConfig, Context, Hatchet, InvalidDefinition
from hatchet_sdk._client.config import prefix_of
from hatchet_sdk._runner.definition import definition_of
from hatchet_sdk._runner.registration import description, put_workflow_request

hatchet = Hatchet()


async def noop(self: object, context: Context) -> None:
    return None


def make_step(name: str = "", **options: Any) -> Any:
    def step(self: object, context: Context) -> None:
        return None

    return hatchet.step(name or "step", **options)(step)


def make_workflow(*steps: Any, **options: Any) -> type:
    made = type("Made", (), {f"attribute_{index}": step for index, step in enumerate(steps)})
    return hatchet.workflow(**options)(made)


def test_a_workflow_is_registered_as_in_hatchets_protocol() -> None:
    @hatchet.workflow(version="v7", schedule_timeout="10m", default_priority=9)
    class Order:
        @hatchet.step(timeout="30s", retries=3, backoff_factor=2.0, backoff_max_seconds=60, max_reassignments=0)
        async def Fetch(self, context: Context) -> None: ...  # noqa: N802

        @hatchet.step(name="Ship", parents=["Fetch"])
        def send(self, context: Context) -> None: ...

        @hatchet.on_failure_step()
        def Sorry(self, context: Context) -> None: ...  # noqa: N802

    opts = put_workflow_request(definition_of(Order()), prefix="team_").opts
    assert (opts.name, opts.version, opts.schedule_timeout, opts.default_priority) == ("team_Order", "v7", "10m", 3)
    (job,) = opts.jobs
    assert job.name == "team_Order"
    fetch, ship = job.steps
    assert (fetch.readable_id, fetch.action, fetch.timeout, fetch.inputs) == ("fetch", "team_order:fetch", "30s", "{}")
    assert (fetch.retries, fetch.backoff_factor, fetch.backoff_max_seconds) == (3, 2.0, 60)
    assert (fetch.HasField("max_reassignments"), fetch.max_reassignments) == (True, 0)
    assert not ship.HasField("max_reassignments"), "the operator decides"
    assert (ship.readable_id, ship.action, ship.timeout, list(ship.parents)) == (
        "ship",
        "team_order:ship",
        "60s",
        ["fetch"],
    )
    assert not ship.HasField("backoff_factor")
    assert opts.on_failure_job.name == "team_Order-on-failure"
    assert [step.action for step in opts.on_failure_job.steps] == ["team_order:sorry"]


def test_steps_are_inherited_and_overridden() -> None:
    class Base:
        @hatchet.step()
        def first(self, context: Context) -> None: ...

        @hatchet.step()
        def second(self, context: Context) -> None: ...

    @hatchet.workflow()
    class Derived(Base):
        @hatchet.step(timeout="5m")
        def second(self, context: Context) -> None: ...

    steps = definition_of(Derived()).steps
    assert [(step.name, step.options.timeout) for step in steps] == [("first", "60s"), ("second", "5m")]


def test_a_step_that_is_overridden_by_none_is_left_out() -> None:
    class Base:
        @hatchet.step()
        def first(self, context: Context) -> None: ...

        @hatchet.step()
        def second(self, context: Context) -> None: ...

    @hatchet.workflow()
    class Derived(Base):
        second = None  # type: ignore[assignment]

    assert [step.name for step in definition_of(Derived()).steps] == ["first"]


def test_a_lambda_has_its_attribute_s_name_and_parents_count_once() -> None:
    @hatchet.workflow()
    class Made:
        load = hatchet.step()(lambda self, context: None)
        store = hatchet.step(parents=["load", "Load"])(lambda self, context: None)

    assert [(step.name, step.parents) for step in definition_of(Made()).steps] == [("load", ()), ("store", ("load",))]


class Around:
    """A decorator that is a class, and no descriptor."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *words: Any) -> Any:
        return self.function(*words)


def forgetful(function: Any) -> Any:
    return lambda *words: function(*words)


@pytest.mark.parametrize(
    ("wrap", "want"),
    [
        pytest.param(
            forgetful, "is hidden by its decorator (expected functools.wraps() in that one, or", id="function"
        ),
        pytest.param(lambda step: forgetful(forgetful(step)), "is hidden by its decorator", id="two of them"),
        pytest.param(Around, "is a Around (expected a method: self, context)", id="an object"),
        pytest.param(property, "is a property (expected a method: self, context)", id="a property"),
        pytest.param(cached_property, "is a cached_property (expected a method", id="a cached property"),
        pytest.param(classmethod, "is a classmethod (expected a method: self, context)", id="a class method"),
        pytest.param(partialmethod, "is a partialmethod (expected a method: self, context)", id="a partial method"),
        pytest.param(
            lambda step: noop, "is overridden by what is no step (expected @hatchet.step() on it", id="override"
        ),
    ],
)
def test_a_step_that_something_around_it_hides_is_not_left_out(wrap: Callable[[Any], object], want: str) -> None:
    class Base:
        if wrap(noop) is noop:
            go = make_step("go")

    go = make_step("go")
    go.__name__ = "go"
    made = type("Made", (Base,), {"go": wrap(go), "other": make_step("other")})
    with pytest.raises(InvalidDefinition, match=r"^step Made\.go " + re.escape(want)):
        hatchet.workflow()(made)


def test_an_attribute_that_does_something_when_it_is_asked_is_not_asked() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> object:
            if name == "_hatchet_step":  # asked of each attribute
                raise AttributeError
            raise RuntimeError(f"{name}: not connected yet")

    made = type("Made", (), {"database": Proxy(), "go": make_step("go")})
    assert [step.name for step in definition_of(hatchet.workflow()(made)()).steps] == ["go"]


def _yields(self: object, context: Context) -> Iterator[int]:
    yield 1


async def _yields_async(self: object, context: Context) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("make", "want"),
    [
        pytest.param(
            lambda: make_workflow(hatchet.step("a")(_yields)),  # type: ignore[type-var]
            'workflow "Made", step "a" has a yield, so none of it would run (expected a function that returns',
            id="a generator",
        ),
        pytest.param(
            lambda: make_workflow(hatchet.step("a")(_yields_async)),  # type: ignore[type-var]
            'step "a" has a yield',
            id="an async generator",
        ),
        pytest.param(
            lambda: hatchet.step()(partialmethod(noop)),  # type: ignore[type-var]
            "@hatchet.step() is on a partialmethod (expected a method: self, context)",
            id="the decorator on what can't be called",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a"), make_step("b", parents={"a"})),
            "step \"b\": parents is {'a'} (expected a list of names)",
            id="parents without an order",
        ),
        pytest.param(
            lambda: make_workflow(make_step(), name="a\ud800"),
            "'a\\ud800': the name has half of a surrogate pair, which is no text (expected UTF-8)",
            id="a workflow's name that is no text",
        ),
        pytest.param(lambda: make_workflow(make_step("\ud800")), "half of a surrogate pair", id="nor a step's"),
        pytest.param(lambda: make_workflow(make_step(), version="\ud800"), "version is '\\ud800'", id="nor a version"),
        pytest.param(
            lambda: make_workflow(make_step(), on_events=["\ud800"]), "on_events has '\\ud800'", id="nor an event"
        ),
        pytest.param(lambda: make_workflow(), 'workflow "Made" has no steps (expected at least one', id="no steps"),
        pytest.param(
            lambda: make_workflow(make_step("Load"), make_step("load")),
            'workflow "Made": two steps are named "load"',
            id="two steps with one name",
        ),
        pytest.param(
            lambda: make_workflow(make_step("load"), make_step("transform", parents=["extract"])),
            'workflow "Made", step "transform" names parent "extract", which is not defined (defined: load, transform)',
            id="an unknown parent",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", parents=["b"]), make_step("b", parents=["a"])),
            'workflow "Made": steps wait for each other: ',
            id="a cycle",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", parents=["a"])), "wait for each other: a -> a", id="waits for itself"
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", timeout="5x")),
            'workflow "Made", step "a": timeout is \'5x\' (expected a duration like "90s", "24h" or "7d")',
            id="a timeout that is not a duration",
        ),
        pytest.param(lambda: make_workflow(make_step(timeout="0s")), "(expected more than zero)", id="no time at all"),
        pytest.param(
            lambda: make_workflow(make_step(timeout="0.0001s")), "(expected more than zero)", id="less than is kept"
        ),
        pytest.param(
            lambda: make_workflow(make_step(timeout="3651d")), '(expected at most "3650d", ten years)', id="for ever"
        ),
        pytest.param(
            lambda: make_workflow(make_step(timeout=10)), "timeout is 10 (expected a duration like", id="a number"
        ),
        pytest.param(lambda: make_workflow(make_step(timeout="-5s")), "is '-5s' (expected a dur", id="negative time"),
        pytest.param(
            lambda: make_workflow(make_step(), schedule_timeout="soon"),
            "workflow \"Made\": schedule_timeout is 'soon'",
            id="a schedule timeout that is not a duration",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", retries=-1)),
            'workflow "Made", step "a": retries is -1 (expected 0 or more)',
            id="negative retries",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", max_reassignments=-1)),
            'workflow "Made", step "a": max_reassignments is -1 (expected 0 or more)',
            id="negative reassignments",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", retries="3")),
            'workflow "Made", step "a": retries is \'3\' (expected a whole number, 0 or more)',
            id="retries that are no number",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", retries=1.5)), "retries is 1.5 (expected a whole", id="half a retry"
        ),
        pytest.param(
            lambda: make_workflow(make_step("a"), default_priority="high"),
            "workflow \"Made\": default_priority is 'high' (expected a whole number, 1 to 3)",
            id="a priority that is no number",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a"), make_step("b", parents=[noop])),
            '(expected names of steps, as "noop")',
            id="a function for a parent",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", parents="extract")),
            'workflow "Made", step "a": parents is "extract" (expected a list: ["extract"])',
            id="a parent that is not in a list",
        ),
        pytest.param(
            lambda: hatchet.workflow()(noop),  # type: ignore[type-var]
            "(expected a class with steps)",
            id="a workflow that is no class",
        ),
        pytest.param(
            lambda: make_workflow(staticmethod(make_step("a"))),
            "is a staticmethod (expected a method: self, context)",
            id="a static step",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a"), name="x" * 254),
            "the name has 254 characters (expected at most 253)",
            id="a name that no object can have",
        ),
        pytest.param(
            lambda: make_workflow(make_step(backoff_factor=0.5)),
            'step "step": backoff_factor is 0.5 (expected a number, 1 or more)',
            id="a backoff that shrinks",
        ),
        pytest.param(
            lambda: make_workflow(make_step(backoff_factor=float("nan"))), "backoff_factor is nan", id="no number"
        ),
        pytest.param(lambda: make_workflow(make_step(backoff_factor="2")), "backoff_factor is '2'", id="a text"),
        pytest.param(
            lambda: make_workflow(make_step(backoff_max_seconds=1.5)),
            "backoff_max_seconds is 1.5 (expected a whole number, 1 or more)",
            id="half a second of backoff",
        ),
        pytest.param(
            lambda: make_workflow(make_step("a", backoff_delays="5s")),
            "step \"a\": backoff_delays is '5s' (expected a list of 1 to 32 durations)",
            id="a delay that is not in a list",
        ),
        pytest.param(lambda: make_workflow(make_step(backoff_delays=[])), "expected a list of 1 to 32", id="no delays"),
        pytest.param(
            lambda: make_workflow(make_step(backoff_delays=["1s", 5])),
            "backoff_delays[1] is 5 (expected a duration like",
            id="a delay that is a number",
        ),
        pytest.param(
            lambda: make_workflow(make_step(backoff_delays=["1s"], backoff_factor=2)),
            "it has backoff_delays and backoff_factor (expected one of them)",
            id="two kinds of backoff",
        ),
        pytest.param(
            lambda: make_workflow(make_step(backoff_jitter=1.5)),
            "backoff_jitter is 1.5 (expected a number from 0 to 1)",
            id="more than all left to chance",
        ),
        pytest.param(lambda: make_workflow(make_step(backoff_jitter=True)), "backoff_jitter is True", id="a truth"),
        pytest.param(
            lambda: make_workflow(make_step(retries=2**31)), "expected at most 2147483647", id="retries without end"
        ),
        pytest.param(
            lambda: make_workflow(make_step(timeout="5us")), "expected a duration like", id="a unit nobody reads"
        ),
        pytest.param(lambda: make_workflow(make_step(" ")), "the name is empty", id="an empty step name"),
        pytest.param(lambda: make_workflow(make_step(), name=" "), "the name is empty", id="an empty workflow name"),
        pytest.param(
            lambda: make_workflow(hatchet.step("a")(lambda self: None)),  # type: ignore[type-var]
            'workflow "Made", step "a" takes (self) (expected self and one argument, the context)',
            id="a step without context",
        ),
        pytest.param(
            lambda: make_workflow(
                make_step(), hatchet.on_failure_step("x")(noop), hatchet.on_failure_step("y")(_copy(noop))
            ),
            "has 2 on-failure steps (expected at most one)",
            id="two on-failure steps",
        ),
        pytest.param(
            lambda: make_workflow(make_step(), input_validator=dict),
            "input_validator is <class 'dict'> (expected a pydantic model: a class)",
            id="a validator that is none",
        ),
        pytest.param(
            lambda: make_workflow(make_step(), hatchet.on_failure_step("x", run_on="success")(noop)),  # type: ignore[arg-type]
            "run_on is 'success' (expected 'failure' or 'cancel' or 'failure_or_cancel' or 'always')",
            id="an end that there is not",
        ),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], want: str) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        make()
    assert want in str(refused.value)


def _copy(function: Any) -> Any:
    async def copied(self: object, context: Context) -> None:
        await function(self, context)

    return copied


def test_only_workflow_instances_are_registered_and_each_name_once() -> None:
    worker = hatchet.worker("w")
    made = make_workflow(make_step(), name="Made")
    with pytest.raises(TypeError, match=r"got the class \(expected an instance: add parentheses\)"):
        worker.register_workflow(made)
    with pytest.raises(TypeError, match="object is not a workflow"):
        worker.register_workflow(object())
    worker.register_workflow(made())
    again = hatchet.worker("again")
    again.register_workflow(make_workflow(make_step())())
    with pytest.raises(InvalidDefinition, match='workflow "Made" is registered twice'):
        again.register_workflow(make_workflow(make_step())())
    with pytest.raises(InvalidDefinition, match='workflows "Made" and "MADE" are both registered as "MADE"'):
        worker.register_workflow(make_workflow(make_step(), name="MADE")())
    with pytest.raises(InvalidDefinition, match="no workflows"):
        hatchet.worker("idle").start()


NAMES = st.text(st.sampled_from("ab:_AB"), min_size=1, max_size=4)


def test_steps_that_a_worker_could_not_tell_apart_are_refused_naming_both() -> None:
    worker = hatchet.worker("w")
    worker.register_workflow(make_workflow(make_step(name="c"), name="a:b")())
    with pytest.raises(InvalidDefinition) as refused:
        worker.register_workflow(make_workflow(make_step(name="b:c"), name="a")())
    assert str(refused.value).startswith(
        'step "c" of workflow "a:b" and step "b:c" of workflow "a" are both "a:b:c" to a worker'
    )
    worker.register_workflow(make_workflow(make_step(name="b"), name="a")())  # the one that was refused left no trace


@pytest.mark.parametrize(
    ("names", "want"),
    [
        pytest.param(("x", "team_x"), 'workflows "x" and "team_x" are both registered as "team_x"', id="a prefix"),
        pytest.param(("x", "TEAM_X"), None, id="a prefix has one case"),
    ],
)
def test_names_under_a_namespace(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], want: str | None) -> None:
    monkeypatch.setenv("HATCHET_CLIENT_NAMESPACE", "Team")
    worker = hatchet.worker("w")
    worker.register_workflow(make_workflow(make_step(), name=names[0])())
    second = make_workflow(make_step(), name=names[1])()
    with pytest.raises(InvalidDefinition, match=want) if want else contextlib.nullcontext():
        worker.register_workflow(second)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=4), st.sampled_from(["", "a", "a:b"]))
def test_what_is_registered_together_has_names_of_its_own(workflows: list[tuple[str, str]], namespace: str) -> None:
    config = ClientConfig(namespace=namespace)
    worker = Hatchet(config=config).worker("w")
    kept = []
    for name, step in workflows:
        with contextlib.suppress(InvalidDefinition):
            workflow = make_workflow(make_step(name=step), name=name)()
            worker.register_workflow(workflow)
            kept.append(definition_of(workflow))
    said = json.loads(description("w", kept, max_runs=None, prefix=prefix_of(config, {})))
    assert len(set(said["worker"]["actions"])) == len(kept)
    assert len({workflow["opts"]["name"].lower() for workflow in said["workflows"]}) == len(kept)


@pytest.mark.parametrize("decorator", ["workflow", "step", "on_failure_step"])
def test_a_decorator_without_parentheses_says_so(decorator: str) -> None:
    with pytest.raises(InvalidDefinition, match=rf"write @hatchet\.{decorator}\(\) instead"):
        getattr(hatchet, decorator)(noop)


@pytest.mark.parametrize("max_runs", [0, -1])
def test_a_worker_takes_at_least_one_attempt(max_runs: int) -> None:
    with pytest.raises(ValueError, match=f"max_runs is {max_runs}"):
        hatchet.worker("w", max_runs=max_runs)
