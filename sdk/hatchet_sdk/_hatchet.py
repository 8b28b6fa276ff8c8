"""The object a program begins with: decorators that declare workflows, and access to workers and runs."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Never, TypeAlias, TypeVar

from hatchet_sdk._client import forks
from hatchet_sdk._client.admin import Admin
from hatchet_sdk._client.config import ClientConfig
from hatchet_sdk._client.events import EventClient
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.listener import Listener
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._client.rate_limits import RateLimit
from hatchet_sdk._client.runs import Runs
from hatchet_sdk._lacking import ATTRIBUTES, words_on, words_on_arguments
from hatchet_sdk._runner.concurrency import ConcurrencyExpression, ConcurrencyLimitStrategy, GroupMethod
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.declaration import define_workflow
from hatchet_sdk._runner.definition import StepOptions, mark_step, mark_workflow
from hatchet_sdk._runner.sticky import StickyStrategy
from hatchet_sdk._runner.worker import Worker
from hatchet_sdk._runner.worker_labels import DesiredWorkerLabel, labels_problem
from hatchet_sdk.errors import InvalidDefinition

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client

StepOutput: TypeAlias = JsonObject | None
NamingMethod = TypeVar("NamingMethod", bound=Callable[..., str] | Callable[..., Coroutine[Any, Any, str]])
StepMethod = TypeVar("StepMethod", bound=Callable[[Any, Context], StepOutput | Coroutine[Any, Any, StepOutput]])
WorkflowClass = TypeVar("WorkflowClass", bound=type)


class Hatchet:
    """Declares workflows, creates workers, starts runs.

    Nothing is read or connected before the first use of `admin` or the start of a worker, so modules with workflows
    can be imported anywhere.

    Args:
        debug: Log what the SDK does.
        config: Where the operator is; default: according to the environment.
    """

    def __init__(self, debug: bool = False, config: ClientConfig | None = None) -> None:
        if config is not None and not isinstance(config, ClientConfig):
            raise TypeError(f"Hatchet: config is {config!r} (expected a ClientConfig)")
        self._debug = debug
        self._config = config or ClientConfig()
        self._pace = Pace()
        self._connected: Client | None = None
        self._admin = Admin(self._client)
        self._event = EventClient(self._client)
        self._runs = Runs(self._client)
        self._listener = Listener(self._client)

    @property
    def admin(self) -> Admin:
        """Starts runs, and finds them by their ids."""
        return self._admin

    @property
    def event(self) -> EventClient:
        """Pushes events, which start the workflows that want them."""
        return self._event

    @property
    def runs(self) -> Runs:
        """Finds and manages runs: list, get, cancel, replay, suspend, resume."""
        return self._runs

    @property
    def listener(self) -> Listener:
        """Listens to runs while they are running."""
        return self._listener

    @staticmethod
    def workflow(
        name: str = "",
        *,
        version: str = "",
        timeout: str = "60m",
        schedule_timeout: str = "5m",
        default_priority: int | None = None,
        sticky: StickyStrategy | None = None,
        concurrency: ConcurrencyExpression | Sequence[ConcurrencyExpression] | None = None,
        on_events: Sequence[str] | None = None,
        on_crons: Sequence[str] | None = None,
        cron_input: JsonObject | None = None,
        input_validator: type[Any] | None = None,
        record: Literal["full", "result"] | None = None,
        **lacking: Never,
    ) -> Callable[[WorkflowClass], WorkflowClass]:
        """Declare a class to be a workflow; its steps are the methods decorated with `step`.

        Args:
            name: The workflow's name; default: the class's.
            version: Free text for people.
            timeout: As in Hatchet, checked but not sent; steps have timeouts.
            schedule_timeout: How long a step may wait for a worker, e.g. "5m".
            default_priority: 1 to 3; other values become the nearest of these.
            sticky: Whether the steps of a run go to the worker that took its first one.
            concurrency: How many runs may be active at a time, by group; with several limits, all have to allow it.
            on_events: Keys of events that start a run, with the event's payload as input; "*" matches any text.
            on_crons: Schedules in UTC that start a run, e.g. "30 6 * * MON-FRI".
            cron_input: Input of the runs that ``on_crons`` start; default: {}.
            input_validator: A pydantic model as which `Context.workflow_input` returns the input; a run whose input it
                does not accept fails at once, with its message.
            record: What is recorded of children by default; see `ChildTriggerWorkflowOptions`.
            lacking: None: other arguments of Hatchet's decorator are refused with an explanation.

        Raises:
            InvalidDefinition: The class declares something impossible.
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
                sticky=sticky,
                concurrency=_limits(concurrency),
                on_events=on_events,
                on_crons=on_crons,
                cron_input=cron_input,
                input_validator=input_validator,
                record=record,
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
        backoff_delays: Sequence[str] | None = None,
        backoff_jitter: float | None = None,
        max_reassignments: int | None = None,
        desired_worker_labels: Mapping[str, DesiredWorkerLabel] | None = None,
        rate_limits: Sequence[RateLimit] | None = None,
        **lacking: Never,
    ) -> Callable[[StepMethod], StepMethod]:
        """Declare a method ``(self, context)``, async or not, to be a step. It returns a mapping or None.

        Args:
            name: The step's name, compared in lower case; default: the method's.
            timeout: How long an attempt may take, e.g. "90s", "1h30m", "7d".
            parents: Names of the steps that must succeed first.
            retries: Attempts after the first one.
            backoff_factor: The n-th retry waits this to the power of n seconds; None: it does not wait.
            backoff_max_seconds: The longest such wait.
            backoff_delays: How long the first, second, … retry waits instead, e.g. ["1s", "10s", "5m"]; later ones
                wait as long as the last.
            backoff_jitter: Which share of a wait is random, 0 to 1: with 0.5, 10 seconds become 5 to 10.
            max_reassignments: How often an attempt is assigned again after its worker died; None: twice.
                0: it is never executed twice, whatever ended its worker; then the step fails.
            desired_worker_labels: Labels that its worker should, or must, have, by their keys.
            rate_limits: Units of rate limits that each attempt uses; it starts when all of them allow it.
            lacking: None: other arguments of Hatchet's decorator are refused with an explanation.
        """
        _refuse_without_parentheses(name, "step")
        if lacking:
            raise TypeError(words_on_arguments("@hatchet.step()", dict(lacking)))
        options = StepOptions(
            name=name,
            timeout=timeout or "60s",
            parents=() if parents is None else parents,
            retries=retries,
            backoff_factor=backoff_factor,
            backoff_max_seconds=backoff_max_seconds,
            backoff_delays=backoff_delays,
            backoff_jitter=backoff_jitter,
            max_reassignments=max_reassignments,
            desired_worker_labels={} if desired_worker_labels is None else desired_worker_labels,
            rate_limits=() if rate_limits is None else rate_limits,
        )
        return _marking(options)

    @staticmethod
    def concurrency(
        name: str = "",
        max_runs: int = 1,
        limit_strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.CANCEL_IN_PROGRESS,
    ) -> Callable[[NamingMethod], NamingMethod]:
        """Declare a method ``(self, context)`` that names a run's concurrency group, a text.

        A worker is asked for it before the run's first step, which costs a step; an expression (``concurrency=`` of
        `workflow`) costs nothing.

        Args:
            name: Accepted as in Hatchet, but unused: there is at most one such method.
            max_runs: How many runs of a group may run at a time.
            limit_strategy: What happens to the others.
        """
        _refuse_without_parentheses(name, "concurrency")
        group = GroupMethod(max_runs, limit_strategy)
        options = StepOptions(
            name="group-key",  # as the operator calls it
            timeout="60s",
            retries=0,
            backoff_factor=None,
            backoff_max_seconds=None,
            group=group,
        )

        def declare(method: NamingMethod) -> NamingMethod:
            mark_step(method, options)
            return method

        return declare

    @staticmethod
    def on_failure_step(
        name: str = "",
        *,
        run_on: Literal["failure", "cancel", "failure_or_cancel", "always"] = "failure",
        timeout: str = "60s",
        retries: int = 0,
        backoff_factor: float | None = None,
        backoff_max_seconds: int | None = None,
        backoff_delays: Sequence[str] | None = None,
        backoff_jitter: float | None = None,
        max_reassignments: int | None = None,
        rate_limits: Sequence[RateLimit] | None = None,
        **lacking: Never,
    ) -> Callable[[StepMethod], StepMethod]:
        """Declare the step that runs once after a run failed; `Context.step_run_errors` says why.

        ``run_on`` says after which outcomes of the other steps it runs. "cancel": the run was cancelled after a step
        had begun. "failure_or_cancel": either. "always": after success, too. It does not change how the run ended.
        """
        _refuse_without_parentheses(name, "on_failure_step")
        if lacking:
            raise TypeError(words_on_arguments("@hatchet.on_failure_step()", dict(lacking)))
        options = StepOptions(
            name=name,
            timeout=timeout or "60s",
            retries=retries,
            backoff_factor=backoff_factor,
            backoff_max_seconds=backoff_max_seconds,
            backoff_delays=backoff_delays,
            backoff_jitter=backoff_jitter,
            max_reassignments=max_reassignments,
            rate_limits=() if rate_limits is None else rate_limits,
            on_failure=True,
            run_on=run_on,
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
        """Create a worker.

        Args:
            name: Shown in logs and statuses.
            max_runs: Attempts at a time; None leaves it to the operator (100).
            labels: What steps may require or prefer in their worker; `Context.worker` can change them.
            max_overruns: How many steps may keep running after they were cancelled or timed out, each in a slot, until
                the worker finishes the others and ends, to be replaced; None: as many as it has slots.
        """
        if labels is not None and (problem := labels_problem(labels, f'worker "{name}": labels')) is not None:
            raise ValueError(problem)
        return Worker(
            name,
            self._client,
            config=self._config,
            max_runs=max_runs,
            max_overruns=max_overruns,
            labels=labels or {},
            debug=self._debug,
            pace=self._pace,
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
                self._connected = Client(self._config, self._pace)
            return self._connected


def paced(pace: Pace, config: ClientConfig | None = None) -> Hatchet:
    """Return one that waits for other times than users' programs: for tests."""
    hatchet = Hatchet(config=config)
    hatchet._pace = pace
    return hatchet


def _limits(
    concurrency: ConcurrencyExpression | Sequence[ConcurrencyExpression] | None,
) -> tuple[ConcurrencyExpression, ...]:
    if concurrency is None:
        return ()
    if isinstance(concurrency, Sequence) and not isinstance(concurrency, str):
        return tuple(concurrency)
    return (concurrency,)  # whatever it is, it is checked with the rest


def _refuse_without_parentheses(name: object, decorator: str) -> None:
    if not isinstance(name, str):
        raise InvalidDefinition(
            f"@hatchet.{decorator} got {name!r} for a name (expected a text; or write @hatchet.{decorator}() instead)"
        )


def _marking(options: StepOptions) -> Callable[[StepMethod], StepMethod]:
    def declare(function: StepMethod) -> StepMethod:
        mark_step(function, options)
        return function

    return declare
