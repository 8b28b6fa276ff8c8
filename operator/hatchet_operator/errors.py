"""Everything that can go wrong, as one tree. A class stands here only where somebody catches it.

OperatorError
├── ApiError                 the API server answered with an error
│   ├── NotFound             404
│   ├── AlreadyExists        409, a create
│   ├── Conflict             409, the object changed (or its uid is another)
│   ├── Gone                 410, a resourceVersion or continue token is too old
│   ├── Refused              400, 403, 405, 413, 422: repeating it would not help
│   └── Transient            429, 5xx, no connection, no answer: repeating it may help
├── ConfigurationError       settings or a kubeconfig make no sense
└── RequestError             a client asked for something that can't be had; each has a gRPC status
    ├── Unauthenticated      UNAUTHENTICATED
    ├── InvalidRequest       INVALID_ARGUMENT
    ├── Unsupported          UNIMPLEMENTED
    ├── UnknownObject        NOT_FOUND
    ├── StaleAttempt         FAILED_PRECONDITION
    ├── SpawnConflict        ALREADY_EXISTS
    ├── NotPermitted         PERMISSION_DENIED
    └── NotReady             UNAVAILABLE
"""


class OperatorError(Exception):
    """Base of all errors that this package raises on purpose."""


class ApiError(OperatorError):
    """An answer of the API server other than success.

    Args:
        message: The server's own words.
        status: HTTP status, 0 when there was no answer.
        retry_after: Seconds that the server asked to wait.
        causes: Reasons of ``details.causes``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        causes: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retry_after = retry_after
        self.causes = causes


class NotFound(ApiError):
    """There is no such object."""


class AlreadyExists(ApiError):
    """An object of that name is there already."""


class Conflict(ApiError):
    """The object is no longer the one that the request was made for."""


class Gone(ApiError):
    """A resourceVersion or continue token is too old: list again."""


class Refused(ApiError):
    """The server will never accept this request as it is."""


class Transient(ApiError):
    """The server could not do it now, or nothing is known of what it did."""


class ConfigurationError(OperatorError):
    """Settings, a flag or a kubeconfig make no sense; the message says which and what to do."""


class RequestError(OperatorError):
    """A client asked for something that can't be had; the message goes to its author."""


class Unauthenticated(RequestError):
    """The caller has no token, or one that nobody vouches for."""


class InvalidRequest(RequestError):
    """The request makes no sense, whatever the state of the cluster."""


class Unsupported(RequestError):
    """The request asks for a feature that this version does not have; Hatchet's clients repeat every other refusal."""


class UnknownObject(RequestError):
    """The request names a workflow, run or worker that is not there."""


class StaleAttempt(RequestError):
    """The attempt that speaks is no longer the current one of its step."""


class SpawnConflict(RequestError):
    """The child's name is taken by something that is not this child, or the child differs and may not."""


class NotPermitted(RequestError):
    """The caller's token does not allow this."""


class NotReady(RequestError):
    """The operator can't answer yet; the caller should repeat."""
