"""A context without an operator: the real one, over a client that writes down what it is asked and answers as told."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from hatchet_sdk._client.io_thread import settle
from hatchet_sdk._client.json_text import JsonObject, encode_object
from hatchet_sdk._client.options import ChildTriggerWorkflowOptions, SpawningAttempt
from hatchet_sdk._client.requests import child_request
from hatchet_sdk._client.triggers import Trigger
from hatchet_sdk._runner.context import Assignment, Context
from hatchet_sdk.contracts.dispatcher_pb2 import StepRunResult, WorkflowRunEvent
from hatchet_sdk.errors import RequestRefused

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
        input: As the child would read it: what went through JSON.
        key: The spawn's key; None without one.
        index: Its position among the step's spawns, counted from -1 as in Hatchet.
        additional_metadata: The step's own with the spawn's over it.
        options: The other options that were given: ``priority``, ``on_conflict``, ``on_failed``, ``on_parent_close``.
        workflow_run_id: What the reference to it says.
    """

    workflow_name: str
    input: dict[str, Any]
    key: str | None
    index: int
    additional_metadata: dict[str, Any]
    options: dict[str, Any]
    workflow_run_id: str


Answer: TypeAlias = "Outputs | Callable[[Spawned], Outputs]"


@dataclass(frozen=True, kw_only=True)
class _Failure:
    errors: Mapping[str, str]
    phase: str


class FakeContext(Context):
    """Give it to a step in place of its context: ``Workflow().step(FakeContext({"n": 1}))``.

    Spawns are checked and written as JSON as in a worker, so what a worker refuses is refused here. The same key again
    is the same child. What a child returns is said with `answer` and `fail`; awaiting one that nobody answered is an
    AssertionError, spawning it is none.

    Args:
        input: What `workflow_input` returns, after it went through JSON.
        parents: Outputs of earlier steps by their names, for `step_output`.
        step: The step's name, for messages.
        retry_count: 0 in a first attempt.
        additional_metadata: Of the run.
        step_run_errors: Errors by step, for on-failure steps.
        workflow_run_id: The run's id.
        parent_workflow_run_id: Of a child run.
        child_key: Of a child run.
        child_index: Of a child run.
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
    ) -> None:
        payload = {
            "input": _through_json({} if input is None else input, what="input"),
            "parents": {
                name.lower(): _through_json(output, what=f'output of step "{name}"')
                for name, output in (parents or {}).items()
            },
            "step_run_errors": dict(step_run_errors or {}),
        }
        self._fake = _FakeClient()
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
        )

    # What the test says

    def answer(self, workflow_name: str, outputs: Answer, *, key: str | None = None) -> None:
        """Let runs of a workflow succeed.

        Args:
            workflow_name: Spawns of this workflow.
            outputs: What ``ref.result()`` returns: outputs by step name; or a function of the `Spawned` that makes
                them, which may raise.
            key: Only the spawn with this key; it goes before what is said for all.
        """
        self._fake.answers[workflow_name, key] = outputs

    def fail(
        self, workflow_name: str, error: str | Mapping[str, str], *, key: str | None = None, phase: str = "Failed"
    ) -> None:
        """Let runs of a workflow fail: ``ref.result()`` raises WorkflowRunFailed.

        Args:
            workflow_name: Spawns of this workflow.
            error: The failed step's error; by step name, if the step asks ``WorkflowRunFailed.errors``.
            key: Only the spawn with this key.
            phase: "Cancelled" and "Deleted" raise the subclasses of these names.
        """
        errors = {"step": error} if isinstance(error, str) else dict(error)
        self._fake.answers[workflow_name, key] = _Failure(errors=errors, phase=phase)

    def refuse(self, workflow_name: str, error: RequestRefused, *, key: str | None = None) -> None:
        """Let spawns of a workflow raise an error, as ``WorkflowNotFound("…")``."""
        self._fake.refusals[workflow_name, key] = error

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
class _FakeClient:
    """What `Context` and the references that it makes ask of a client."""

    answers: dict[_Which, "Answer | _Failure"] = field(default_factory=dict)
    refusals: dict[_Which, RequestRefused] = field(default_factory=dict)
    spawned: dict[str, Spawned] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    released_slot: bool = False

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
        request = child_request(name, input, key=key, index=index, options=options, parent=parent)
        return Trigger(request=request, is_wanted=parent.is_current, patience_seconds=None)

    def trigger(self, triggers: list[Trigger], *, with_others: bool) -> "list[Future[str]]":
        for trigger in triggers:
            settle(trigger.answer, self._spawn(trigger.request))
        return [trigger.answer for trigger in triggers]

    def _spawn(self, request: "TriggerWorkflowRequest") -> "str | RequestRefused":
        key = request.child_key if request.HasField("child_key") else None
        if (refusal := _find(self.refusals, request.name, key)) is not None:
            return refusal
        run_id = f"{request.parent_id}-child-" + (f"{request.child_index}" if key is None else f"key-{key}")
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
                },
                workflow_run_id=run_id,
            ),
        )
        return run_id

    def end_of_run(self, workflow_run_id: str) -> "Future[WorkflowRunEvent]":
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
                f"the step waits for a run of {which}, whose result the test does not say (said are: {known}); call "
                f'context.answer("{child.workflow_name}", {{"step": {{…}}}}) or context.fail(…) before'
            )
        if isinstance(answer, _Failure):
            results = [StepRunResult(task_name=step, error=error) for step, error in answer.errors.items()]
            return WorkflowRunEvent(workflow_run_id=child.workflow_run_id, phase=answer.phase, results=results)
        outputs = answer(child) if callable(answer) else answer
        results = [
            StepRunResult(task_name=step, output=encode_object(output, what=f'answer for step "{step}"'))
            for step, output in outputs.items()
        ]
        return WorkflowRunEvent(workflow_run_id=child.workflow_run_id, phase="Succeeded", results=results)

    def refuse_to_block_steps(self) -> None:
        pass  # nothing is ever waited for

    def refresh_timeout(self, task_run_external_id: str, increment: str) -> "Future[None]":
        self.refreshed.append(increment)
        return _done()

    def release_slot(self, task_run_external_id: str) -> "Future[None]":
        self.released_slot = True
        return _done()

    def put_log(self, task_run_external_id: str, message: str, retry_count: int) -> None:
        self.logged.append(message)


def _find(said: Mapping[_Which, T], workflow: str, key: str | None) -> T | None:
    return said.get((workflow, key), said.get((workflow, None)))


def _done() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done


def _through_json(value: JsonObject, *, what: str) -> object:
    return json.loads(encode_object(value, what=what))
