"""Right and wrong calls of the SDK; checked by mypy, never run. An ignore that is not needed is an error as well."""

import dataclasses
from typing import Any, TypedDict, assert_type

from pydantic import BaseModel

from hatchet_sdk import (
    ClientConfig,
    Context,
    GatheredRuns,
    Hatchet,
    RunActResult,
    RunFilter,
    RunPage,
    StepRunEvent,
    Worker,
    Workflow,
    WorkflowRunFailed,
    WorkflowRunRef,
    gather_runs,
    sync_gather_runs,
)
from hatchet_sdk.testing import LocalServer

RunResult = dict[str, dict[str, Any]]
hatchet = Hatchet(debug=True, config=ClientConfig(host_port="localhost:7070", tls_strategy="none"))


class Output(BaseModel):
    n: int


@dataclasses.dataclass
class Point:
    x: int


@hatchet.workflow(name="Right", schedule_timeout="5m", default_priority=2)
class Right:
    @hatchet.step()
    async def unannotated(self, context):  # type: ignore[no-untyped-def]
        return {"a": 1}

    @hatchet.step(timeout="5m", parents=["unannotated"], retries=3, backoff_factor=2.0, backoff_max_seconds=60)
    def sync(self, context: Context) -> dict[str, int]:
        assert_type(context.workflow_input(), dict[str, Any])
        assert_type(context.workflow_input(Output), Output)
        assert_type(context.step_output("unannotated", Output), Output)
        assert_type(sync_gather_runs(context.spawn_workflows([]), max_failed="10%"), GatheredRuns)
        assert_type(context.spawn_workflow("Child", {"a": 1}, key="k"), WorkflowRunRef)
        assert_type(context.spawn_workflow("Child").sync_result(timeout=5), dict[str, dict[str, Any]])
        return {"a": 1}

    @hatchet.step()
    async def nothing(self, context: Context) -> None:
        ref = await context.aio.spawn_workflow("Child", {}, options={"on_failed": "retry", "priority": 1})
        assert_type(await ref.result(), dict[str, dict[str, Any]])
        refs = await context.aio.spawn_workflows([{"workflow_name": "Child", "input": {}, "key": "k"}])
        assert_type(refs, list[WorkflowRunRef])
        assert_type((await gather_runs(refs, max_failed=3)).failures, list[WorkflowRunFailed])
        async for event in refs[0].stream():
            assert_type(event, StepRunEvent)

    @hatchet.step()
    async def model(self, context: Context) -> Output:
        return Output(n=1)

    @hatchet.step()
    def point(self, context: Context) -> Point:
        return Point(x=1)

    @hatchet.on_failure_step(retries=1)
    def failed(self, context: Context) -> None:
        assert_type(context.step_run_errors(), dict[str, str])


assert_type(Right(), Right)  # the decorators keep what they decorate
assert_type(Right().sync(Any), dict[str, int])  # type: ignore[arg-type]


class Wrong:
    @hatchet.step(timeout=5)  # type: ignore[arg-type]
    def number_for_a_duration(self, context: Context) -> None: ...

    @hatchet.step(retry=3)  # type: ignore[arg-type]
    def no_such_option(self, context: Context) -> None: ...

    @hatchet.step()  # type: ignore[type-var]
    def returns_a_number(self, context: Context) -> int:
        return 1

    @hatchet.step()  # type: ignore[type-var]
    async def returns_a_list(self, context: Context) -> list[str]:
        return []

    @hatchet.step()  # type: ignore[type-var]
    def takes_no_context(self) -> None: ...

    @hatchet.step()  # type: ignore[type-var]
    def wants_something_else(self, context: int) -> None: ...

    @hatchet.step  # type: ignore[arg-type]
    def forgot_the_parentheses(self, context: Context) -> None: ...  # type: ignore[misc]


hatchet.workflow()(Wrong().returns_a_number)  # type: ignore[type-var]
Hatchet(config="localhost:7070")  # type: ignore[arg-type]
ClientConfig(tls_strategy="ssl")  # type: ignore[arg-type]
ClientConfig("localhost:7070")  # type: ignore[call-arg]

worker = hatchet.worker("w", max_runs=40, labels={"zone": "a", "cores": 4})
assert_type(worker, Worker)
worker.register_workflow(Right())
hatchet.worker()  # type: ignore[call-arg]
hatchet.worker("w", max_runs="40")  # type: ignore[arg-type]
hatchet.worker("w", labels={"zone": 1.5})  # type: ignore[dict-item]

assert_type(hatchet.admin.run_workflow("W", {"a": [1]}), WorkflowRunRef)
assert_type(hatchet.admin.get_workflow_run("id"), WorkflowRunRef)
hatchet.admin.run_workflow("W")  # type: ignore[call-overload]
hatchet.admin.run_workflow("W", [1])  # type: ignore[call-overload]
hatchet.admin.run_workflow("W", {}, options={"request_id": 7})  # type: ignore[call-overload]
hatchet.admin.run_workflow("W", {}, options={"requestid": "7"})  # type: ignore[call-overload]

assert_type(hatchet.runs.list(RunFilter(phases=["Failed"])), RunPage)
assert_type(hatchet.runs.bulk_cancel(["id"]), list[RunActResult])
hatchet.runs.list(RunFilter(phases=["Broken"]))  # type: ignore[list-item]
hatchet.runs.cancel(["id"])  # type: ignore[arg-type]
hatchet.runs.replay("id", True)  # type: ignore[call-arg]


async def calls(context: Context) -> None:
    context.spawn_workflow("Child", "text")  # type: ignore[call-overload]
    context.spawn_workflow("Child", {}, key=7)  # type: ignore[call-overload]
    context.spawn_workflow("Child", {}, options={"on_failed": "again"})  # type: ignore[call-overload]
    context.spawn_workflow("Child", {}, options={"sticky": True})
    context.spawn_workflow("Child", {}, options={"sticky": "yes"})  # type: ignore[call-overload]
    context.spawn_workflows([{"input": {}}])  # type: ignore[typeddict-item]
    context.spawn_workflows([{"workflow_name": "Child", "ky": "k"}])  # type: ignore[typeddict-unknown-key]
    await context.spawn_workflow("Child", {})  # type: ignore[misc]
    context.aio.spawn_workflow("Child", {}).result()  # type: ignore[attr-defined]
    ref = await context.aio.spawn_workflow("Child", {})
    ref.sync_result("5s")  # type: ignore[arg-type]
    context.retry_count = 5  # type: ignore[method-assign, assignment]
    context.exit_flag = True  # type: ignore[misc]


class PageInput(BaseModel):
    text: str


class PageResult(BaseModel):
    words: Output


@hatchet.workflow()
class Page(Workflow[PageInput, PageResult]):
    @hatchet.step()
    def words(self, context: Context) -> Output:
        return Output(n=len(context.workflow_input(PageInput).text))


class AskedFor(TypedDict):
    n: int


@hatchet.workflow()
class Plain(Workflow[AskedFor, dict[str, AskedFor]]):
    @hatchet.step()
    def work(self, context: Context) -> AskedFor:
        return {"n": 1}


@hatchet.workflow()
class OfInput(Workflow[PageInput]):
    @hatchet.step()
    def work(self, context: Context) -> None: ...


async def typed_calls(context: Context, server: LocalServer) -> None:
    ref = await context.aio.spawn_workflow(Page, PageInput(text="a"), key="a")
    assert_type(ref, WorkflowRunRef[PageResult])
    assert_type((await ref.result()).words.n, int)
    assert_type(context.spawn_workflow(Page, PageInput(text="a")).sync_result(5), PageResult)
    assert_type(await gather_runs([ref]), GatheredRuns[PageResult])
    assert_type(await (await context.aio.spawn_workflow(Plain, AskedFor(n=1))).result(), dict[str, AskedFor])
    assert_type(await (await context.aio.spawn_workflow(OfInput, PageInput(text="a"))).result(), RunResult)
    assert_type(await (await context.aio.spawn_workflow("Page", {"text": "a"})).result(), RunResult)
    assert_type(hatchet.admin.run_workflow(Page, PageInput(text="a")), WorkflowRunRef[PageResult])
    assert_type(server.run(Page, PageInput(text="a")), PageResult)
    context.spawn_workflows([{"workflow_name": Page, "input": PageInput(text="a")}])
    context.spawn_workflow(Page, {"text": "a"})  # type: ignore[misc]
    context.spawn_workflow(Page)  # type: ignore[call-overload]
    context.spawn_workflow(Page, Output(n=1))  # type: ignore[misc]
    context.spawn_workflow(Right, {})  # type: ignore[arg-type]
    await context.aio.spawn_workflow(Plain, PageInput(text="a"))  # type: ignore[misc]
