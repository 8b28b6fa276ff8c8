"""How refusals begin that clients recognize by their text, as in Hatchet's engine."""

DEDUPE_VIOLATION = "workflow run with deduplication value"
"""With status ALREADY_EXISTS: another run of the workflow has the value of the metadata entry "dedupe"."""

IDEMPOTENCY_COLLISION = "idempotency key collision"
"""With status ALREADY_EXISTS, and nothing more: another run of the workflow has the idempotency key. Which one says the
`IdempotencyCollisionError` in the call's trailing metadata."""
