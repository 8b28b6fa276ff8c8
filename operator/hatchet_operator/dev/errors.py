"""How ``dev`` ends when something is wrong."""


class DevError(Exception):
    """Ends the command with a message for the person at the terminal.

    Args:
        message: What is wrong and what to do.
        exit_code: 1, or 2 when the command line is to blame.
        details: Text shown above the message, such as a traceback.
    """

    def __init__(self, message: str, *, exit_code: int = 1, details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.details = details
