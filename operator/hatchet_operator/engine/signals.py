"""What rooms tell rooms above them, which are built later: a room is given a signal, which the wiring connects."""

from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Signal(Generic[P]):
    """Calls all that are connected, one after the other, in the order of the wiring.

    A signal that was never connected is an error when it is first sent, not silence.

    Args:
        name: What it says, for that error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._receivers: tuple[Callable[P, None], ...] | None = None

    def connect(self, *receivers: Callable[P, None]) -> None:
        """Set who is called, and in which order: once, before it is first sent."""
        assert self._receivers is None, f"{self._name} is connected in two places"
        self._receivers = receivers

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        assert self._receivers is not None, f"{self._name} is connected to nobody"
        for receive in self._receivers:
            receive(*args, **kwargs)
