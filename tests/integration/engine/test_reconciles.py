"""How often a run is decided about: what a child's end costs the operator beside its writes."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.observed import ObservedRun, Outcome, RunPlan
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources import labels
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.engine.world import (
    MAIN,
    NAMESPACE,
    child_trigger,
    connect,
    make_run,
    next_attempt,
    observed,
    started,
    until,
)


async def test_a_childs_end_costs_one_decision_about_the_child_and_none_about_its_parent(
    server: ApiServer, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing is told by the clock
    never = timedelta(hours=1)
    async with started(server, running_after=never, children_every=never, waiting_told_after=never) as engine:
        _, stream = await connect(engine, "etl")
        await api.create(RUNS, NAMESPACE, make_run("parent"))
        parent = await next_attempt(stream)
        child = await engine.spawning.trigger(child_trigger(parent, "parent", workflow="etl"))
        attempt = await next_attempt(stream)
        record, above = await observed(engine, child), await observed(engine, "parent")
        await until(lambda: labels.ROOT in above.run.metadata.labels)
        decided: Counter[str] = Counter()

        def decide(seen: ObservedRun, now: datetime) -> RunPlan:
            decided[seen.run.metadata.name] += 1
            return plan_run(seen, now)

        monkeypatch.setattr("hatchet_operator.engine.runs.reconciler.plan_run", decide)
        await engine.report(MAIN, attempt, Outcome.COMPLETED, payload="{}")
        await until(lambda: record.is_final)
        await api.create(RUNS, NAMESPACE, make_run("later", workflow="unknown"))
        await observed(engine, "later")  # the watch has brought once more what our own writes told
        assert {name: decided[name] for name in (child, "parent")} == {child: 1, "parent": 0}, (
            "counts decide nothing before they may be written"
        )
