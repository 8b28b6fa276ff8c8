"""How long one process waits for what, where no setting says so."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Durations in seconds; one that waits for other processes is in less of a hurry than a test.

    Attributes:
        grace: How long calls may take to end when the process is asked to end.
        stuck: The silence after which a watch, or the election, counts as stuck.
        look_again: Between two looks at CRDs that are missing.
        standby_looks: Between two looks at the CRDs while no watch of ours could suggest one.
        kopf_watch: How long a watch of kopf's goes on; kopf itself ends one that is silent for 70 s.
    """

    grace: float = 0.5
    stuck: float = 120.0
    look_again: float = 2.0
    standby_looks: float = 10.0
    kopf_watch: int = 55
