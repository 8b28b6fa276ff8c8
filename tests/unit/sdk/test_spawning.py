"""What a spawn sends, how spawns travel together, and what each refusal becomes."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from hatchet_sdk import (
    AccessDenied,
    AttemptCancelled,
    AttemptSuperseded,
    ClientConfig,
    Context,
    Hatchet,
    InvalidRequest,
    OperatorUnavailable,
    RequestRefused,
    SpawnConflict,
    WorkflowNotFound,
)
from hatchet_sdk._client import triggers
from hatchet_sdk._client.client import Client
from hatchet_sdk._client.connection import Connection
from hatchet_sdk._client.pace import Pace
from hatchet_sdk._hatchet import paced
from hatchet_sdk._runner.assignment import Assignment
from hatchet_sdk._runner.worker_labels import WorkerContext
from tests.unit.sdk.fake_operator import PATIENCE_SECONDS, FakeOperator, eventually


@pytest.fixture
def known(operator: FakeOperator) -> None:
    """Let the operator know a workflow without steps: its runs never end, which suits spawn tests."""
    for name in ("Child", "Other"):
        operator.workflows[name] = make_workflow(name)


def make_workflow(name: str) -> Any:
    from hatchet_sdk.contracts.workflows_pb2 import CreateWorkflowJobOpts, CreateWorkflowVersionOpts

    return CreateWorkflowVersionOpts(name=name, jobs=[CreateWorkflowJobOpts(name=name)])


def make_context(operator: FakeOperator, **assigned: Any) -> Context:
    given: dict[str, Any] = {
        "workflow_run_id": "run-p",
        "task_run_external_id": "run-p.spawn/0",
        "step": "spawn",
        "action_id": "parent:spawn",
        "job_id": "",
        "retry_count": 0,
        "payload": "{}",
        "additional_metadata": "",
        "child_index": 0,
        "child_key": "",
        "parent_workflow_run_id": "",
    }
    client = Client(ClientConfig(host_port=operator.address, token="secret", tls_strategy="none"), Pace())
    return Context(Assignment(**given | assigned), client, WorkerContext(client, worker_id="w", labels={}))


@pytest.fixture
def context(operator: FakeOperator, known: None) -> Context:
    return make_context(operator)


def test_a_spawn_says_whose_child_it_is(context: Context, operator: FakeOperator) -> None:
    ref = context.spawn_workflow(
        "Child", {"a": 1}, key="ключ 🎉", options={"on_conflict": "fail", "on_failed": "retry"}
    )
    (sent,) = operator.requests("TriggerWorkflow")
    assert (sent.name, sent.input) == ("Child", '{"a":1}')
    assert (sent.parent_id, sent.parent_task_run_external_id) == ("run-p", "run-p.spawn/0")
    assert (sent.child_index, sent.child_key) == (-1, "ключ 🎉")
    assert (sent.on_conflict, sent.on_failed) == ("fail", "retry")
    assert not sent.HasField("on_parent_close")
    assert not sent.HasField("request_id")
    assert str(ref) == ref.workflow_run_id == next(iter(operator.runs))
    assert operator.metadata[-1]["authorization"] == "bearer secret"


async def test_one_counter_serves_sync_async_bulk_and_keyed_spawns(context: Context, operator: FakeOperator) -> None:
    context.spawn_workflow("Child", {})
    await context.aio.spawn_workflow("Child", {}, key="k")
    with pytest.raises(TypeError):
        context.spawn_workflow("Child", {"bad": 1j})  # its place in the code is taken all the same
    context.spawn_workflows([{"workflow_name": "Child", "input": {}}, {"workflow_name": "Child", "input": {}}])
    await context.aio.spawn_workflows([{"workflow_name": "Child", "input": {}, "key": "l"}])
    sent = operator.requests("TriggerWorkflow") + list(operator.requests("BulkTriggerWorkflow")[0].workflows)
    assert sorted((item.child_index, item.child_key) for item in sent) == [
        (-1, ""),
        (0, "k"),
        (2, ""),
        (3, ""),
        (4, "l"),
    ]
    assert [item.HasField("child_key") for item in sent].count(True) == 2


def test_metadata_of_the_parent_lies_under_the_childs(known: None, operator: FakeOperator) -> None:
    context = make_context(operator, additional_metadata='{"team":"a","who":"parent"}')
    context.spawn_workflow("Child", {}, options={"additional_metadata": {"who": "child"}, "priority": 3})
    context.spawn_workflow("Child", {}, options={"on_parent_close": "Cancel"})
    first, second = operator.requests("TriggerWorkflow")
    assert json.loads(first.additional_metadata) == {"team": "a", "who": "child"}
    assert first.priority == 3
    assert json.loads(second.additional_metadata) == {"team": "a", "who": "parent"}
    assert second.on_parent_close == "Cancel"


async def test_spawns_awaited_together_travel_together(context: Context, operator: FakeOperator) -> None:
    refs = await asyncio.gather(*(context.aio.spawn_workflow("Child", {"n": n}) for n in range(250)))
    bulks = operator.requests("BulkTriggerWorkflow")
    assert sorted(len(bulk.workflows) for bulk in bulks) == [50, 100, 100]  # on the way a small one may overtake
    assert all(bulk.errors_per_item for bulk in bulks)
    assert operator.requests("TriggerWorkflow") == []
    assert [json.loads(operator.runs[str(ref)].request.input)["n"] for ref in refs] == list(range(250))


async def test_a_bad_item_fails_only_its_own_call(context: Context) -> None:
    names = ["Child", "Nobody", "Other", "Child"]
    answers = await asyncio.gather(*(context.aio.spawn_workflow(name, {}) for name in names), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == [
        "WorkflowRunRef",
        "WorkflowNotFound",
        "WorkflowRunRef",
        "WorkflowRunRef",
    ]
    assert str(answers[1]) == 'workflow "Nobody" is not registered'


async def test_a_bulk_spawn_raises_its_first_error_after_all_are_answered(
    context: Context, operator: FakeOperator
) -> None:
    with pytest.raises(WorkflowNotFound) as refused:
        await context.aio.spawn_workflows(
            [{"workflow_name": name, "input": {}} for name in ("Child", "Nobody", "Nowhere", "Other")]
        )
    assert refused.value.__notes__ == ["2 of 4 runs were not started; the others were"]
    assert len(operator.runs) == 2


async def test_batches_stay_under_the_size_limit(context: Context, operator: FakeOperator) -> None:
    large = {"text": "x" * 200_000}
    await asyncio.gather(*(context.aio.spawn_workflow("Child", large) for _ in range(40)))
    sizes = [bulk.ByteSize() for bulk in operator.requests("BulkTriggerWorkflow")]
    assert len(operator.runs) == 40
    assert max(sizes) <= triggers.MAX_BATCH_BYTES + 1000


async def test_a_few_batches_are_under_way_and_the_rest_wait_and_join(context: Context, operator: FakeOperator) -> None:
    gate = asyncio.Event()
    operator.open = gate
    spawns = []
    for number in range(1, 31):
        spawns.append(asyncio.create_task(context.aio.spawn_workflow("Child", {})))
        want = min(number, triggers.MAX_BATCHES_UNDER_WAY)
        await asyncio.to_thread(eventually, lambda want=want: len(operator.calls) == want)  # type: ignore[misc]
    operator.do(gate.set)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*spawns)
    assert len(operator.runs) == 30
    assert len(operator.calls) <= triggers.MAX_BATCHES_UNDER_WAY + 4


@pytest.mark.parametrize(
    ("code", "want"),
    [
        (grpc.StatusCode.NOT_FOUND, WorkflowNotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, AttemptSuperseded),
        (grpc.StatusCode.ALREADY_EXISTS, SpawnConflict),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.UNAUTHENTICATED, AccessDenied),
        (grpc.StatusCode.PERMISSION_DENIED, AccessDenied),
        (grpc.StatusCode.UNIMPLEMENTED, RequestRefused),
    ],
)
def test_a_definite_answer_becomes_an_error(
    code: grpc.StatusCode, want: type[Exception], context: Context, operator: FakeOperator
) -> None:
    operator.faults["TriggerWorkflow"] = [code]
    with pytest.raises(want, match="TriggerWorkflow fails as told"):
        context.spawn_workflow("Child", {})
    assert len(operator.requests("TriggerWorkflow")) == 1


async def test_what_may_pass_is_repeated_unchanged(context: Context, operator: FakeOperator) -> None:
    passing = [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNKNOWN,
    ]
    operator.faults["TriggerWorkflow"] = list(passing)
    operator.faults["BulkTriggerWorkflow"] = list(passing)
    await context.aio.spawn_workflow("Child", {})
    await asyncio.gather(*(context.aio.spawn_workflow("Child", {}) for _ in range(3)))
    assert len({sent.SerializeToString() for sent in operator.requests("TriggerWorkflow")}) == 1
    assert len({sent.SerializeToString() for sent in operator.requests("BulkTriggerWorkflow")}) == 1
    assert len(operator.runs) == 4


def test_a_spawn_outlives_a_restart_of_the_operator(context: Context, operator: FakeOperator) -> None:
    context.spawn_workflow("Child", {})
    operator.stop()
    spawned: list[object] = []
    thread = threading.Thread(target=lambda: spawned.append(context.spawn_workflow("Child", {})), daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    operator.start()
    thread.join(PATIENCE_SECONDS)
    assert len(spawned) == 1
    assert len(operator.runs) == 2


def test_a_cancelled_attempt_spawns_nothing_more(context: Context, operator: FakeOperator) -> None:
    operator.faults["TriggerWorkflow"] = [grpc.StatusCode.UNAVAILABLE] * 100
    errors: list[BaseException] = []

    def spawn() -> None:
        try:
            context.spawn_workflow("Child", {})
        except AttemptCancelled as error:
            errors.append(error)

    thread = threading.Thread(target=spawn, daemon=True)
    thread.start()
    eventually(lambda: operator.calls)
    context.cancel()
    thread.join(PATIENCE_SECONDS)
    assert len(errors) == 1
    with pytest.raises(AttemptCancelled, match='step "spawn" was cancelled'):
        context.spawn_workflow("Child", {})


@pytest.mark.parametrize(
    ("spawn", "kind", "want"),
    [
        pytest.param(
            lambda context: context.spawn_workflow("Child", [1]),
            TypeError,
            'spawn_workflow("Child"): input is a list (expected a mapping)',
            id="input that is no object",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {"a": [0, 1, 2j]}),
            TypeError,
            'spawn_workflow("Child"): input["a"][2] is a complex, which has no JSON form',
            id="input that has no JSON form",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {"a": "x" * 300_000}),
            ValueError,
            "more than the limit of 262144 bytes",
            id="input too large",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, key=""),
            ValueError,
            'spawn_workflow("Child"): key is empty (leave it out, or give it some text)',
            id="an empty key",
        ),
        pytest.param(
            lambda context: context.spawn_workflow(Context, {}),
            TypeError,
            "workflow name is the class Context (expected the name of a workflow, or a class that is decorated with ",
            id="a class for a name",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, key=7),
            TypeError,
            'spawn_workflow("Child"): key is 7 (expected a str)',
            id="a key that is no text",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, key="\ud800"),
            ValueError,
            "half of a surrogate pair",
            id="a key that is no unicode",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("", {}),
            ValueError,
            "workflow name is empty (expected the name of a registered workflow)",
            id="no name",
        ),
        pytest.param(
            lambda context: context.refresh_timeout(5),
            TypeError,
            'refresh_timeout(5): increment_by is 5 (expected a duration like "90s", "24h" or "7d")',
            id="a number for a duration",
        ),
        pytest.param(
            lambda context: context.refresh_timeout("soon"), ValueError, "increment_by is 'soon'", id="no duration"
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, options={"wait": True}),
            ValueError,
            'unknown option "wait" (known: additional_metadata, on_conflict, on_failed, on_parent_close, priority, ',
            id="an option that is not known",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, options={"on_failed": "again"}),
            ValueError,
            "on_failed is 'again' (expected 'retry')",
            id="a choice that is not known",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, options={"additional_metadata": 5}),
            TypeError,
            "additional_metadata is an int (expected a mapping)",
            id="metadata that is no object",
        ),
        pytest.param(
            lambda context: context.spawn_workflow("Child", {}, options={"priority": "high"}),
            TypeError,
            "priority is 'high' (expected an int, 1 to 3)",
            id="a priority that is no number",
        ),
        *(
            pytest.param(
                lambda context, priority=priority: context.spawn_workflow("Child", {}, options={"priority": priority}),
                ValueError,
                f"priority is {priority} (expected 1 to 3; 3 goes first)",
                id=f"priority {priority}",
            )
            for priority in (0, -1, 4, 2**40)
        ),
        pytest.param(
            lambda context: context.spawn_workflows([{"workflow_name": "Child"}, {"workflow_name": "C", "ky": "k"}]),
            ValueError,
            'item 1: unknown field "ky" (known: input, key, options, workflow_name)',
            id="an unknown field of one of many",
        ),
        pytest.param(
            lambda context: context.spawn_workflows([{"input": {}}]),
            ValueError,
            "item 0 has no workflow_name",
            id="who",
        ),
        pytest.param(
            lambda context: context.spawn_workflows(["Child"]),
            TypeError,
            "item 0 is 'Child' (expected a dict",
            id="a str",
        ),
    ],
)
def test_nonsense_is_refused_before_anything_is_sent(
    spawn: Callable[[Context], object], kind: type[Exception], want: str, context: Context, operator: FakeOperator
) -> None:
    with pytest.raises(kind) as refused:
        spawn(context)
    assert want in str(refused.value)
    assert operator.calls == []


@pytest.mark.parametrize("key", ["k" * 10_000, "🎉", "a/b\0c\n", " "], ids=["long", "emoji", "control", "blank"])
def test_any_text_is_a_key(key: str, context: Context, operator: FakeOperator) -> None:
    context.spawn_workflow("Child", {}, key=key)
    assert operator.requests("TriggerWorkflow")[0].child_key == key


def test_one_of_many_without_an_input_has_an_empty_one(context: Context, operator: FakeOperator) -> None:
    context.spawn_workflows([{"workflow_name": "Child"}])
    assert operator.requests("TriggerWorkflow")[0].input == "{}"


def test_an_error_that_nobody_expects_ends_the_wait_and_not_the_others(
    context: Context, operator: FakeOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "workflows", property(lambda self: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            context.spawn_workflow("Child", {})
    assert str(context.spawn_workflow("Child", {})) in operator.runs


# Root runs


async def test_a_root_run_carries_a_request_id_that_repeating_keeps(
    hatchet: Hatchet, known: None, operator: FakeOperator
) -> None:
    operator.faults["TriggerWorkflow"] = [grpc.StatusCode.UNAVAILABLE]
    hatchet.admin.run_workflow("Child", {"a": 1})
    await hatchet.admin.aio.run_workflow("Child", {}, options={"request_id": "mine", "priority": 2})
    first, repeated, chosen = operator.requests("TriggerWorkflow")
    assert first.request_id == repeated.request_id
    assert len(first.request_id) == 36
    assert not first.HasField("child_index")
    assert (chosen.request_id, chosen.priority) == ("mine", 2)
    refs = hatchet.admin.run_workflows([{"workflow_name": "Child", "input": {}} for _ in range(3)])
    refs += await hatchet.admin.aio.run_workflows([{"workflow_name": "Child", "input": {}} for _ in range(3)])
    assert len({str(ref) for ref in refs}) == 6
    assert len(operator.requests("BulkTriggerWorkflow")) == 2


def test_outside_a_step_patience_ends() -> None:
    hatchet = paced(Pace(patience=0.3), ClientConfig(host_port="127.0.0.1:9", tls_strategy="none"))
    with pytest.raises(OperatorUnavailable, match=r"hatchet-operator at 127\.0\.0\.1:9 does not answer: .*refused"):
        hatchet.admin.run_workflow("Child", {})


def test_names_get_the_namespace(operator: FakeOperator) -> None:
    operator.workflows["team_Child"] = make_workflow("team_Child")
    config = ClientConfig(host_port=operator.address, tls_strategy="none", namespace="team")
    Hatchet(config=config).admin.run_workflow("Child", {})
    assert operator.requests("TriggerWorkflow")[0].name == "team_Child"
