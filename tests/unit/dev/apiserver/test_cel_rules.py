"""CEL rules: which values hold, what a failure says, and what is refused before it could fail."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_operator_dev.apiserver.cel_rules import BadRule, Rules


def check(rule: str, value: Any, old: Any = None, **more: Any) -> list[str]:
    errors = Rules([{"rule": rule, "message": "refused", **more}]).check(value, old, "spec")
    return [str(error) for error in errors]


SPEC = {"name": "etl", "tags": ["a", "b"], "limits": {"max": 3}, "namespace": "x", "big-name": 1}


@pytest.mark.parametrize(
    "rule",
    [
        "has(self.name)",
        "!has(self.missing)",
        "size(self.tags) == 2",
        "self.name.matches('^[a-z]+$')",
        "self.tags.all(tag, tag != '')",
        "self.tags.exists(tag, tag == 'b')",
        "self.tags.exists_one(tag, tag == 'b')",
        "self.tags.filter(tag, tag > 'a').size() == 1",
        "self.tags.map(tag, tag + '!')[0] == 'a!'",
        "self.name.startsWith('e') && self.name.endsWith('l') && self.name.contains('t')",
        "self.name.upperAscii() == 'ETL'",
        "self.name.split('t') == ['e', 'l']",
        "self.tags.join(',') == 'a,b'",
        "self.tags.isSorted()",
        "self.name.find('[a-t]') == 'e'",
        "self.limits.max < 5 ? true : false",
        "'name' in self",
        "self.__namespace__ == 'x'",
        "self.big__dash__name == 1",
        "duration('1h') > duration('5m')",
    ],
)
def test_what_rules_can_say(rule: str) -> None:
    assert check(rule, SPEC) == []
    assert check(f"!({rule})", SPEC) == ["spec: Invalid value: refused"]


def test_the_value_of_a_plain_field_is_told() -> None:
    assert check("self < 5", 7) == ["spec: Invalid value: 7: refused"]


def test_a_rule_without_message_names_itself() -> None:
    (error,) = Rules([{"rule": "self > 1"}]).check(0, None, "spec.n")
    assert str(error) == "spec.n: Invalid value: 0: failed rule: self > 1"


def test_field_path_and_reason_are_told() -> None:
    (error,) = Rules([{"rule": "false", "message": "m", "fieldPath": ".name", "reason": "FieldValueForbidden"}]).check(
        SPEC, None, "spec"
    )
    assert (error.reason, str(error)) == ("FieldValueForbidden", "spec.name: Forbidden: m")


def test_a_message_is_computed() -> None:
    assert check("false", SPEC, messageExpression="'not ' + self.name") == ["spec: Invalid value: not etl"]
    for broken in ("self.missing", "string(1 / 0)", "string([1][7])"):
        assert check("false", SPEC, messageExpression=broken) == ["spec: Invalid value: refused"]


def test_a_transition_rule_needs_an_old_value() -> None:
    assert check("self == oldSelf", SPEC) == []
    assert check("self == oldSelf", SPEC, SPEC) == []
    assert check("self == oldSelf", SPEC, {}) == ["spec: Invalid value: refused"]


def test_presence_is_immutable_too() -> None:
    rule = "has(self.x) == has(oldSelf.x) && (!has(self.x) || self.x == oldSelf.x)"
    assert check(rule, {"x": 1}, {"x": 1, "y": 2}) == []
    for new, old in (({}, {"x": 1}), ({"x": 1}, {}), ({"x": 2}, {"x": 1})):
        assert check(rule, new, old) == ["spec: Invalid value: refused"]


def test_an_unchanged_value_is_not_held_against_a_later_rule() -> None:
    assert check("self.name == 'other'", SPEC, dict(SPEC)) == []
    assert check("self.name == 'other'", {"name": "x"}, SPEC) == ["spec: Invalid value: refused"]


def test_a_rule_that_cannot_be_evaluated_fails_with_its_reason() -> None:
    (error,) = check("self.missing == 1", SPEC)
    assert error == "spec: Invalid value: no such key: missing evaluating rule: refused"
    (error,) = check("1 / (size(self.name) - size(self.name)) == 1", SPEC)
    assert "division by zero" in error


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        pytest.param("self.a ==", "parse", id="broken syntax"),
        pytest.param("slef.a == 1", "undeclared reference to slef", id="an unknown variable"),
        pytest.param("self.explode()", "undeclared reference to function explode", id="an unknown function"),
    ],
)
def test_a_rule_that_can_never_work_is_refused(rule: str, words: str) -> None:
    with pytest.raises(BadRule, match=words):
        Rules([{"rule": rule}])


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(BadRule, match="FieldValueOdd"):
        Rules([{"rule": "true", "reason": "FieldValueOdd"}])
