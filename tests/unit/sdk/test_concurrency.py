"""Limits of runs at a time, from the decorator to the wire."""

from __future__ import annotations

from typing import Any

import pytest

from hatchet_sdk import ConcurrencyExpression, ConcurrencyLimitStrategy, Context, Hatchet, InvalidDefinition
from hatchet_sdk._runner.definition import definition_of
from hatchet_sdk._runner.registration import put_workflow_request

hatchet = Hatchet()


def registered(concurrency: Any) -> Any:
    @hatchet.workflow(name="Etl", concurrency=concurrency)
    class Etl:
        @hatchet.step()
        def work(self, context: Context) -> None: ...

    return put_workflow_request(definition_of(Etl()), prefix="").opts


def test_one_limit_travels_as_hatchets_does() -> None:
    limit = ConcurrencyExpression("input.user", 3, ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN)
    opts = registered(limit)
    assert (opts.concurrency.expression, opts.concurrency.max_runs, opts.concurrency.limit_strategy) == (
        "input.user",
        3,
        3,
    )
    assert not opts.more_concurrency


def test_several_limits_travel_too() -> None:
    opts = registered([ConcurrencyExpression("input.user"), ConcurrencyExpression("'all'", max_runs=9)])
    assert [opts.concurrency.expression, *(each.expression for each in opts.more_concurrency)] == [
        "input.user",
        "'all'",
    ]


def test_without_limits_nothing_is_said() -> None:
    assert not registered(None).HasField("concurrency")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param("input.user", "expected a ConcurrencyExpression", id="a text"),
        pytest.param(ConcurrencyExpression(""), 'expected CEL, as in "input.user"', id="an empty expression"),
        pytest.param(ConcurrencyExpression("input.user", 0), "max_runs=0 .expected a whole number", id="none at all"),
        pytest.param(
            ConcurrencyExpression("input.user", 1, 3),  # type: ignore[arg-type]  # as somebody may write it
            "expected a ConcurrencyLimitStrategy",
            id="a number for a strategy",
        ),
        pytest.param([ConcurrencyExpression("input.user")] * 9, "has 9 limits", id="too many"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(wrong: Any, words: str) -> None:
    with pytest.raises(InvalidDefinition, match=f'workflow "Etl": concurrency .*{words}'):
        registered(wrong)


def test_a_method_names_the_group() -> None:
    @hatchet.workflow(name="Etl", concurrency=ConcurrencyExpression("input.user"))
    class Etl:
        @hatchet.concurrency(max_runs=3, limit_strategy=ConcurrencyLimitStrategy.QUEUE_NEWEST)
        def group(self, context: Context) -> str:
            return "one"

        @hatchet.step()
        def work(self, context: Context) -> None: ...

    definition = definition_of(Etl())
    opts = put_workflow_request(definition, prefix="").opts
    first, second = opts.concurrency, opts.more_concurrency[0]
    assert (first.action, first.expression, first.max_runs) == ("etl:group-key", "", 3)
    assert (second.action, second.expression) == ("", "input.user")
    assert [step.readable_id for job in opts.jobs for step in job.steps] == ["work"], "it is no step of the graph"
    assert [step.name for step in definition.all_steps] == ["work", "group-key"], "and offered as one"


def test_more_than_one_method_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="has 2 methods that name its concurrency group"):

        @hatchet.workflow(name="Etl")
        class Etl:
            @hatchet.concurrency()
            def one(self, context: Context) -> str:
                return "one"

            @hatchet.concurrency()
            def two(self, context: Context) -> str:
                return "two"

            @hatchet.step()
            def work(self, context: Context) -> None: ...


def test_a_limit_of_a_method_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match='method "group": concurrency has max_runs=0'):

        @hatchet.workflow(name="Etl")
        class Etl:
            @hatchet.concurrency(max_runs=0)
            def group(self, context: Context) -> str:
                return "one"

            @hatchet.step()
            def work(self, context: Context) -> None: ...
