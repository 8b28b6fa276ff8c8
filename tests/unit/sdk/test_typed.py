"""Workflows named by their class, with what they take and return; what type checkers see is in tests/typing."""

import asyncio
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from hatchet_sdk import Context, Hatchet, InvalidDefinition, InvalidInput, Workflow, WorkflowNotFound, gather_runs
from hatchet_sdk._client.typed import input_model, result_model
from hatchet_sdk._runner.definition import definition_of
from hatchet_sdk.testing import FakeContext

hatchet = Hatchet()
T = TypeVar("T")


class PageInput(BaseModel):
    text: str


class Words(BaseModel):
    count: int


class PageResult(BaseModel):
    words: Words


@hatchet.workflow(name="Page of a book")
class Page(Workflow[PageInput, PageResult]):
    @hatchet.step()
    def words(self, context: Context) -> Words:
        return Words(count=len(context.workflow_input(PageInput).text.split()))


@hatchet.workflow()
class Plain:
    @hatchet.step()
    def work(self, context: Context) -> None: ...


def spawn(context: Context, *arguments: Any, **options: Any) -> Any:
    return context.spawn_workflow(*arguments, **options)


def test_a_class_stands_for_its_name() -> None:
    context = FakeContext()
    spawn(context, Page, PageInput(text="a b"), key="1")
    spawn(context, Plain, {})
    context.spawn_workflows([{"workflow_name": Page, "input": {"text": "c"}}])
    assert [(child.workflow_name, child.input) for child in context.spawned] == [
        ("Page of a book", {"text": "a b"}),
        ("Plain", {}),
        ("Page of a book", {"text": "c"}),
    ]


def test_the_result_is_the_model_that_the_class_says() -> None:
    context = FakeContext()
    context.answer(Page, {"words": {"count": 2}})
    ref = context.spawn_workflow(Page, PageInput(text="a b"))
    assert ref.sync_result() == PageResult(words=Words(count=2))
    assert asyncio.run(ref.result()) == PageResult(words=Words(count=2))
    assert asyncio.run(gather_runs([ref])).results == [PageResult(words=Words(count=2))]


def test_an_instance_stands_for_nothing() -> None:
    with pytest.raises(TypeError, match=r"an instance of Page \(expected the class: Page, without parentheses\)"):
        spawn(FakeContext(), Page(), {"text": "a"})


def test_a_name_has_plain_results() -> None:
    context = FakeContext()
    context.answer(Page, {"words": {"count": 2}})
    assert context.spawn_workflow("Page of a book", {"text": "a"}).sync_result() == {"words": {"count": 2}}


def test_a_result_that_is_none_says_of_which_run() -> None:
    context = FakeContext()
    context.answer(Page, {"words": {"cuont": 2}})
    ref = context.spawn_workflow(Page, PageInput(text="a b"))
    with pytest.raises(InvalidInput, match=f"the result of run {ref.workflow_run_id} is no PageResult"):
        ref.sync_result()


def test_a_class_is_refused_and_fails_as_its_name_would() -> None:
    context = FakeContext()
    context.refuse(Page, WorkflowNotFound("nobody registered it"))
    with pytest.raises(WorkflowNotFound):
        context.spawn_workflow(Page, PageInput(text="a"))


def test_the_input_s_model_validates_it() -> None:
    assert definition_of(Page()).input_validator is PageInput
    assert definition_of(Plain()).input_validator is None


def test_what_validates_nothing_is_for_type_checkers_alone() -> None:
    class OfDicts(Workflow[dict[str, int], dict[str, Any]]): ...

    class OfInput(Workflow[PageInput]): ...

    class Derived(Page): ...

    class Common(Workflow[T, PageResult]): ...

    class OfCommon(Common[PageInput]): ...

    class Mixin: ...

    class OfBoth(Mixin, OfCommon): ...

    assert (input_model(OfCommon), result_model(OfCommon)) == (PageInput, PageResult)
    assert (input_model(OfBoth), result_model(OfBoth)) == (PageInput, PageResult)
    assert input_model(OfDicts) is None
    assert input_model(OfInput) is PageInput
    with pytest.raises(TypeError, match="is the class Derived"):  # it has no definition of its own
        spawn(FakeContext(), Derived, {})


def test_a_model_that_is_only_named_is_refused_as_nothing_would_be_validated() -> None:
    class ByName(Workflow[PageInput, "PageResult"]):
        @hatchet.step()
        def words(self, context: Context) -> None: ...

    with pytest.raises(InvalidDefinition, match='class ByName: its base Workflow has the text "PageResult"'):
        hatchet.workflow()(ByName)
