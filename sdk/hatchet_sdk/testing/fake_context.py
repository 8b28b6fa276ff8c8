"""A context without an operator: the real one, over a client that records requests and answers as configured."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar, cast

from hatchet_sdk._client.io_thread import settle
from hatchet_sdk._client.json_text import MAX_BYTES, JsonObject, encode_object
from hatchet_sdk._client.options import ChildScheduleWorkflowOptions, ChildTriggerWorkflowOptions, SpawningAttempt
from hatchet_sdk._client.requests import child_request, child_schedule_request, duration_text
from hatchet_sdk._client.triggers import Trigger
from hatchet_sdk._runner.assignment import Assignment
from hatchet_sdk._runner.context import Context
from hatchet_sdk._runner.worker_labels import WorkerContext
from hatchet_sdk.contracts.dispatcher_pb2 import StepRunResult, WorkflowRunEvent
from hatchet_sdk.errors import RequestRefused
from hatchet_sdk.payloads.reference import MAX_PAYLOAD_BYTES
from hatchet_sdk.testing.arguments import (
    check_attempt,
    check_refusal,
    checked_end,
    checked_outputs,
    checked_step_errors,
    checked_which,
)

if TYPE_CHECKING:
    from hatchet_sdk._client.client import Client
    from hatchet_sdk.contracts.workflows_pb2 import TriggerWorkflowRequest

T = TypeVar("T")
Outputs: TypeAlias = Mapping[str, JsonObject]
"""What a run returns: the output of each step, by the step's name."""

_Which: TypeAlias = tuple[str, str | None]  # workflow and key; None: any


@dataclass(frozen=True, kw_only=True)
class Spawned:
    """A child run that the step asked for.

    Attributes:
        workflow_name: As the step wrote it.
        input: As the child would read it, after JSON.
        key: The spawn's key; None without one.
        index: Its position among the step's spawns, counted from -1 as in Hatchet.
        additional_metadata: The step's own with the spawn's over it.
        options: The other options that were given: ``priority``, ``on_conflict``, ``on_failed``, ``on_parent_close``,
            ``sticky``, ``record``.
        workflow_run_id: The id in the reference to it.
        start_at: The time that it was scheduled for; None: at once.
    """

    workflow_name: str
    input: dict[str, Any]
    key: str | None
    index: int
    additional_metadata: dict[str, Any]
    options: dict[str, Any]
    workflow_run_id: str
    start_at: datetime | None = None


Answer: TypeAlias = "Outputs | Callable[[Spawned], Outputs]"


@dataclass(frozen=True, kw_only=True)
class _Failure:
    errors: Mapping[str, str]
    phase: str


class FakeContext(Context):
    """Give it to a step in place of its context: ``Workflow().step(FakeContext({"n": 1}))``.

    Spawns are checked and written as JSON as in a worker, so what a worker refuses is refused here. The same key again
    is the same child. What a child returns is set with `answer` and `fail`; awaiting one without an answer raises
    AssertionError, spawning it does not.

    Args:
        input: What `workflow_input` returns, after JSON.
        parents: Outputs of earlier steps by their names, for `step_output`.
        step: The step's name, for messages.
        retry_count: 0 in a first attempt.
        additional_metadata: The run's.
        step_run_errors: Errors by step, for on-failure steps.
        workflow_run_id: The run's id.
        parent_workflow_run_id: Of a child run.
        child_key: Of a child run.
        child_index: Of a child run.
        triggered_by: What started the run: "manual", "event", "cron", "schedule" or "parent".
        worker_labels: The labels that `Context.worker` returns.
        input_validator: See `Hatchet.workflow`.
        payloads: Whether there is a payload store, so that inputs and outputs may be larger than 256 KiB.
    """

    def __init__(
        self,
        input: JsonObject | None = None,
        *,
        parents: Outputs | None = None,
        step: str = "step",
        retry_count: int = 0,
        additional_metadata: Mapping[str, object] | None = None,
        step_run_errors: Mapping[str, str] | None = None,
        workflow_run_id: str = "run",
        parent_workflow_run_id: str = "",
        child_key: str = "",
        child_index: int = 0,
        triggered_by: str = "manual",
        worker_labels: Mapping[str, str | int] | None = None,
        input_validator: type[Any] | None = None,
        payloads: bool = False,
    ) -> None:
        labels = {} if worker_labels is None else worker_labels
        check_attempt(
            step=step,
            retry_count=retry_count,
            workflow_run_id=workflow_run_id,
            parent_workflow_run_id=parent_workflow_run_id,
            child_key=child_key,
            child_index=child_index,
            triggered_by=triggered_by,
            worker_labels=labels,
            input_validator=input_validator,
            payloads=payloads,
        )
        max_bytes = MAX_PAYLOAD_BYTES if payloads else MAX_BYTES
        outputs = checked_outputs(parents or {}, what="FakeContext: parents", max_bytes=max_bytes)
        payload = {
            "triggered_by": triggered_by,
            "input": json.loads(encode_object({} if input is None else input, what="input", max_bytes=max_bytes)),
            "parents": {name.lower(): json.loads(text) for name, text in outputs.items()},
            "step_run_errors": checked_step_errors(step_run_errors or {}, what="FakeContext: step_run_errors"),
        }
        self._fake = FakeClient(max_bytes=max_bytes)
        super().__init__(
            Assignment(
                workflow_run_id=workflow_run_id,
                task_run_external_id=f"{workflow_run_id}/{step}/{retry_count}",
                step=step,
                action_id=f"workflow:{step}",
                job_id="",
                retry_count=retry_count,
                payload=json.dumps(payload),
                additional_metadata=encode_object(additional_metadata or {}, what="additional_metadata"),
                child_index=child_index,
                child_key=child_key,
                parent_workflow_run_id=parent_workflow_run_id,
            ),
            cast("Client", self._fake),
            WorkerContext(cast("Client", self._fake), worker_id="worker", labels=dict(labels)),
            input_validator=input_validator,
        )

    # What the test sets

    def answer(self, workflow_name: str | type, outputs: Answer, *, key: str | None = None) -> None:
        """Let runs of a workflow succeed.

        Args:
            workflow_name: Spawns of this workflow: its name or class.
            outputs: What ``ref.result()`` returns: outputs by step name; or a function of the `Spawned` that makes
                them, which may raise.
            key: Only the spawn with this key; it takes precedence over the answer for all.
        """
        which = checked_which(workflow_name, key, what="answer")
        if not callable(outputs):
            checked_outputs(outputs, what="answer: outputs", max_bytes=self._fake.max_bytes)
        self._fake.answers[which] = outputs

    def fail(
        self,
        workflow_name: str | type,
        error: str | Mapping[str, str],
        *,
        key: str | None = None,
        phase: str = "Failed",
    ) -> None:
        """Let runs of a workflow fail: ``ref.result()`` raises WorkflowRunFailed.

        Args:
            workflow_name: Spawns of this workflow: its name or class.
            error: The failed step's error; by step name, if the step asks ``WorkflowRunFailed.errors``.
            key: Only the spawn with this key.
            phase: "Cancelled" and "Deleted" raise the subclasses of these names.
        """
        which = checked_which(workflow_name, key, what="fail")
        errors = {"step": error} if isinstance(error, str) else checked_step_errors(error, what="fail: error")
        self._fake.answers[which] = _Failure(errors=errors, phase=checked_end(phase, what="fail: phase"))

    def refuse(self, workflow_name: str | type, error: RequestRefused, *, key: str | None = None) -> None:
        """Let spawns of a workflow raise an error, such as ``WorkflowNotFound("…")``."""
        which = checked_which(workflow_name, key, what="refuse")
        check_refusal(error, what="refuse: error")
        self._fake.refusals[which] = error

    def tell_to_stop(self) -> None:
        """Do what happens when the run is cancelled or the step times out: `exit_flag` is set, spawns are refused."""
        self._announce_cancel()

    def tell_that_the_worker_stops(self) -> None:
        """Do what happens when the worker is told to stop: `stopping` is set."""
        self._announce_stop()

    # What the step did

    @property
    def spawned(self) -> list[Spawned]:
        """The children that were spawned, in order; each once, however often it was asked for."""
        return list(self._fake.spawned.values())

    @property
    def logged(self) -> list[str]:
        """What `log` was called with, as text."""
        return list(self._fake.logged)

    @property
    def streamed(self) -> list[str]:
        """What `put_stream` was called with, as text."""
        return list(self._fake.streamed)

    @property
    def refreshed(self) -> list[str]:
        """What `refresh_timeout` was called with."""
        return list(self._fake.refreshed)

    @property
    def released_slot(self) -> bool:
        """Whether `release_slot` was called."""
        return self._fake.released_slot

    def log(self, message: object) -> None:
        self._fake.logged.append(str(message))


@dataclass(kw_only=True, eq=False)
class FakeClient:
    """What `Context` and the references that it makes ask of a client."""

    answers: dict[_Which, "Answer | _Failure"] = field(default_factory=dict)
    refusals: dict[_Which, RequestRefused] = field(default_factory=dict)
    spawned: dict[str, Spawned] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    released_slot: bool = False
    max_bytes: int = MAX_BYTES

    def prepare_spawn(
        self,
        name: str,
        input: object,
        *,
        key: str | None,
        index: int,
        options: ChildTriggerWorkflowOptions | None,
        parent: SpawningAttempt,
    ) -> Trigger:
        request = child_request(
            name, input, key=key, index=index, options=options, parent=parent, max_bytes=self.max_bytes
        )
        return Trigger(request=request, is_wanted=parent.is_current, patience_seconds=None)

    def trigger(self, triggers: list[Trigger], *, with_others: bool) -> "list[Future[str]]":
        for trigger in triggers:
            settle(trigger.answer, self._spawn(trigger.request))
        return [trigger.answer for trigger in triggers]

    def schedule_children(
        self,
        name: str,
        schedules: Sequence[datetime],
        input: object,
        *,
        key: str | None,
        index: int,
        options: ChildScheduleWorkflowOptions | None,
        parent: SpawningAttempt,
    ) -> "Future[list[str]]":
        scheduled = child_schedule_request(
            name,
            schedules,
            input,
            key=key,
            index=index,
            options=options,
            parent=parent,
            max_bytes=self.max_bytes,
        )
        request: Any = options
        one = child_request(name, input, key=key, index=index, options=request, parent=parent, max_bytes=self.max_bytes)
        times = [each.ToDatetime(UTC) for each in scheduled.schedules]
        answers = [self._spawn(one, f"@{position}", at) for position, at in enumerate(times)]
        answer: Future[list[str]] = Future()
        refused = next((each for each in answers if isinstance(each, RequestRefused)), None)
        settle(answer, refused or [each for each in answers if isinstance(each, str)])
        return answer

    def _spawn(
        self, request: "TriggerWorkflowRequest", position: str = "", start_at: datetime | None = None
    ) -> "str | RequestRefused":
        key = request.child_key if request.HasField("child_key") else None
        if (refusal := _find(self.refusals, request.name, key)) is not None:
            return refusal
        run_id = f"{request.parent_id}-child-" + (f"{request.child_index}" if key is None else f"key-{key}")
        run_id += position
        self.spawned.setdefault(
            run_id,
            Spawned(
                workflow_name=request.name,
                input=json.loads(request.input),
                key=key,
                index=request.child_index,
                additional_metadata=json.loads(request.additional_metadata or "{}"),
                options={
                    name: getattr(request, name)
                    for name in ("priority", "on_conflict", "on_failed", "on_parent_close")
                    if request.HasField(name)
                }
                | ({"record": request.record.lower()} if request.record in ("Full", "Result") else {})
                | ({"sticky": True} if request.HasField("desired_worker_id") else {}),
                workflow_run_id=run_id,
                start_at=start_at,
            ),
        )
        return run_id

    def put_stream(self, task_run_external_id: str, index: int, data: bytes) -> None:
        self.streamed.append(data.decode())

    def end_of_run(self, workflow_run_id: str, *, again: Trigger | None = None) -> "Future[WorkflowRunEvent]":
        end: Future[WorkflowRunEvent] = Future()
        try:
            settle(end, self._end_of(self.spawned[workflow_run_id]))
        except BaseException as error:  # noqa: BLE001 - raised where the step waits for the run
            settle(end, error)
        return end

    def _end_of(self, child: Spawned) -> WorkflowRunEvent:
        answer = _find(self.answers, child.workflow_name, child.key)
        if answer is None:
            known = ", ".join(sorted({name for name, _ in self.answers})) or "none"
            which = f'workflow "{child.workflow_name}"' + ("" if child.key is None else f' with key "{child.key}"')
            raise AssertionError(
                f"the step waits for a run of {which}, whose result the test does not define (defined are: {known}); "
                f'call context.answer("{child.workflow_name}", {{"step": {{…}}}}) or context.fail(…) before'
            )
        if isinstance(answer, _Failure):
            results = [StepRunResult(task_name=step, error=error) for step, error in answer.errors.items()]
            return WorkflowRunEvent(workflow_run_id=child.workflow_run_id, phase=answer.phase, results=results)
        outputs = answer(child) if callable(answer) else answer
        what = f'answer for workflow "{child.workflow_name}": outputs'
        results = [
            StepRunResult(task_name=step, output=text)
            for step, text in checked_outputs(outputs, what=what, max_bytes=self.max_bytes).items()
        ]
        return WorkflowRunEvent(workflow_run_id=child.workflow_run_id, phase="Succeeded", results=results)

    def stream_of_run(
        self, workflow_run_id: str, *, on_block: "Callable[[Future[Any]], None] | None" = None
    ) -> NoReturn:
        raise NotImplementedError(
            "a FakeContext has no streams: test steps that listen to children with hatchet_sdk.testing.LocalServer"
        )

    def refuse_to_block_steps(self, what: str = "", instead: str = "") -> None:
        pass  # nothing is ever waited for

    def refresh_timeout(self, task_run_external_id: str, increment: str) -> "Future[None]":
        self.refreshed.append(duration_text(increment, what=f"refresh_timeout({increment!r}): increment_by"))
        return _done()

    def release_slot(self, task_run_external_id: str) -> "Future[None]":
        self.released_slot = True
        return _done()

    def upsert_worker_labels(self, worker_id: str, labels: Mapping[str, str | int]) -> "Future[None]":
        return _done()

    def put_log(self, task_run_external_id: str, message: str, retry_count: int) -> None:
        self.logged.append(message)


def _find(said: Mapping[_Which, T], workflow: str, key: str | None) -> T | None:
    return said.get((workflow, key), said.get((workflow, None)))


def _done() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done
