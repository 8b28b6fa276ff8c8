"""How long one process waits for what, and how much it does at a time, where no setting says so."""

from dataclasses import dataclass

TURN_SECONDS = 0.005


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Durations in seconds; whoever waits for other processes is in less of a hurry than a test.

    Attributes:
        grace: How long calls may take to end when the process is asked to end.
        stuck: The silence after which a watch, or the election, counts as stuck.
        look_again: Between two looks at CRDs that are missing.
        standby_looks: Between two looks at the CRDs while no watch of ours could suggest one.
        unread_looks: Between two looks at namespaces that may not be read.
        kopf_watch: How long a watch of kopf's goes on; kopf itself ends one that is silent for 70 s.
        certificate: Between two looks at the files of a certificate.
        not_begun: How long to wait to hear from a worker whose stream ended.
        just_over: How long a run is heard of by who starts it and then listens by metadata, though it was quicker.
        turn: How long one piece of work keeps others waiting for the event loop.
        runs_in_one_call: No seconds: of how many runs the objects are read for one call.
        whole_runs: No seconds: how many finished runs' objects are kept for a moment; so many have about 15 MiB.
    """

    grace: float = 0.5
    stuck: float = 120.0
    look_again: float = 2.0
    standby_looks: float = 10.0
    unread_looks: float = 10.0
    kopf_watch: int = 55
    certificate: float = 10.0
    not_begun: float = 2.0
    just_over: float = 5.0
    turn: float = TURN_SECONDS
    runs_in_one_call: int = 2_000
    whole_runs: int = 2_000
