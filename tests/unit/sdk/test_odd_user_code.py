"""Whatever user code raises, returns or throws into the loop, each attempt ends at once, with words, and by itself."""

import asyncio
import contextvars
import functools
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

import pytest

from hatchet_sdk import Context, Hatchet, InvalidDefinition, NonRetryableError
from hatchet_sdk.contracts import dispatcher_pb2 as dispatcher
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually
from tests.unit.sdk.test_worker import finish, make_workflow

Working = Callable[..., None]
declare = Hatchet()


class NoAttributes(Exception):
    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError("nothing is here")


class NoAttributesAtAll(Exception):
    def __getattribute__(self, name: str) -> NoReturn:
        raise SystemExit(name)


class ExitingWords(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit(3)

    __repr__ = __str__


def raising(error: type[BaseException]) -> property:
    def get(self: object) -> NoReturn:
        raise error(f"no {error.__name__} here")

    return property(get)


NotesThatExit = type("NotesThatExit", (Exception,), {"__notes__": raising(KeyboardInterrupt)})


class WordsOfAnotherType(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class OddText(str):
    __slots__ = ()

    def encode(self, *args: object) -> NoReturn:
        raise RuntimeError("no bytes")


class WordsThatCannotBeEncoded(Exception):
    def __str__(self) -> str:
        return OddText("odd")


NamelessMeta: Any = type("NamelessMeta", (type,), {"__name__": raising(RuntimeError)})
Nameless = NamelessMeta("Nameless", (Exception,), {})


class Unusual(BaseException):
    pass


def odd_syntax_error() -> SyntaxError:
    error = SyntaxError("odd")
    error.text, error.lineno, error.offset, error.filename = [1], object(), "x", 5  # type: ignore[assignment]
    return error


def in_a_circle() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__, second.__context__ = second, first
    return first


def long_chain() -> Exception:
    error = ValueError("link")
    for _ in range(5000):
        link = ValueError("link")
        link.__cause__ = error
        error = link
    return error


def nested_groups() -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(2000):
        error = ExceptionGroup("group", [error])
    return error


def caused_by(cause: BaseException) -> Exception:
    error = ValueError("outer")
    error.__cause__ = cause
    return error


def deep(n: int = 0) -> NoReturn:
    deep(n + 1)


ODD_ERRORS: list[Any] = [
    pytest.param(NoAttributes, "NoAttributes", id="__getattr__ raises"),
    pytest.param(NoAttributesAtAll, "NoAttributesAtAll", id="__getattribute__ exits"),
    pytest.param(ExitingWords, "ExitingWords", id="__str__ and __repr__ exit"),
    pytest.param(NotesThatExit, "NotesThatExit", id="__notes__ interrupts"),
    pytest.param(WordsOfAnotherType, "WordsOfAnotherType", id="__str__ returns an int"),
    pytest.param(WordsThatCannotBeEncoded, "odd\n", id="__str__ returns a str of its own"),
    pytest.param(Nameless, "Nameless", id="a metaclass without a name"),
    pytest.param(Unusual, "Unusual", id="a BaseException"),
    pytest.param(odd_syntax_error, "odd", id="a SyntaxError with odd fields"),
    pytest.param(in_a_circle, "first", id="a cause that is its own cause"),
    pytest.param(long_chain, "link", id="5000 causes"),
    pytest.param(nested_groups, "group (1 sub-exception)", id="2000 groups in each other"),
    pytest.param(lambda: ExceptionGroup("g", [ValueError("a"), ExitingWords()]), "g (2 sub", id="a group of odd ones"),
    pytest.param(lambda: caused_by(NoAttributesAtAll()), "outer", id="an odd cause"),
    pytest.param(KeyboardInterrupt, "KeyboardInterrupt", id="an interrupt"),
    pytest.param(lambda: SystemExit("bye"), "bye", id="an exit with a message"),
    pytest.param(GeneratorExit, "GeneratorExit", id="a generator's exit"),
    pytest.param(StopIteration, "StopIteration", id="an iteration's stop"),
    pytest.param(lambda: ValueError("\ud800" * 9), "\\ud800", id="halves of surrogate pairs"),
    pytest.param(lambda: ValueError("x" * 20_000_000), "bytes cut …", id="20 MB of text"),
]


@pytest.mark.parametrize(("make", "want"), ODD_ERRORS)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_what_cannot_be_formatted_is_reported_by_its_name(
    make: Callable[[], BaseException], want: str, is_async: bool, working: Working, operator: FakeOperator
) -> None:
    def fail(context: Context) -> None:
        raise make()

    async def fail_async(context: Context) -> None:
        raise make()

    working(make_workflow(fail_async if is_async else fail))
    run = finish(operator)
    assert run.phase == "Failed"
    assert want in run.errors["s"]
    assert "in fail" in run.errors["s"] or len(run.errors["s"]) > 16_000
    assert len(run.errors["s"].encode()) <= 16 * 1024


def test_too_deep_a_recursion_is_reported(working: Working, operator: FakeOperator) -> None:
    working(make_workflow(lambda context: deep()))
    assert "maximum recursion depth exceeded" in finish(operator).errors["s"]


def test_an_odd_error_that_forbids_retries_does(working: Working, operator: FakeOperator) -> None:
    class Final(NonRetryableError, NoAttributesAtAll):
        pass

    def fail(context: Context) -> None:
        raise Final

    working(make_workflow(fail, retries=3))
    assert finish(operator).retries["s"] == 0


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_the_on_failure_step_is_no_exception(is_async: bool, working: Working, operator: FakeOperator) -> None:
    def fail(self: object, context: Context) -> None:
        raise NoAttributesAtAll

    async def fail_async(self: object, context: Context) -> None:
        raise NoAttributesAtAll

    steps = {
        "s": declare.step("s")(timed(wrapped)),
        "f": declare.on_failure_step("f")(fail_async if is_async else fail),
    }
    working(declare.workflow("W")(type("W", (), steps))())
    (registered,) = operator.workers.values()
    (action,) = [action for action in registered.actions if action.endswith("f")]
    operator.send(dispatcher.AssignedAction(action_id=action, task_run_external_id="t", task_name="f"))
    eventually(lambda: operator.requests("SendStepActionEvent"))
    (report,) = operator.requests("SendStepActionEvent")
    assert report.event_payload.startswith("NoAttributesAtAll\n")


class OddModel:
    """Looks like a pydantic model."""

    def model_dump(self, *, mode: str, **_: object) -> NoReturn:
        raise SystemExit("not dumped")


OddMapping = type("OddMapping", (dict,), {"__class__": raising(KeyboardInterrupt)})


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param(OddModel(), "not dumped", id="a model that exits"),
        pytest.param({"a": OddModel()}, "not dumped", id="a model that exits, below"),
        pytest.param({"a": ExitingWords()}, '["a"]', id="an exception as a value"),
        pytest.param(OddMapping(), "no KeyboardInterrupt here", id="a value that hides its class"),
    ],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_what_raises_when_it_is_written_as_json_fails_the_step(
    value: object, want: str, is_async: bool, working: Working, operator: FakeOperator
) -> None:
    async def answer(context: Context) -> object:
        return value

    working(make_workflow(answer if is_async else lambda context: value))
    run = finish(operator)
    assert run.phase == "Failed"
    assert want in run.errors["s"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt], ids=["an exit", "an interrupt"])
def test_a_task_of_a_step_that_exits_ends_the_step_and_not_the_worker(
    error: type[BaseException], working: Working, operator: FakeOperator
) -> None:
    async def leave() -> None:
        raise error

    async def spawn(context: Context) -> dict[str, bool]:
        if context.workflow_input().get("calm"):
            return {"calm": True}
        await asyncio.gather(leave(), asyncio.sleep(0))
        return {}

    working(make_workflow(spawn))
    assert error.__name__ in finish(operator).errors["s"]
    assert finish(operator, calm=True).outputs == {"s": '{"calm":true}'}


def test_a_step_that_cancels_every_task_it_finds_ends_no_worker(working: Working, operator: FakeOperator) -> None:
    async def cancel_all(context: Context) -> dict[str, bool]:
        if context.workflow_input().get("calm"):
            return {"calm": True}
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)
        return {}

    working(make_workflow(cancel_all))
    assert finish(operator).errors["s"].startswith("CancelledError\n")
    assert finish(operator, calm=True).outputs == {"s": '{"calm":true}'}


def test_a_step_that_stops_the_loop_ends_no_worker(working: Working, operator: FakeOperator) -> None:
    async def stop(context: Context) -> dict[str, bool]:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return {"calm": True}

    working(make_workflow(stop))
    for _ in range(2):
        assert finish(operator).outputs == {"s": '{"calm":true}'}


# Context variables


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="default")


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
def test_attempts_find_the_variables_of_the_start_and_leave_none(
    is_async: bool, working: Working, operator: FakeOperator
) -> None:
    def look(context: Context) -> dict[str, str]:
        seen = VARIABLE.get()
        VARIABLE.set("left behind")
        return {"seen": seen}

    async def look_async(context: Context) -> dict[str, str]:
        return look(context)

    def start() -> None:
        VARIABLE.set("of the start")
        working(make_workflow(look_async if is_async else look))

    contextvars.copy_context().run(start)
    for _ in range(2):
        assert json.loads(finish(operator).outputs["s"]) == {"seen": "of the start"}


# Wrappers around async steps


async def wrapped(self: object, context: Context) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"seen": VARIABLE.get()}


def timed(function: Callable[..., Awaitable[object]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: object) -> Awaitable[object]:
        VARIABLE.set("by the wrapper")
        return function(*args)

    return call


class Callee:
    def __call__(self, workflow: object, context: Context) -> Coroutine[Any, Any, dict[str, str]]:
        return wrapped(workflow, context)


class AsyncCallee:
    async def __call__(self, workflow: object, context: Context) -> dict[str, str]:
        return await wrapped(workflow, context)


class Later:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Any:
        return wrapped(self, None).__await__()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "want"),
    [
        pytest.param(timed(wrapped), "by the wrapper", id="a decorator"),
        pytest.param(functools.partial(wrapped), "default", id="a partial of an async function"),
        pytest.param(functools.partial(timed(wrapped)), "by the wrapper", id="a partial of a decorated one"),
        pytest.param(Callee(), "default", id="a callable object"),
        pytest.param(AsyncCallee(), "default", id="an async callable object"),
        pytest.param(lambda self, context: Later(), "default", id="an awaitable of another kind"),
    ],
)
def test_what_a_wrapper_returns_is_awaited(
    function: Callable[..., Any], want: str, working: Working, operator: FakeOperator
) -> None:
    working(declare.workflow("W")(type("W", (), {"s": declare.step("s")(function)}))())
    assert finish(operator).outputs == {"s": json.dumps({"seen": want}, separators=(",", ":"))}


def test_a_step_without_a_name_of_its_own_has_that_of_its_attribute(working: Working, operator: FakeOperator) -> None:
    workflow = declare.workflow("W")(type("W", (), {"s": declare.step()(functools.partial(wrapped))}))()
    working(workflow)
    assert list(finish(operator).outputs) == ["s"]


def test_a_wrapped_step_is_cancelled_as_others_are(working: Working, operator: FakeOperator) -> None:
    ended = threading.Event()

    async def sleep(self: object, context: Context) -> None:
        try:
            ready.set()
            await asyncio.sleep(600)
        finally:
            ended.set()

    ready = threading.Event()
    working(declare.workflow("W")(type("W", (), {"s": declare.step("s")(timed(sleep))}))())
    run = operator.run("W")
    assert ready.wait(PATIENCE_SECONDS)
    operator.cancel(run)
    assert ended.wait(PATIENCE_SECONDS)


def test_a_step_that_cannot_be_marked_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="is on a builtin_function_or_method, which takes no attributes"):
        declare.step()(len)  # type: ignore[type-var]
