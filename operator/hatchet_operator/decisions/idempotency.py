"""Idempotency keys: which key a run has, and for how long no second run of its workflow is created with it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hatchet_operator.decisions.expressions import IDEMPOTENCY, key_made
from hatchet_operator.resources.workflow import Idempotency


def idempotency_key(rule: Idempotency, *, input: dict[str, Any], metadata: Mapping[str, Any]) -> str:
    """Return the key that a run has.

    Raises:
        UnusableKeyError: The expression can't be evaluated for this run, or makes no text, number or truth value.
    """
    return key_made(rule.expression, IDEMPOTENCY, {"input": input, "additional_metadata": dict(metadata)})


def keeps_key(rule: Idempotency, *, created_at: datetime, is_final: bool, now: datetime) -> bool:
    """Whether a run still has its key.

    Args:
        rule: As it is now, even if the run was created under another one.
        created_at: When the run was created, to the second.
        is_final: Whether it has ended.
        now: The time.
    """
    if rule.until_end and is_final:
        return False
    return now < created_at + rule.ttl
