"""The object a program begins with: decorators that declare workflows, and the door to workers and runs."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Never, TypeAlias, TypeVar

from hatchet_sdk._client import forks
from hatchet_sdk._client.admin import Admin
from hatchet_sdk._client.config import ClientConfig
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._lacking import ATTRIBUTES, words_on, words_on_arguments
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.definition import StepOptions, define_workflow, mark_step, mark_workflow
from hatchet_sdk._runner.worker import Worker
from hatchet_sdk.errors import InvalidDefinition

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client

StepOutput: TypeAlias = JsonObject | None
StepMethod = TypeVar("StepMethod", bound=Callable[[Any, Context], StepOutput | Coroutine[Any, Any, StepOutput]])
WorkflowClass = TypeVar("WorkflowClass", bound=type)


class Hatchet:
    """Declares workflows, makes workers, starts runs.

    Nothing is read or connected before the first use of `admin` or the start of a worker, so modules with workflows
    can be imported anywhere.

    Args:
        debug: Log what the SDK does.
        config: Where the operator is; default: what the environment says.
    """

    def __init__(self, debug: bool = False, config: ClientConfig | None = None) -> None:
        self._debug = debug
        self._config = config or ClientConfig()
        self._connected: Client | None = None
        self._admin = Admin(self._client)

    @property
    def admin(self) -> Admin:
        """Starts runs, and finds them by their ids."""
        return self._admin

    @staticmethod
    def workflow(
        name: str = "",
        *,
        version: str = "",
        timeout: str = "60m",
        schedule_timeout: str = "5m",
        default_priority: int | None = None,
        **lacking: Never,
    ) -> Callable[[WorkflowClass], WorkflowClass]:
        """Declare a class to be a workflow; its steps are the methods decorated with `step`.

        Args:
            name: Default: the class's name.
            version: Free text for people.
            timeout: As in Hatchet checked but not sent; steps have timeouts.
            schedule_timeout: How long a step may wait for a worker, e.g. "5m".
            default_priority: 1 to 3; what lies outside is taken for the nearest.
            lacking: None: what Hatchet's decorator takes beside is refused in words.

        Raises:
            InvalidDefinition: What the class says is impossible.
        """
        _refuse_without_parentheses(name, "workflow")
        if lacking:
            raise TypeError(words_on_arguments("@hatchet.workflow()", dict(lacking)))

        def declare(cls: WorkflowClass) -> WorkflowClass:
            if not isinstance(cls, type):
                raise InvalidDefinition(f"@hatchet.workflow() is on {cls!r} (expected a class with steps)")
            definition = define_workflow(
                cls,
                name=name,
                version=version,
                timeout=timeout,
                schedule_timeout=schedule_timeout,
                default_priority=default_priority,
            )
            mark_workflow(cls, definition)
            return cls

        return declare

    @staticmethod
    def step(
        name: str = "",
        *,
        timeout: str = "60s",
        parents: Sequence[str] | None = None,
        retries: int = 0,
        backoff_factor: float | None = None,
        backoff_max_seconds: int | None = None,
        max_reassignments: int | None = None,
    ) -> Callable[[StepMethod], StepMethod]:
        """Declare a method ``(self, context)``, async or not, to be a step. It returns a mapping or None.

        Args:
            name: Default: the method's name. Compared in lower case.
            timeout: Of one attempt, e.g. "90s", "1h30m", "7d".
            parents: Names of the steps that must succeed first.
            retries: Attempts after the first one.
            backoff_factor: The n-th retry waits this to the power of n seconds; None: it does not wait.
            backoff_max_seconds: The longest such wait.
            max_reassignments: How often an attempt is given to another worker after one died with it; None: twice.
                0: it is never executed twice, whatever ended its worker; then the step fails.
        """
        _refuse_without_parentheses(name, "step")
        if isinstance(parents, str):
            raise InvalidDefinition(f'a step has parents="{parents}" (expected a list: parents=["{parents}"])')
        options = StepOptions(
            name=name,
            timeout=timeout or "60s",
            parents=tuple(parents or ()),
            retries=retries,
            backoff_factor=backoff_factor,
            backoff_max_seconds=backoff_max_seconds,
            max_reassignments=max_reassignments,
        )
        return _marking(options)

    @staticmethod
    def on_failure_step(
        name: str = "",
        *,
        timeout: str = "60s",
        retries: int = 0,
        backoff_factor: float | None = None,
        backoff_max_seconds: int | None = None,
        max_reassignments: int | None = None,
    ) -> Callable[[StepMethod], StepMethod]:
        """Declare the step that runs after a run failed; `Context.step_run_errors` tells it why."""
        _refuse_without_parentheses(name, "on_failure_step")
        options = StepOptions(
            name=name,
            timeout=timeout or "60s",
            retries=retries,
            backoff_factor=backoff_factor,
            backoff_max_seconds=backoff_max_seconds,
            max_reassignments=max_reassignments,
            on_failure=True,
        )
        return _marking(options)

    def worker(
        self,
        name: str,
        max_runs: int | None = None,
        labels: Mapping[str, str | int] | None = None,
        *,
        max_overruns: int | None = None,
    ) -> Worker:
        """Make a worker.

        Args:
            name: Seen in logs and statuses.
            max_runs: Attempts at a time; None leaves it to the operator (100).
            labels: Taken for the sake of Hatchet's programs; steps can't wish for any yet.
            max_overruns: How many steps may go on though they were cancelled or timed out, each in a slot, until the
                worker finishes the others and ends, to be replaced; None: as many as it has slots.
        """
        return Worker(
            name,
            self._client,
            config=self._config,
            max_runs=max_runs,
            max_overruns=max_overruns,
            labels=labels or {},
            debug=self._debug,
        )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name in ATTRIBUTES:
                raise AttributeError(words_on(f"hatchet.{name}", ATTRIBUTES[name]))
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _client(self) -> "Client":
        from hatchet_sdk._client.client import Client  # here: gRPC is slow to import, and declaring needs none

        with forks.connecting():
            if self._connected is None:
                self._connected = Client(self._config)
            return self._connected


def _refuse_without_parentheses(name: object, decorator: str) -> None:
    if not isinstance(name, str):
        raise InvalidDefinition(f"@hatchet.{decorator} got {name!r} for a name (write @hatchet.{decorator}() instead)")


def _marking(options: StepOptions) -> Callable[[StepMethod], StepMethod]:
    def declare(function: StepMethod) -> StepMethod:
        mark_step(function, options)
        return function

    return declare
