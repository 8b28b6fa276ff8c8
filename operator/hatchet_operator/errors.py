"""Everything that can go wrong, as one tree. A class exists only if something catches it.

OperatorError
├── ApiError                 the API server answered with an error
│   ├── NotFound             404
│   ├── AlreadyExists        409, a create
│   ├── Conflict             409, the object changed (or its UID is different)
│   ├── Gone                 410, a resourceVersion or continue token is too old
│   ├── Refused              400, 403, 405, 413, 422: a retry would not help
│   └── Transient            429, 5xx, no connection, no answer: a retry may help
├── ConfigurationError       settings or a kubeconfig make no sense
└── RequestError             a client's request can't be fulfilled; each has a gRPC status
    ├── Unauthenticated      UNAUTHENTICATED
    ├── InvalidRequest       INVALID_ARGUMENT
    ├── Unsupported          UNIMPLEMENTED
    ├── UnknownObject        NOT_FOUND
    ├── StaleAttempt         FAILED_PRECONDITION
    ├── SpawnConflict        ALREADY_EXISTS
    ├── DedupeViolation      ALREADY_EXISTS
    ├── NotPermitted         PERMISSION_DENIED
    └── NotReady             UNAVAILABLE
"""

from http import HTTPStatus


class OperatorError(Exception):
    """Base of all errors that this package raises on purpose."""


class ApiError(OperatorError):
    """An unsuccessful answer of the API server.

    Args:
        message: The server's own words.
        status: HTTP status; 0: there was no answer.
        retry_after: Seconds that the server asked us to wait.
        causes: Reasons from ``details.causes``.
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
    """An object of that name exists already."""


class Conflict(ApiError):
    """The object is no longer the one that the request was made for."""


class Gone(ApiError):
    """A resourceVersion or continue token is too old: list again."""


class Refused(ApiError):
    """The server will never accept this request as it is."""


class Transient(ApiError):
    """The server could not do it now, or it is unknown what it did."""


class ConfigurationError(OperatorError):
    """Settings, a flag or a kubeconfig make no sense; the message says which and what to do."""


class RequestError(OperatorError):
    """A client's request can't be fulfilled; the message goes to its author."""


class Unauthenticated(RequestError):
    """The caller has no token, or one that is not valid."""


class InvalidRequest(RequestError):
    """The request makes no sense, whatever the state of the cluster."""


class Unsupported(RequestError):
    """The request needs a feature that this version lacks; Hatchet's clients retry after every other refusal."""


class UnknownObject(RequestError):
    """The request names a workflow, run or worker that does not exist."""


class StaleAttempt(RequestError):
    """The reporting attempt is no longer the current one of its step."""


class SpawnConflict(RequestError):
    """The child's name is taken by something that is not this child, or the child differs and must not."""


class DedupeViolation(RequestError):
    """Another run of the workflow has the deduplication value.

    Args:
        value: The value.
        taken_by: Says which run has it, and until when.
    """

    def __init__(self, value: str, taken_by: str) -> None:
        super().__init__(f"deduplication value {value} already exists: {taken_by}")
        self.value = value
        self.taken_by = taken_by


class IdempotencyCollision(RequestError):
    """Another run of the workflow has the idempotency key.

    Args:
        run: The run that has it; once the request's client is known, the id by which that knows it.
    """

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run} has the idempotency key")
        self.run = run


class IdempotencyCollisions(RequestError):
    """Some runs of a request for many were not created, since other runs have their idempotency keys.

    Args:
        created: Ids of the runs that were created.
        collisions: Ids of the runs that have the keys of the others.
    """

    def __init__(self, created: list[str], collisions: list[str]) -> None:
        super().__init__(f"runs {', '.join(collisions)} have the idempotency keys")
        self.created = created
        self.collisions = collisions


class NotPermitted(RequestError):
    """The caller's token does not allow this."""


class NotReady(RequestError):
    """The operator can't answer yet; the caller should retry."""


def words_for_people(error: OperatorError) -> str:
    """Say what went wrong to a person at a terminal, and, where a right is missing, which role has it."""
    if isinstance(error, ApiError) and error.status == HTTPStatus.FORBIDDEN:
        roles = 'the cluster\'s role "view" may look at runs, and "edit" change them: ask for a RoleBinding to one'
        return f"{error} ({roles})"
    return str(error)
