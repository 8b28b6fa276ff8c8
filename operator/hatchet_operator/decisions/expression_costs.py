"""How long an expression of CEL may take at most: from its text and what it looks at, before it is evaluated.

The library has neither a cost limit nor a deadline, and evaluates in the operator's only thread. Without loops, time is
bounded by three things, each of which this module estimates from above:

    values it is given     they are converted one by one; so it is given only the fields that its text names
    copies of them         each operator may copy what its operands hold
    patterns               a pattern is compiled, then walks over a text; time grows with pattern x text, never faster

A string or a comment that this module reads differently from the library hides nothing: a field that is not seen here
is not given, and loops are looked for in strings as well.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_EXPRESSION = 1024
MOST_MICROSECONDS = 10_000
"""What one evaluation may take, by the estimate; a run waits for several, and the operator for each."""

# Measured on a machine with 2 cores at 2.6 GHz, the worst of each kind, rounded up (design note 0043).
_VALUE_MICROSECONDS = 1.2  # to convert one value
_COPIED_VALUE_MICROSECONDS = 0.05
_COPIED_CHARACTER_MICROSECONDS = 0.001
_PATTERN_CHARACTER_MICROSECONDS = 5.0  # to compile it
_STEP_MICROSECONDS = 0.025  # one state of a pattern at one character
_CLASS_CHARACTERS = {"w": 100, "W": 100, "p": 100, "P": 100, "b": 2, "B": 2}  # of Unicode: hundreds of ranges
_OTHER_ESCAPE_CHARACTERS = 15

_STRING = r"""[bB]?[rR][bB]?(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")|""" + (
    r"""[bB]?(?:'''(?:\\.|.)*?'''|\"\"\"(?:\\.|.)*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")"""
)
_TOKEN = re.compile(rf"//[^\n]*|(?P<string>{_STRING})|(?P<name>[A-Za-z_]\w*)|(?P<other>[^\s])", re.DOTALL)
_LOOP = re.compile(r"\b(all|exists|exists_one|existsOne|map|filter)(?:\s|//[^\n]*\n)*\(")
_PATTERN_PART = re.compile(r"\[\^?(?:\\.|[^\]\\])+\]|\\[pP]\{[^}]*\}|\\.|\{(\d+)(,\d*)?\}|.", re.DOTALL)

Path = tuple[str, ...]
_Token = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a text shows of its cost.

    Attributes:
        paths: The fields that it names, as often as it names them; ("input",) is all of the input.
        operators: At most so many times something is copied.
        patterns: Those of its `matches`.
    """

    paths: tuple[Path, ...]
    operators: int
    patterns: tuple[str, ...]

    def narrow(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables with nothing in them but what the expression names."""
        kept: dict[str, Any] = {name: {} for name, value in variables.items() if isinstance(value, dict)}
        for path in self.paths:
            _keep(kept, variables, path)
        return kept

    def microseconds(self, narrowed: Mapping[str, Any]) -> float:
        """Return what an evaluation takes at most, or infinity as soon as it is far too much."""
        most = int(MOST_MICROSECONDS / _VALUE_MICROSECONDS)
        values, _ = _measure(narrowed, most)
        seen_values, seen_characters = 0.0, 0
        for path, times in Counter(self.paths).items():
            counted = _measure(_at(narrowed, path), most)
            seen_values, seen_characters = seen_values + counted[0] * times, seen_characters + counted[1] * times
        copied = seen_values * _COPIED_VALUE_MICROSECONDS + seen_characters * _COPIED_CHARACTER_MICROSECONDS
        text = seen_characters + LONGEST_EXPRESSION
        return (
            values * _VALUE_MICROSECONDS
            + copied * (1 + self.operators)
            + sum(_compiling(pattern) + _states(pattern) * text * _STEP_MICROSECONDS for pattern in self.patterns)
        )


def loop_in(text: str) -> str | None:
    """Return the name of a macro that loops, if there may be one."""
    found = _LOOP.search(text)
    return found[1] if found else None


def pattern_problem(text: str) -> str | None:
    """Say why its patterns are not taken, or None."""
    tokens = list(_tokens(text))
    for at, (kind, name) in enumerate(tokens):
        if (kind, name) == ("name", "matches") and _is(tokens, at + 1, "("):
            literal = tokens[at + 2] if at + 2 < len(tokens) else ("", "")
            if literal[0] != "string" or not _is(tokens, at + 3, ")"):
                return "matches() with a pattern that is not written in it; expected matches('…')"
            if _pattern(literal[1]) is None:
                return f"matches({literal[1]}) with escapes of text in it; expected a raw text: matches(r'…')"
            if (took := _compiling(_pattern(literal[1]) or "")) > MOST_MICROSECONDS:
                return f"matches({literal[1]}), whose pattern takes {took / 1000:.0f} ms to prepare, and at most " + (
                    f"{MOST_MICROSECONDS / 1000:.0f} ms are taken; expected fewer repetitions, or [a-z0-9] for \\w"
                )
    return None


def costs_of(text: str, names: tuple[str, ...]) -> Costs:
    """Read a text that `loop_in` and `pattern_problem` have nothing against.

    Args:
        text: The expression.
        names: Its variables.
    """
    tokens = list(_tokens(text))
    paths: list[Path] = []
    patterns: list[str] = []
    for at, (kind, value) in enumerate(tokens):
        if kind == "name" and value in names and not _is(tokens, at - 1, "."):
            paths.append((value, *_fields(tokens, at + 1)))
        elif (kind, value) == ("name", "matches") and _is(tokens, at + 1, "("):
            patterns.append(_pattern(tokens[at + 2][1]) or "")
    # in the whole text, so that nothing that is read wrongly is missed
    return Costs(tuple(paths), len(re.findall(r"[^\w\s]", text)), tuple(patterns))


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        if found.lastgroup is not None:
            yield found.lastgroup, found[0]


def _is(tokens: list[_Token], at: int, sign: str) -> bool:
    return 0 <= at < len(tokens) and tokens[at] == ("other", sign)


def _fields(tokens: list[_Token], at: int) -> Iterator[str]:
    """Yield the fields that are named behind a variable; a method's name is none."""
    while True:
        if (
            _is(tokens, at, ".")
            and at + 1 < len(tokens)
            and tokens[at + 1][0] == "name"
            and not _is(tokens, at + 2, "(")
        ):
            yield tokens[at + 1][1]
            at += 2
        elif (
            _is(tokens, at, "[")
            and _is(tokens, at + 2, "]")
            and tokens[at + 1][0] == "string"
            and (name := _pattern(tokens[at + 1][1])) is not None
        ):
            yield name
            at += 3
        else:
            return


def _pattern(literal: str) -> str | None:
    """Return what a literal means; None: it has escapes that are not worth knowing."""
    prefix = literal[: re.search(r"['\"]", literal).start()]  # type: ignore[union-attr]  # strings only
    quoted = literal[len(prefix) :]
    body = quoted[3:-3] if quoted[:3] in ("'''", '"""') else quoted[1:-1]
    if "r" in prefix.lower():
        return body
    return None if re.search(r"""\\[^\\'"]""", body.replace("\\\\", "")) else re.sub(r"\\(.)", r"\1", body)


def _keep(kept: dict[str, Any], given: Mapping[str, Any], path: Path) -> None:
    """Put what stands at a path into what is kept, and no more of what stands beside it than others need."""
    first, *rest = path
    if first not in given:
        return
    if not rest or not isinstance(given[first], dict):
        kept[first] = given[first]
        return
    inner = kept.setdefault(first, {})
    if inner is not given[first]:  # otherwise all of it is kept already
        _keep(inner, given[first], tuple(rest))


def _at(kept: Mapping[str, Any], path: Path) -> Any:
    value: Any = kept
    for name in path:
        if not isinstance(value, dict):
            break
        value = value.get(name)
    return value


def _measure(value: Any, most: int) -> tuple[float, int]:
    """Count values and characters; infinitely many if there are more than `most` values."""
    values, characters, left = 0, 0, [value]
    while left:
        one = left.pop()
        values += 1
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, dict | list):
            if values + len(left) + len(one) > most:
                return float("inf"), characters
            if isinstance(one, dict):
                characters += sum(map(len, one))
                values += len(one)
            left.extend(one.values() if isinstance(one, dict) else one)
    return values, characters


def _compiling(pattern: str) -> float:
    return _size(pattern, classes=True) * _PATTERN_CHARACTER_MICROSECONDS


def _states(pattern: str) -> float:
    return _size(pattern, classes=False)


def _size(pattern: str, *, classes: bool) -> float:
    """Return how many characters a pattern has once its repetitions are written out, or more."""
    size, times, last, is_atom = 1.0, 1.0, 0.0, False
    for part in _PATTERN_PART.finditer(pattern):
        if part[1] is not None:
            count = max(1, int(part[1]), *(int(found) for found in re.findall(r"\d+", part[2] or "")))
            if is_atom:
                size += last * (count - 1)
            else:  # of a group, a set or a repetition: as if all were repeated
                times *= count
            is_atom = False
            continue
        last = _weight(part[0]) if classes else 1.0
        size += last
        is_atom = part[0] not in (")", "]", "*", "+", "?", "}")
    return size * times


def _weight(part: str) -> float:
    if part[0] == "[" and len(part) > 1:
        return sum(map(_weight, re.findall(r"\\?.", part[1:-1], re.DOTALL)))
    if part[0] != "\\" or len(part) == 1:
        return 1.0
    return float(_CLASS_CHARACTERS.get(part[1], _OTHER_ESCAPE_CHARACTERS if part[1].isalpha() else 1))
