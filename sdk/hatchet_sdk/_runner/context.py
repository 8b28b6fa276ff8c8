"""What a step knows about its run and can request while it runs."""

import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, overload

from hatchet_sdk._client.arguments import check_seconds
from hatchet_sdk._client.chunks import chunk_of_stream
from hatchet_sdk._client.io_thread import settle
from hatchet_sdk._client.json_text import JsonObject
from hatchet_sdk._client.options import (
    ChildScheduleWorkflowOptions,
    ChildTriggerWorkflowOptions,
    ChildWorkflowRunDict,
    SpawningAttempt,
)
from hatchet_sdk._client.run_ref import WorkflowRunRef
from hatchet_sdk._client.tracing import traceparent_in
from hatchet_sdk._client.typed import InputT, ResultT, Workflow, result_model
from hatchet_sdk._client.validation import Model, Validator, validated
from hatchet_sdk._runner.output import StepOutput
from hatchet_sdk._runner.worker_labels import WorkerContext
from hatchet_sdk.errors import AttemptCancelled

if TYPE_CHECKING:
    from concurrent.futures import Future

    from hatchet_sdk._client.client import Client
from hatchet_sdk._runner.assignment import Assignment
from hatchet_sdk._runner.context_aio import ContextAio
from hatchet_sdk._runner.spawns import Spawns, spawn_item


class Context:
    """The second argument of a step. One per attempt; usable from any thread of it."""

    def __init__(
        self,
        assignment: Assignment,
        client: "Client",
        worker: WorkerContext,
        *,
        input_validator: "type[Validator] | None" = None,
    ) -> None:
        self._aio = ContextAio(self)
        self._assignment = assignment
        self._client = client
        self._input_validator = input_validator
        self._input_as_model: object = None
        self._next_chunk = itertools.count()
        self._worker = worker
        self._spawns = Spawns(
            client,
            lambda: self._as_parent,
            refuse_when_cancelled=self._refuse_when_cancelled,
            on_block=self._on_block,
        )
        self._cancelled = False
        self._cancelled_by_step = False
        self._output = StepOutput(assignment.workflow_run_id, assignment.step, assignment.retry_count + 1)
        self._output.traceparent = traceparent_in(assignment.additional_metadata)
        self._stopping = False
        self._interrupted = threading.Event()
        self._awaited: set[Future[Any]] = set()
        self._texts: dict[tuple[str, str], str] = {}
        self._waits_no_more = False
        self._when_interrupted: set[Callable[[], object]] = set()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f'the context of step "{self._assignment.step}" stays in its process (pass to others what they need of it, '
            "as context.workflow_input())"
        )

    @property  # not set by __init__ alone: a mock that has a class for its spec knows what the class has
    def aio(self) -> "ContextAio":
        """The same calls for async steps."""
        return self._aio

    @property
    def worker(self) -> WorkerContext:
        """The worker that runs this step."""
        return self._worker

    @cached_property
    def _payload(self) -> Mapping[str, Any]:
        read: dict[str, Any] = json.loads(self._assignment.payload or "{}")
        for (part, name), text in self._texts.items():  # here, as a large one takes its time, which is the step's
            of_part = read[part] if part else read
            of_part[name] = json.loads(text)
        self._texts = {}
        return read

    def _take_texts(self, texts: "dict[tuple[str, str], str]") -> None:
        """Set the texts read from a store: by the part of the payload, "" for all of it, and the name in it."""
        self._texts = texts

    @cached_property
    def _is_in_a_pod(self) -> bool:
        return bool(os.environ.get("HATCHET_POD_NAME"))

    @cached_property
    def _as_parent(self) -> SpawningAttempt:
        return SpawningAttempt(
            workflow_run_id=self._assignment.workflow_run_id,
            task_run_external_id=self._assignment.task_run_external_id,
            additional_metadata=self.additional_metadata(),
            is_current=lambda: not self._cancelled,
            run_uid=self._assignment.run_uid,
            worker_id=self._worker.id(),
        )

    @property
    def step_run_id(self) -> str:
        """The id of this attempt."""
        return self._assignment.task_run_external_id

    @property
    def exit_flag(self) -> bool:
        """Whether the step should stop: it was cancelled, or timed out."""
        return self._cancelled

    def done(self) -> bool:
        """Return whether the step should stop; same as `exit_flag`."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel this step from within: when it returns or raises, it ends as cancelled."""
        self._cancelled_by_step = True
        self._announce_cancel()

    @property
    def stopping(self) -> bool:
        """Whether the worker is about to stop, so that the step should save its work.

        The worker was told to stop (its pod is drained, replaced or scaled in; Ctrl-C), takes nothing new, and waits
        for this step as long as its pod's grace period lasts. If the step has not ended by then, another worker
        executes it again, without using up a retry.
        """
        return self._stopping

    def wait_until_stopping(self, timeout: float | None = None) -> bool:
        """Block until the worker is about to stop, or this step should (`exit_flag`).

        Args:
            timeout: Seconds; None waits forever.

        Returns:
            False after the timeout, so that ``while not context.wait_until_stopping(60):`` is a loop that ends in time
            to save.
        """
        check_seconds(timeout, what="wait_until_stopping(): timeout")
        return self._interrupted.wait(timeout)

    def _on_block(self, awaited: "Future[Any]") -> None:
        """Remember what a thread of this step waits for."""
        self._awaited.add(awaited)
        awaited.add_done_callback(self._awaited.discard)
        if self._waits_no_more:
            self._end_waits()

    def _end_waits(self) -> None:
        self._waits_no_more = True  # before the look at what is awaited, as _on_block looks the other way round
        for awaited in tuple(self._awaited):
            settle(awaited, AttemptCancelled(f'step "{self._assignment.step}" was cancelled and waits no more'))

    def _announce_stop(self) -> None:
        self._stopping = True
        self._interrupt()

    def _announce_cancel(self) -> None:
        self._cancelled = True
        self._interrupt()

    def _interrupt(self) -> None:
        self._interrupted.set()  # before looking at the waiters: a new one looks at this after adding itself
        for wake in tuple(self._when_interrupted):
            wake()

    def workflow_run_id(self) -> str:
        return self._assignment.workflow_run_id

    @overload
    def workflow_input(self) -> dict[str, Any]: ...

    @overload
    def workflow_input(self, model: type[Model]) -> Model: ...

    def workflow_input(self, model: "type[Validator] | None" = None) -> Any:
        """Return the run's input.

        Args:
            model: A pydantic model to read it as; default: the workflow's ``input_validator``, and without one it is a
                dict.

        Raises:
            InvalidInput: The model does not accept it; uncaught, it fails the step at once, whatever retries are left.
        """
        if model is None or model is self._input_validator:
            return self._validated_input()
        return validated(self._given_input, model, what=f"the input of run {self.workflow_run_id()}")

    @property
    def _given_input(self) -> dict[str, Any]:
        given: dict[str, Any] = self._payload.get("input") or {}
        return given

    def _validated_input(self) -> Any:
        """Return the input as the workflow's model, if it has one; once it is called before the step is.

        Raises:
            InvalidInput: The model does not accept it.
        """
        if self._input_validator is None:
            return self._given_input
        if self._input_as_model is None:
            what = f"the input of run {self.workflow_run_id()}"
            self._input_as_model = validated(self._given_input, self._input_validator, what=what)
        return self._input_as_model

    @overload
    def step_output(self, step: str) -> dict[str, Any]: ...

    @overload
    def step_output(self, step: str, model: type[Model]) -> Model: ...

    def step_output(self, step: str, model: "type[Validator] | None" = None) -> Any:
        """Return what an earlier step of this run returned.

        Args:
            step: Its name.
            model: A pydantic model to read it as; default: a dict.

        Raises:
            ValueError: There is no output of that step.
            InvalidInput: The model does not accept it.
        """
        output = self._output_of(step)
        return output if model is None else validated(output, model, what=f'the output of step "{step}"')

    def _output_of(self, step: str) -> dict[str, Any]:
        if not isinstance(step, str):
            raise TypeError(f"step_output: step is {step!r} (expected a step's name)")
        outputs: Mapping[str, dict[str, Any]] = self._payload.get("parents") or {}
        try:
            return outputs[step.lower()]
        except KeyError:
            there = ", ".join(sorted(outputs)) or "none"
            raise ValueError(
                f'step "{self._assignment.step}" has no output of step "{step}" (there are: {there}); '
                "name it in parents=[...], and let it return a mapping"
            ) from None

    def step_run_errors(self) -> dict[str, str]:
        """Return the errors of the run's failed steps by step name; for on-failure steps."""
        read: dict[str, str] = self._payload.get("step_run_errors") or {}
        return read

    def fetch_run_failures(self) -> list[dict[str, str]]:
        """Return the run's failed steps as Hatchet's first SDKs do; `step_run_errors` says the same, by name."""
        workflow = self._assignment.action_id.rpartition(":")[0]
        return [
            {"step_id": step, "step_run_action_name": f"{workflow}:{step}", "error": error}
            for step, error in self.step_run_errors().items()
        ]

    def playground(self, name: str, default: Any = None) -> Any:
        """Return the default, for programs written for Hatchet, whose dashboard can override it."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"playground: name is {name!r} (expected a text)")
        return default

    def triggered_by_event(self) -> bool:
        """Whether an event started the run."""
        return self._payload.get("triggered_by") == "event"

    def retry_count(self) -> int:
        """Return 0 in the first attempt."""
        return self._assignment.retry_count

    def additional_metadata(self) -> dict[str, Any]:
        read = json.loads(self._assignment.additional_metadata or "{}")
        return read if isinstance(read, dict) else {}

    def child_index(self) -> int:
        """Return the position among the parent's spawns, which Hatchet counts from -1; 0 in a root run."""
        return self._assignment.child_index

    def child_key(self) -> str:
        """Return the key that the parent gave; "" without one."""
        return self._assignment.child_key

    def parent_workflow_run_id(self) -> str:
        """Return the parent's id; "" in a root run."""
        return self._assignment.parent_workflow_run_id

    def log(self, message: object) -> None:
        """Write to this process's standard output, each line prefixed with run, step and attempt.

        It does not depend on how a program configures ``logging`` or ``sys.stdout``.
        """
        text = str(message)
        self._output.log(text)
        if not self._is_in_a_pod:  # whose log Kubernetes keeps; elsewhere the operator's has it too, at best effort
            sendable = text.encode("utf-8", "backslashreplace").decode()  # gRPC accepts no lone surrogates
            self._client.put_log(self.step_run_id, sendable, self.retry_count())

    def put_stream(self, data: str | bytes) -> None:
        """Publish a chunk to listeners of this run (``ref.stream()``), in the order of the calls.

        It is sent in the background and kept in the operator's memory for a while: return what must last.

        Args:
            data: Text, or its bytes in UTF-8; at most 64 KiB.

        Raises:
            TypeError, ValueError: It can't be sent; nothing was.
        """
        self._client.put_stream(self.step_run_id, next(self._next_chunk), chunk_of_stream(data))

    def refresh_timeout(self, increment_by: str) -> None:
        """Extend this attempt's deadline, e.g. by "10s"; blocks until the operator has confirmed."""
        self._client.refresh_timeout(self.step_run_id, increment_by).result()

    def release_slot(self) -> None:
        """Let the worker take another attempt beside this one; blocks until the operator has confirmed."""
        self._client.release_slot(self.step_run_id).result()

    @overload
    def spawn_workflow(
        self,
        workflow_name: type[Workflow[InputT, ResultT]],
        input: InputT,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef[ResultT]: ...

    @overload
    def spawn_workflow(
        self,
        workflow_name: str,
        input: JsonObject | None = None,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef: ...

    def spawn_workflow(
        self,
        workflow_name: object,
        input: Any = None,
        key: str | None = None,
        options: ChildTriggerWorkflowOptions | None = None,
    ) -> WorkflowRunRef[Any]:
        """Start a child run and block until the operator has it.

        A retried attempt that spawns again with the same key, or without one at the same place in the order of its
        spawns, gets the existing child, whatever its state. In an async step use ``aio``: this blocks its event
        loop.

        Args:
            workflow_name: The child's workflow: its name, or its class, whose `Workflow` base says what it takes and
                returns.
            input: A mapping, dataclass or pydantic model, as JSON at most 256 KiB (with a payload store, 1 GiB);
                None: an empty one.
            key: What identifies the child within this step; any text but the empty one.
            options: See `ChildTriggerWorkflowOptions`.

        Raises:
            TypeError, ValueError: Input or key cannot be sent; nothing was sent.
            WorkflowNotFound: There is no such workflow.
            SpawnConflict: ``on_conflict`` is "fail", and the existing child differs.
            AttemptSuperseded, AttemptCancelled: This attempt may not spawn any more.
        """
        (trigger,) = self._spawns.spawn([spawn_item(workflow_name, input, key, options)], with_others=False)
        return self._spawns.ref_of(trigger, trigger.answer.result(), model=result_model(workflow_name))

    def spawn_workflows(self, child_workflow_runs: Sequence[ChildWorkflowRunDict]) -> list[WorkflowRunRef]:
        """Start many child runs at once; raises the first error after all are answered."""
        return self._spawns.refs(self._spawns.spawn(child_workflow_runs, with_others=False))

    def schedule_workflow(
        self,
        workflow_name: str | type,
        schedules: Sequence[datetime],
        input: JsonObject | None = None,
        key: str | None = None,
        options: ChildScheduleWorkflowOptions | None = None,
    ) -> list[WorkflowRunRef]:
        """Create child runs that start at given times, one for each, and block until the operator has them.

        A retried attempt that does so again, with the same key or at the same place in the order of its spawns, gets
        the existing runs, in their order, with their previous times: so a time may be relative to now. They
        outlive this run's end, and are cancelled and deleted with it.

        Args:
            workflow_name: Their workflow.
            schedules: When; a time without a zone is local, one in the past means now.
            input: The input of all of them; see `spawn_workflow`.
            key: What identifies them within this step.
            options: See `ChildScheduleWorkflowOptions`.

        Raises:
            TypeError, ValueError: Times, input or key are invalid; nothing was sent.
            WorkflowNotFound: There is no such workflow.
            AttemptSuperseded, AttemptCancelled: This attempt may not spawn any more.
        """
        return self._spawns.refs_of(self._spawns.schedule(workflow_name, schedules, input, key, options).result())

    def _refuse_when_cancelled(self) -> None:
        if self._cancelled:
            raise AttemptCancelled(f'step "{self._assignment.step}" was cancelled and spawns nothing more')
