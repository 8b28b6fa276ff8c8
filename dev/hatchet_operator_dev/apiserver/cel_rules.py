"""``x-kubernetes-validations`` rules: compiled once per CRD, evaluated natively by the ``common-expression-language``
library.

All rules of one schema node share one evaluation context: turning the value into CEL's form is what costs (about 30
us per KB of object), a rule itself about 1 us. Not supported, and refused when the CRD is created: optional field
syntax (``self.?x``) and the functions of Kubernetes' own libraries that are not listed in ``_FUNCTIONS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import cel
from cel.stdlib import STDLIB_FUNCTIONS

from hatchet_operator_dev.apiserver.status import (
    OMITTED,
    FieldError,
    duplicate,
    forbidden_field,
    invalid,
    required,
)

_NATIVE = frozenset(
    {
        *("size", "has", "contains", "startsWith", "endsWith", "matches", "min", "max"),
        *("int", "uint", "double", "string", "bytes", "bool", "timestamp", "duration", "type", "dyn"),
        *("all", "exists", "exists_one", "map", "filter"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)


def _is_sorted(items: Sequence[Any]) -> bool:
    return all(first <= second for first, second in pairwise(items))


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found.group(0) if found else ""


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path.startswith("/"))) or text.startswith("/")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **STDLIB_FUNCTIONS,
    "isSorted": _is_sorted,
    "find": _find,
    "findAll": lambda text, pattern: [found.group(0) for found in re.finditer(pattern, text)],
    "isURL": _is_url,
}


class BadRule(Exception):
    """A rule that can't be compiled; the text says why."""


@dataclass(frozen=True, slots=True)
class _Rule:
    source: str
    program: cel.Program
    is_transition: bool
    optional_old_self: bool
    message: str
    message_program: cel.Program | None
    field_path: str
    reason: str


_ERROR_OF_REASON: dict[str, Callable[[str, object, str], FieldError]] = {
    "FieldValueInvalid": invalid,
    "FieldValueForbidden": lambda field, _value, message: forbidden_field(field, message),
    "FieldValueRequired": lambda field, _value, message: required(field, message),
    "FieldValueDuplicate": lambda field, value, _message: duplicate(field, value),
}


class Rules:
    """The rules of one schema node."""

    def __init__(self, declared: Sequence[dict[str, Any]]) -> None:
        self._rules = [_compile_rule(rule) for rule in declared]
        self._escaped = any("__" in rule.source for rule in self._rules)
        self._functions = {
            name: _FUNCTIONS[name]
            for rule in self._rules
            for name in rule.program.functions()
            if name in _FUNCTIONS and name not in _NATIVE
        }

    def check(self, value: Any, old: Any, path: str) -> list[FieldError]:
        """Evaluate the rules; ``old`` is ``None`` if there is no earlier value to compare with.

        A value that did not change is only checked by transition rules, as Kubernetes ratchets: what was stored under
        an older CRD must not block later writes of other fields.
        """
        unchanged = old is not None and (value is old or value == old)
        applicable = [
            rule
            for rule in self._rules
            if (rule.is_transition or not unchanged)
            and (old is not None or not rule.is_transition or rule.optional_old_self)
        ]
        if not applicable:
            return []
        variables = {"self": self._escape(value)}
        if old is not None:
            variables["oldSelf"] = variables["self"] if unchanged else self._escape(old)
        context = cel.Context(variables=variables, functions=self._functions or None)
        shown = OMITTED if isinstance(value, dict | list) else value
        errors = (self._check_rule(rule, context, path, shown) for rule in applicable)
        return [error for error in errors if error is not None]

    def _check_rule(self, rule: _Rule, context: cel.Context, path: str, shown: object) -> FieldError | None:
        try:
            holds = rule.program.execute(context)
        except (*_NOT_EVALUATED, AttributeError) as error:
            why = f"no such key: {error.args[0]}" if isinstance(error, KeyError) else str(error)
            return invalid(path or "<nil>", shown, f"{why} evaluating rule: {rule.message}")
        if holds is True:
            return None
        message = rule.message
        if rule.message_program is not None:
            message = _computed_message(rule.message_program, context) or message
        field = (path + rule.field_path).removeprefix(".") or "<nil>"
        return _ERROR_OF_REASON[rule.reason](field, OMITTED if rule.field_path else shown, message)

    def _escape(self, value: Any) -> Any:
        return _with_escaped_keys(value) if self._escaped else value


_NOT_EVALUATED = (LookupError, ArithmeticError, ValueError, TypeError, RuntimeError)


def _computed_message(program: cel.Program, context: cel.Context) -> str:
    try:
        message = program.execute(context)
    except _NOT_EVALUATED:
        return ""  # as the real server: a broken messageExpression falls back to the message
    return message.strip() if isinstance(message, str) else ""


def _compile_rule(declared: dict[str, Any]) -> _Rule:
    source = str(declared["rule"]).strip()
    program = _compile(source)
    unknown_names = set(program.variables()) - {"self", "oldSelf"} - _bound_names(source) - _TYPE_NAMES
    if unknown_names:
        raise BadRule(f"undeclared reference to {', '.join(sorted(unknown_names))} in {source!r}")
    unknown = {
        name for name in program.functions() if name[0].isalpha() and name not in _NATIVE and name not in _FUNCTIONS
    }
    if unknown:
        raise BadRule(f"undeclared reference to function {', '.join(sorted(unknown))} in {source!r}")
    message_expression = declared.get("messageExpression")
    reason = declared.get("reason", "FieldValueInvalid")
    if reason not in _ERROR_OF_REASON:
        raise BadRule(f"reason {reason!r} is not one of {', '.join(_ERROR_OF_REASON)}")
    return _Rule(
        source=source,
        program=program,
        is_transition=re.search(r"\boldSelf\b", source) is not None,
        optional_old_self=bool(declared.get("optionalOldSelf")),
        message=str(declared.get("message", "")).strip() or f"failed rule: {source}",
        message_program=_compile(message_expression) if message_expression else None,
        field_path=str(declared.get("fieldPath", "")),
        reason=reason,
    )


_TYPE_NAMES = frozenset({"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"})


def _bound_names(source: str) -> set[str]:
    """Name the variables that comprehensions bind: ``x`` in ``self.list.all(x, …)``."""
    return set(re.findall(r"\.(?:all|exists|exists_one|existsOne|map|filter)\(\s*(\w+)\s*,", source))


@lru_cache(maxsize=1024)  # the same rule stands at 22 fields of our CRDs, and is compiled to be checked and to be used
def _compile(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except ValueError as error:
        raise BadRule(str(error).splitlines()[0]) from error


_RESERVED = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))


def _with_escaped_keys(value: Any) -> Any:
    """Add to each object the names by which rules reach keys that are no CEL identifiers (``self.__namespace__``)."""
    if isinstance(value, dict):
        return {name: _with_escaped_keys(item) for key, item in value.items() for name in {key, _escaped(key)}}
    if isinstance(value, list):
        return [_with_escaped_keys(item) for item in value]
    return value


def _escaped(key: str) -> str:
    if key in _RESERVED:
        return f"__{key}__"
    for character, name in _ESCAPES:
        key = key.replace(character, name)
    return key
