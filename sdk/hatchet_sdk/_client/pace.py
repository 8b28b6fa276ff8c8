"""How long a program of the SDK waits for what. Users cannot set it; tests do, with `paced` of `_hatchet`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Durations in seconds.

    Attributes:
        patience: After which a call outside a step gives up: its caller should learn of a wrong address.
        read_again: For how long a file that was read counts; a new authority or address keeps a worker out until then.
        heartbeat: Between two heartbeats of a worker.
        cancel_grace: How long a cancelled step may still finish by itself.
        overrun: What runs for longer after that counts towards the limit at which the worker is replaced.
        close: For the cleanup of a step's tasks when they are cancelled.
    """

    patience: float = 60.0
    read_again: float = 1.0
    heartbeat: float = 4.0
    cancel_grace: float = 1.0
    overrun: float = 10.0
    close: float = 5.0
