"""What calls say of their client beside the bearer token."""

RUN_IDS = "hatchet-operator-run-ids"
"""Which ids of runs a client wants to be given; without it, UIDs, since Hatchet's own clients parse them as UUIDs."""

NAMES = "names"
"""Value of `RUN_IDS`: the names of the WorkflowRun objects. Either is understood from everybody."""
