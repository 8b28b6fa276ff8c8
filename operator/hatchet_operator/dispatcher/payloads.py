"""Converts between messages and what runs hold: a large text becomes a reference, and a reference a text again.

    request ─► large? ─► into the store ─► a reference is passed on, to translation and the engine
    answer  ─► refers to something? ─► read in the background ─► the client gets the text

Clients that do this themselves (`Caller.takes_references`) send and get references. All others get the texts that
references stand for, as far as these fit into a message.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hatchet_operator.access.identity import Caller
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.outputs import content_problem
from hatchet_operator.decisions.results import StepResult
from hatchet_operator.engine.engine import Engine
from hatchet_operator.engine.payloads.texts import Payloads, is_reference, references_of
from hatchet_operator.engine.runs.results import RunResult
from hatchet_operator.errors import InvalidRequest
from hatchet_operator.resources.limits import MAX_MESSAGE_BYTES
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.run import WorkflowRun
from hatchet_sdk.payloads.reference import BadReference, owner_of_request
from hatchet_sdk.payloads.store import PayloadError

_READ_AHEAD = 4
_ROOM_OF_MESSAGE = MAX_MESSAGE_BYTES - 16 * 1024  # minus room for the rest of the message


# --- From clients


async def input_to_keep(
    engine: Engine, caller: Caller, text: str, *, workflow: str, parent: str = "", request_id: str = ""
) -> str:
    """Return what becomes a run's input: the text that a client sent, or its reference.

    Args:
        engine: Has the store.
        caller: Who sent it.
        text: A JSON object, or a reference.
        workflow: For messages.
        parent: Name or UID of the spawning run, with which its children's inputs are stored; "": there is none.
        request_id: What names the request otherwise.

    Raises:
        InvalidRequest: It is not an object, or can't be stored.
    """
    what, payloads = f'input for workflow "{workflow}"', engine.payloads
    try:
        if (reference := payloads.checked(caller.namespace, text)) is not None:
            payloads.count(reference, kind="input", by="client")
            return text
        if payloads.root is None or _size(text) <= payloads.inline_bytes:
            return text
        await asyncio.to_thread(parse_object, text, what=what)
        record = engine.store.find(caller.namespace, parent) if parent else None
        owner = record.uid if record is not None else owner_of_request(request_id or uuid.uuid4().hex)
        return await payloads.keep(caller.namespace, owner, text, kind="input")
    except (PayloadError, BadReference) as error:
        raise InvalidRequest(f"{what}: {error}") from error


async def outcome_to_keep(
    engine: Engine, caller: Caller, attempt_id: str, outcome: Outcome, payload: str, *, run_uid: str | None = None
) -> tuple[Outcome, str]:
    """Return how an attempt ended and the output to keep: what its worker sent, or its reference."""
    payloads = engine.payloads
    if outcome is not Outcome.COMPLETED or not payload:
        return outcome, payload
    attempt = engine.runs.attempts.get(attempt_id)
    record = engine.store.get(attempt.ref) if attempt else engine.store.by_uid(run_uid) if run_uid else None
    step = f'step "{attempt.step.name}"' if attempt else "the step"
    try:
        if (reference := payloads.checked(caller.namespace, payload)) is not None:
            payloads.count(reference, kind="output", by="client")
            return outcome, payload
        if payloads.root is None or record is None or _size(payload) <= engine.room_for_output(attempt_id):
            return outcome, payload
        if (problem := await asyncio.to_thread(content_problem, payload, step=step)) is not None:
            return Outcome.FAILED, problem
        return outcome, await payloads.keep(caller.namespace, record.uid, payload, kind="output")
    except (PayloadError, BadReference) as error:
        return Outcome.FAILED, f"what {step} returned can't be kept: {error}"


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# --- To clients


class Readings:
    """Reads payloads for a client's stream in the background, so that nothing else in the stream waits for the store.

    A few at a time, counting those that were read and not yet sent: a client may be slow, and texts would pile up here
    meanwhile.
    """

    def __init__(self, payloads: Payloads, caller: Caller) -> None:
        self._payloads = payloads
        self._caller = caller
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_READ_AHEAD)

    def of_run(self, run: WorkflowRun) -> list[str]:
        """Return the references in a run that have to be read before its worker gets it."""
        return [] if self._caller.takes_references else references_of(run)

    def of_result(self, result: RunResult) -> list[str]:
        """Return the references in a result that have to be read before its client gets it."""
        if self._caller.takes_references:
            return []
        return [step.output for step in result.steps if step.output is not None and is_reference(step.output)]

    def begin(
        self,
        references: Sequence[str],
        *,
        then: Callable[[Mapping[str, str]], None],
        otherwise: Callable[[str], None],
    ) -> None:
        """Read in the background; then call one of the two: with what references stand for, or why that is unknown.

        After the first, `told` must be called once its texts are no longer needed.
        """
        task = asyncio.get_running_loop().create_task(self._read(references, then, otherwise))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(
        self, references: Sequence[str], then: Callable[[Mapping[str, str]], None], otherwise: Callable[[str], None]
    ) -> None:
        await self._room.acquire()
        try:
            texts = await self._payloads.texts(self._caller.namespace, references)
        except PayloadError as error:
            self._room.release()
            otherwise(str(error))
        else:
            then(texts)

    def told(self) -> None:
        """Note that the client has what was read last, or no longer needs it."""
        self._room.release()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def texts_of(engine: Engine, caller: Caller, run: WorkflowRun) -> Mapping[str, str]:
    """Return what the references in a run stand for, for a client that does not take them.

    Raises:
        InvalidRequest: One can't be read.
    """
    references = Readings(engine.payloads, caller).of_run(run)
    try:
        return await engine.payloads.texts(caller.namespace, references) if references else {}
    except PayloadError as error:
        raise InvalidRequest(f"run {run.ref}: {error}") from error


def message_problem(size: int, what: str) -> str | None:
    """Say that a message with texts instead of references is too large, or None.

    Args:
        size: Its bytes.
        what: What to call the message, beginning with a capital.
    """
    if size <= _ROOM_OF_MESSAGE:
        return None
    return (
        f"{what} has {size} bytes, more than the {MAX_MESSAGE_BYTES} (4 MiB) that clients take in a message: pass "
        "less, or use hatchet-operator's SDK with its extra [payloads], which reads the store itself (docs/payloads.md)"
    )


def not_told(result: RunResult, why: str) -> RunResult:
    """Return a result that says why its outputs can't be sent."""
    steps = [step for step in result.steps if step.error is not None]
    return replace(result, steps=[*steps, StepResult(step="", attempt_id="", error=why)], texts={})
