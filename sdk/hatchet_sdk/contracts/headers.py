"""What calls say about their client besides the bearer token."""

RUN_IDS = "hatchet-operator-run-ids"
"""Which ids of runs a client wants; without it, UIDs, since Hatchet's own clients parse them as UUIDs."""

NAMES = "names"
"""Value of `RUN_IDS`: the names of the WorkflowRun objects. Either is accepted from all clients."""

MANY = "hatchet-operator-many"
"""Set by a client that takes several messages of a stream in one; for others, each is sent apart."""

DIRECT = "hatchet-operator-payloads"
"""Set by a client that reads payloads from their store itself, and gets references; others get the texts."""
