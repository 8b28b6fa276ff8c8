"""The entry "dedupe" of a run's metadata: only one of a workflow's runs has a given value, as long as it is kept."""

from collections.abc import Mapping
from typing import Any

import orjson

ENTRY = "dedupe"


def dedupe_value(metadata: Mapping[str, Any], *, above: Mapping[str, Any] | None = None) -> str | None:
    """Return a run's deduplication value; None: it asks for no deduplication.

    Args:
        metadata: As the run's author wrote it. Clients merge in the parent's entries.
        above: The parent's metadata. A child with the parent's own value has inherited it and asks for nothing;
            otherwise a parent could have only one child of each workflow.

    Returns:
        A text as it is, a number or truth value as its JSON, so that 1 and "1" are one value.

    Raises:
        ValueError: It is not a text, number or truth value, or it is empty.
    """
    value = metadata.get(ENTRY)
    if value is None or (above is not None and above.get(ENTRY) == value):
        return None
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if not text or isinstance(value, list | dict):
        raise ValueError(
            f'metadata entry "{ENTRY}" is {text or "empty"}; expected a text or number that no other run has'
        )
    return text
