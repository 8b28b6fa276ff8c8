"""A part that was not told whom to ask can't start: a default would delete, or let through, in silence."""

import ast
from collections.abc import Iterator
from pathlib import Path

import hatchet_operator

PACKAGE = Path(hatchet_operator.__file__).parent


def silent_hooks(source: str) -> Iterator[str]:
    """Find constructor arguments and attributes that are a function which always answers the same."""
    for init in ast.walk(ast.parse(source)):
        if not isinstance(init, ast.FunctionDef) or init.name != "__init__":
            continue
        arguments = init.args
        positional = [*arguments.posonlyargs, *arguments.args]
        given = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults) + arguments.kw_defaults
        for argument, default in zip([*positional, *arguments.kwonlyargs], given, strict=True):
            if isinstance(default, ast.Lambda) and not is_nothing(default.body) and is_constant(default.body):
                yield f"{argument.arg} = {ast.unparse(default)}"
        for statement in ast.walk(init):
            if (
                isinstance(statement, ast.Assign | ast.AnnAssign)
                and isinstance(statement.value, ast.Lambda)
                and is_constant(statement.value.body)
            ):
                yield ast.unparse(statement)


def is_nothing(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Call) and not node.args and not node.keywords)


def test_no_part_has_a_hook_that_answers_by_itself() -> None:
    found = {
        str(path.relative_to(PACKAGE)): hooks
        for path in PACKAGE.rglob("*.py")
        if (hooks := [hook for hook in silent_hooks(path.read_text()) if not hook.startswith("clock = ")])
    }
    assert found == {}


def test_such_a_hook_would_be_found() -> None:
    source = """
class Part:
    def __init__(self, first, may_write=lambda: True, *, clock, on_error=lambda error: None):
        self.in_use: Callable[[], set[str]] = lambda: set()
        self.on_change = lambda ref: None
"""
    assert list(silent_hooks(source)) == [
        "may_write = lambda: True",
        "self.in_use: Callable[[], set[str]] = lambda: set()",
        "self.on_change = lambda ref: None",
    ]
