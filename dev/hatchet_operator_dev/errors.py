"""How ``dev`` ends when something is wrong."""

from collections.abc import Mapping
from typing import Any


class DevError(Exception):
    """Ends the command with a message for the person at the terminal.

    Args:
        message: What is wrong and what to do.
        exit_code: 1, or 2 when the command line is to blame.
        details: Text shown above the message, such as a traceback.
        report: What ``--output json`` says of it besides the message.
    """

    def __init__(
        self, message: str, *, exit_code: int = 1, details: str = "", report: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.details = details
        self.report = report or {}
