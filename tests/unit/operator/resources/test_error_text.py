"""The one line that is shown of an error: out of what Python, our SDK and the published ones write."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.resources.error_text import MAX_HEADLINE, headline, read_error


class Missing(Exception):
    pass


class Unwell(Exception):
    def __str__(self) -> str:
        return ""


def one_line() -> None:
    raise ValueError("one is not allowed")


def many_lines() -> None:
    raise ValueError("line one is the important one\nTraceback (most recent call last):\ndetail 19")


def empty_lines_first() -> None:
    raise ValueError("\n\n  what it is\nmore")


def no_words() -> None:
    raise Unwell


def of_a_module() -> None:
    raise Missing("order 7")


def with_notes() -> None:
    error = KeyError("missing_key")
    error.add_note("a note: of\ntwo lines")
    raise error


def caused() -> None:
    try:
        one_line()
    except ValueError as error:
        raise RuntimeError("could not load\nfile 3") from error


def while_handling() -> None:
    try:
        many_lines()
    except ValueError:
        of_a_module()


def group() -> None:
    try:
        of_a_module()
    except Missing as error:
        inner = ExceptionGroup("inner", [TypeError("x\ny"), error])
    raise ExceptionGroup("outer", [ValueError("a\nb"), inner, OSError("z"), KeyError("k")])


def group_while_handling() -> None:
    try:
        one_line()
    except ValueError:
        group()


def after_a_group() -> None:
    try:
        group()
    except ExceptionGroup as error:
        raise Missing("after the group") from error


def no_python() -> None:
    compile("def :", "worker.py", "exec")


def a_failed_run() -> None:
    texts = [ours(caused), "TIMED_OUT"]
    raise Missing(f"Workflow Errors: {texts}")


def deep() -> None:
    deep()


def raised_by(failing: Callable[[], None]) -> BaseException:
    try:
        failing()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("it fails")


def ours(failing: Callable[[], None]) -> str:
    """As our SDK and the published ones send it: the message, or the type, and the traceback."""
    error = raised_by(failing)
    return f"{str(error) or type(error).__name__}\n{''.join(traceback.format_exception(error))}"


def bare(failing: Callable[[], None]) -> str:
    """As others do: the traceback alone."""
    return "".join(traceback.format_exception(raised_by(failing)))


PYDANTIC = """1 validation error for Order
id
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.14/v/missing"""

CASES = [
    pytest.param(one_line, "ValueError: one is not allowed", id="one line"),
    pytest.param(many_lines, "ValueError: line one is the important one", id="a message that holds a traceback"),
    pytest.param(empty_lines_first, "ValueError: what it is", id="a message that begins with empty lines"),
    pytest.param(no_words, "Unwell", id="no message"),
    pytest.param(of_a_module, "Missing: order 7", id="a class of a module"),
    pytest.param(with_notes, "KeyError: 'missing_key'", id="notes"),
    pytest.param(caused, "RuntimeError: could not load", id="a cause"),
    pytest.param(while_handling, "Missing: order 7", id="raised while another was handled"),
    pytest.param(
        group,
        "ExceptionGroup: outer (4 sub-exceptions): ValueError: a; "
        "ExceptionGroup: inner (2 sub-exceptions): TypeError: x; Missing: order 7; OSError: z; and 1 more",
        id="a group",
    ),
    pytest.param(after_a_group, "Missing: after the group", id="caused by a group"),
    pytest.param(no_python, "SyntaxError: invalid syntax (worker.py, line 1)", id="a syntax error"),
    pytest.param(
        a_failed_run, "Missing: Workflow Errors: [RuntimeError: could not load; TIMED_OUT]", id="a run that failed"
    ),
    pytest.param(deep, "RecursionError: maximum recursion depth exceeded", id="a recursion"),
]


@pytest.mark.parametrize(("failing", "want"), CASES)
def test_with_the_message_before_it(failing: Callable[[], None], want: str) -> None:
    if failing is no_python:
        want = "SyntaxError: invalid syntax"  # it is formatted otherwise than it says itself
    assert headline(ours(failing)) == want


@pytest.mark.parametrize(("failing", "want"), [case for case in CASES if case.id != "a syntax error"])
def test_a_traceback_alone(failing: Callable[[], None], want: str) -> None:
    assert headline(bare(failing)) == want


def test_a_group_raised_while_another_was_handled() -> None:
    assert headline(ours(group_while_handling)).startswith("ExceptionGroup: outer (4 sub-exceptions): ValueError: a; ")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("TIMED_OUT: timeout 1s of step go", "TIMED_OUT: timeout 1s of step go", id="no traceback"),
        pytest.param("\n\nfirst\nsecond", "first", id="lines without a traceback"),
        pytest.param(
            f'{PYDANTIC}\nTraceback (most recent call last):\n  File "w.py", line 1, in go\n    Order()\n'
            f"pydantic_core._pydantic_core.ValidationError: {PYDANTIC}",
            "ValidationError: 1 validation error for Order",
            id="pydantic",
        ),
        pytest.param(
            "a: 1\nTraceback (most recent call last):\n… 900 bytes cut …\n  line\nValueError: a: 1",
            "ValueError: a: 1",
            id="cut in its middle",
        ),
        pytest.param("Traceback (most recent call last):\n  File", "Traceback (most recent call last):", id="cut"),
        pytest.param(
            "x\nTraceback (most recent call last):\n  f\nE: Workflow Errors: ['one\\nTraceback (most",
            "E: Workflow Errors: ['one",
            id="a failed run, cut",
        ),
        pytest.param("x" * 9000, "x" * (MAX_HEADLINE - 1) + "…", id="long"),
    ],
)
def test_other_texts(text: str, want: str) -> None:
    assert headline(text) == want


def test_the_parts_of_an_error() -> None:
    read = read_error(ours(caused))
    assert read.way.startswith("Traceback (most recent call last):")
    assert "ValueError: one is not allowed" in read.way
    assert read.words == "RuntimeError: could not load\nfile 3"


PIECES = st.sampled_from(
    [
        "Traceback (most recent call last):",
        "  File",
        "  + Exception Group Traceback (most recent call last):",
        "  | E: x",
        "  +-+---------------- 1 ----------------",
        "    | V: y",
        "    +------------------------------------",
        "",
        "V: 1",
        "During handling of the above exception, another exception occurred:",
        "E: Workflow Errors: ['a",
        "\x85",
        ":",
    ]
)


@given(st.lists(PIECES | st.text(), max_size=12))
def test_no_text_is_too_odd(pieces: list[str]) -> None:
    told = headline("\n".join(pieces))
    assert len(told) <= MAX_HEADLINE
    assert "\n" not in told
