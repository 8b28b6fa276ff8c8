"""CRD schemas, compiled once per CRD into closures: what is pruned, defaulted and refused.

    compile_schema(openAPIV3Schema)  ->  CompiledSchema
        .shape(value)       prunes unknown fields and fills defaults, in place
        .check(value, old)  validates, rules (CEL) included

The order matters and is the server's: prune, default, validate types and bounds, and rules only when no mistake makes
them pointless. Paths of errors are linked tuples while checking, and become text only when there is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.cel_rules import Rules
from hatchet_operator_dev.apiserver.checking import Checker, accept, checker_of, item_identity
from hatchet_operator_dev.apiserver.field_paths import Path, path_text
from hatchet_operator_dev.apiserver.shaping import MISSING, Schema, shaper_of
from hatchet_operator_dev.apiserver.status import FieldError

RuleChecker = Callable[[Any, Any, Path, list[FieldError]], None]


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """The schema of one version of a custom resource."""

    shape: Callable[[dict[str, Any]], list[str]]
    """Prune and default in place; returns the paths that were pruned."""
    _check: Checker
    _rules: RuleChecker | None

    def check(
        self, value: dict[str, Any], old: dict[str, Any] | None, known: list[FieldError] | None = None
    ) -> list[FieldError]:
        """Return what is wrong with ``value``, after the mistakes ``known`` already.

        A mistake that ``old`` has already, unchanged, is let through.
        """
        errors: list[FieldError] = []
        self._check(value, (), errors)
        if old is not None and errors:
            errors = _new_mistakes(errors, value, old)
        errors = [*(known or ()), *errors]
        if self._rules is not None:
            if any(error.reason in status.BLOCKING_REASONS for error in errors):
                errors.append(
                    status.invalid(
                        "<nil>",
                        None,
                        "some validation rules were not checked because the object was invalid; "
                        "correct the existing errors to complete validation",
                    )
                )
            else:
                self._rules(value, old, (), errors)
        return errors


def _new_mistakes(errors: list[FieldError], value: Any, old: Any) -> list[FieldError]:
    return [
        error for error in errors if (now := _lookup(value, error.field)) is MISSING or now != _lookup(old, error.field)
    ]


_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def _lookup(value: Any, path: str) -> Any:
    for index, key in _STEP.findall(path):
        if isinstance(value, list) and index.isdigit() and int(index) < len(value):
            value = value[int(index)]
        elif isinstance(value, dict) and (index or key) in value:
            value = value[index or key]
        else:
            return MISSING
    return value


def compile_schema(schema: Schema) -> CompiledSchema:
    """Compile ``openAPIV3Schema`` of a CRD version; ``None``-like empty schemas keep every field.

    Raises:
        BadRule: A CEL rule does not compile; see ``structural_errors`` for everything else.
    """
    root = dict(schema)
    # The server looks after these itself; a CRD's own words about metadata are limited to its name.
    root["properties"] = {
        **schema.get("properties", {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {
            **schema.get("properties", {}).get("metadata", {}),
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    }
    root["type"] = "object"
    shaper = shaper_of(root)

    def shape(value: dict[str, Any]) -> list[str]:
        pruned: list[str] = []
        if shaper is not None:
            shaper(value, (), pruned)
        return pruned

    return CompiledSchema(shape=shape, _check=checker_of(root) or accept, _rules=rule_checker_of(root))


def rule_checker_of(schema: Schema) -> RuleChecker | None:
    """Compile the CEL rules of a node and of everything below it; ``None`` if there are none."""
    declared = schema.get("x-kubernetes-validations")
    own = Rules(declared) if declared else None
    below = {
        name: checker
        for name, part in schema.get("properties", {}).items()
        if (checker := rule_checker_of(part)) is not None
    }
    extra = schema.get("additionalProperties")
    extra_checker = rule_checker_of(extra) if isinstance(extra, dict) else None
    items = schema.get("items")
    item_checker = rule_checker_of(items) if isinstance(items, dict) else None
    if own is None and not below and extra_checker is None and item_checker is None:
        return None
    identity = item_identity(schema) if schema.get("x-kubernetes-list-type") == "map" else None

    def check(value: Any, old: Any, path: Path, errors: list[FieldError]) -> None:
        if value is None:
            return
        if own is not None:
            errors.extend(own.check(value, old, path_text(path)))
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                checker = extra_checker or below.get(name)
                if checker is not None:
                    checker(item, before.get(name), (path, f".{name}"), errors)
        elif isinstance(value, list) and item_checker is not None:
            for index, item in enumerate(value):
                item_checker(item, _correlated(item, old, identity), (path, f"[{index}]"), errors)

    return check


def _correlated(item: Any, old: Any, identity: Callable[[Any], Any] | None) -> Any:
    if identity is None or not isinstance(old, list):
        return None
    return next((known for known in old if identity(known) == identity(item)), None)
