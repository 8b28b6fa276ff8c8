"""The handover: a leader that ends in order tells the next one, in the Lease, which worker has which steps."""

import json
import logging
from collections.abc import Mapping

from pydantic import TypeAdapter

from hatchet_operator.engine.runs.store import RunStore

log = logging.getLogger(__name__)

HandedOver = Mapping[str, Mapping[str, tuple[str, ...]]]
"""What the last leader assigned: worker id -> run uid -> steps."""

_HANDED_OVER: TypeAdapter[HandedOver] = TypeAdapter(HandedOver)
_LONGEST_TEXT = 200_000  # annotations of an object have 256 KiB together


def assignments(store: RunStore) -> HandedOver:
    """Return which worker has which steps of which runs, at this moment."""
    assigned: dict[str, dict[str, tuple[str, ...]]] = {}
    for record in store.unfinished():
        for step, attempt in record.attempts.items():
            if attempt.worker is not None:
                of_worker = assigned.setdefault(attempt.worker.id, {})
                of_worker[record.uid] = (*of_worker.get(record.uid, ()), step)
    return assigned


def write_handed_over(assigned: HandedOver | None) -> str | None:
    """Write a handover as a text that fits into an annotation; None: it doesn't fit, or there is none."""
    text = json.dumps(assigned, separators=(",", ":")) if assigned is not None else None
    return text if text is not None and len(text) <= _LONGEST_TEXT else None


def read_handed_over(text: str | None) -> HandedOver | None:
    """Read what `write_handed_over` wrote; None: there is nothing, or somebody else wrote it."""
    if text is None:
        return None
    try:
        return _HANDED_OVER.validate_json(text)
    except ValueError as error:
        log.warning("what the last leader handed over is not understood", extra={"error": str(error)})
        return None
