"""Replays: what they keep, what becomes of children, in which order, and that a tree gets through in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import LiveAttempt, ObservedRun, Outcome, ParentState, Report
from hatchet_operator.decisions.replays import asks_for, request_for, was_asked
from hatchet_operator.decisions.run_rules import plan_run
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.reasons import Phase, Reason, ReplayFrom
from hatchet_operator.resources.run import (
    ChildCounts,
    ParentRef,
    Replay,
    RunSpec,
    RunStatus,
    StepStatus,
    WorkflowRun,
)
from tests.unit.operator.decisions.builders import (
    NOW,
    POLICY,
    ago,
    failed,
    later,
    make_graph,
    make_observed_run,
    make_run,
    make_step,
    make_step_status,
    names,
    succeeded,
)

CHAIN = make_graph(make_step("a"), make_step("b", parents=("a",)), make_step("c", parents=("b",)))
SKIPPED = make_step_status(Phase.CANCELLED, reason=Reason.PREVIOUS_STEP_FAILED)
SOME = ChildCounts(total=2, succeeded=1, failed=1, summary="2/2")


def replay(number: int = 1, origin: str = "Failed", **more: Any) -> dict[str, Any]:
    return {"number": number, "from": origin, **more}


def begun(seen: ObservedRun) -> RunStatus:
    plan = plan_run(seen, NOW)
    assert plan.status is not None
    assert plan.wanted == ()
    return plan.status


def wanted_after(seen: ObservedRun, status: RunStatus) -> list[str]:
    """Return the steps that are wanted once a status was written."""
    run = seen.run.model_copy(update={"status": status})
    return names(plan_run(ObservedRun(run=run, graph=seen.graph, policy=POLICY), later(1)).wanted)


# --- What is kept


@pytest.mark.parametrize(
    ("steps", "want"),
    [
        pytest.param({"a": failed(), "b": SKIPPED, "c": SKIPPED}, ["a"], id="the first step failed"),
        pytest.param({"a": succeeded("1"), "b": failed(), "c": SKIPPED}, ["b"], id="the second step failed"),
        pytest.param({"a": succeeded("1"), "b": succeeded("2"), "c": failed(Reason.TIMED_OUT)}, ["c"], id="the last"),
        pytest.param({}, ["a"], id="none had begun"),
        pytest.param(
            {"a": succeeded("1"), "b": make_step_status(Phase.CANCELLED, reason=Reason.CANCELLED_BY_STEP)},
            ["b"],
            id="a step cancelled itself",
        ),
    ],
)
def test_a_replay_from_what_failed_keeps_what_succeeded(steps: dict[str, StepStatus], want: list[str]) -> None:
    seen = make_observed_run(phase=Phase.FAILED, graph=CHAIN, steps=steps, replay=replay())
    status = begun(seen)
    kept = {name: state for name, state in steps.items() if state.phase is Phase.SUCCEEDED}
    assert (status.phase, status.reruns, dict(status.steps)) == (Phase.PENDING, 1, kept)
    assert (status.started_at, status.finished_at, status.message, status.definition) == (None,) * 4
    assert wanted_after(seen, status) == want


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_replay_from_the_start_keeps_nothing(phase: Phase) -> None:
    seen = make_observed_run(
        phase=phase, graph=CHAIN, steps={"a": succeeded(), "b": failed()}, replay=replay(origin="Start")
    )
    status = begun(seen)
    assert (status.phase, dict(status.steps)) == (Phase.PENDING, {})
    assert wanted_after(seen, status) == ["a"]


def test_a_replay_of_what_failed_has_nothing_to_do_in_a_run_that_succeeded() -> None:
    seen = make_observed_run(phase=Phase.SUCCEEDED, steps={"work": succeeded()}, replay=replay(2))
    assert begun(seen) == seen.run.status.model_copy(update={"reruns": 2, "observed_generation": 1})


def test_the_on_failure_step_is_not_kept() -> None:
    graph = make_graph(make_step("a"), on_failure=make_step("tidy"))
    steps = {"a": failed(), "tidy": succeeded()}
    assert begun(make_observed_run(phase=Phase.FAILED, graph=graph, steps=steps, replay=replay())).steps == {}


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"reruns": 1}, {}, id="a rerun runs all steps"),
        pytest.param({"reruns": 1, "replay": replay(1)}, {}, id="the same number twice: the rerun counts"),
        pytest.param({"reruns": 2, "replay": replay(1)}, {}, id="a later rerun is none that replays"),
        pytest.param({"reruns": 1, "replay": replay(2)}, {"a"}, id="a later replay counts"),
    ],
)
def test_the_higher_number_says_how_it_goes(spec: dict[str, Any], want: set[str]) -> None:
    steps = {"a": succeeded(), "b": failed()}
    status = begun(make_observed_run(phase=Phase.FAILED, graph=CHAIN, steps=steps, **spec))
    assert set(status.steps) == set(want)
    assert status.reruns == max(spec.get("reruns", 0), spec.get("replay", {}).get("number", 0))


def test_a_replay_that_is_asked_for_while_the_run_goes_on_waits_for_its_end() -> None:
    seen = make_observed_run(phase=Phase.RUNNING, status={"started_at": ago(1)}, replay=replay())
    plan = plan_run(seen, NOW)
    assert plan.status is None or plan.status.reruns == 0
    assert names(plan.wanted) == ["work"]


def test_a_replayed_run_waits_for_its_workflow_from_then_on_and_loses_nothing() -> None:
    old = make_observed_run(
        phase=Phase.FAILED,
        graph=CHAIN,
        steps={"a": succeeded("1"), "b": failed()},
        age=timedelta(days=3),
        replay=replay(),
    )
    status = begun(old)

    def seen(status: RunStatus) -> ObservedRun:
        return ObservedRun(run=old.run.model_copy(update={"status": status}), graph=None, policy=POLICY)

    missing = plan_run(seen(status), later(1)).status
    assert missing is not None
    assert (missing.phase, missing.reason) == (Phase.PENDING, Reason.WORKFLOW_MISSING)
    gone = plan_run(seen(missing), later(301)).status
    assert gone is not None
    assert (gone.phase, dict(gone.steps)) == (Phase.FAILED, {"a": succeeded("1")})


# --- Children first


@pytest.mark.parametrize("origin", ["Failed", "Start"])
def test_the_steps_wait_for_what_becomes_of_the_children(origin: str) -> None:
    seen = make_observed_run(phase=Phase.FAILED, steps={"work": failed()}, children=SOME, replay=replay(origin=origin))
    status = begun(seen)
    assert (status.children_first, status.reason) == (ReplayFrom(origin), Reason.REPLAYING_CHILDREN)

    def look(status: RunStatus, *, ready: bool) -> Any:
        run = seen.run.model_copy(update={"status": status})
        return plan_run(
            ObservedRun(run=run, graph=seen.graph, policy=POLICY, children=SOME, children_are_ready=ready), later(1)
        )

    waiting = look(status, ready=False)
    assert (waiting.status, waiting.wanted) == (None, ())
    done = look(status, ready=True).status
    assert (done.children_first, done.reason) == (None, None)
    assert names(look(done, ready=False).wanted) == ["work"]


def make_child(phase: Phase = Phase.FAILED, *, step: str = "b", replayed: bool = False, **changes: Any) -> WorkflowRun:
    metadata = ObjectMeta(name="child", namespace="default", uid="child-uid", resource_version="7")
    spec: dict[str, Any] = {"workflow": "etl", "parent": ParentRef(name="etl-7", uid="run-uid", step=step, index=0)}
    if replayed:
        spec["replay"] = replay(1, requestedBy="run-uid/1")
    status = RunStatus(phase=phase, reruns=changes.pop("reruns", 0))
    return WorkflowRun(metadata=metadata, spec=RunSpec.model_validate(spec | changes), status=status)


PARENT = make_run(status=RunStatus(reruns=1, steps={"a": succeeded()}, children_first=ReplayFrom.FAILED))


@pytest.mark.parametrize(
    ("child", "want"),
    [
        pytest.param(make_child(), True, id="it failed, and so did the step that spawned it"),
        pytest.param(make_child(Phase.CANCELLED), True, id="it was cancelled by something else than a person"),
        pytest.param(make_child(Phase.SUCCEEDED), False, id="it succeeded"),
        pytest.param(make_child(Phase.RUNNING), False, id="it goes on"),
        pytest.param(make_child(step="a"), False, id="the step that spawned it dealt with its failure"),
        pytest.param(make_child(step="tidy"), False, id="it is one of the on-failure step"),
        pytest.param(make_child(Phase.CANCELLED, cancelled=True), False, id="a person cancelled it"),
        pytest.param(make_child(cancelled=True), False, id="it failed, and a person cancelled it"),
    ],
)
def test_which_children_are_run_again(child: WorkflowRun, want: bool) -> None:
    assert asks_for(child, PARENT, on_failure="tidy") is want


def test_a_child_of_another_run_is_not() -> None:
    other = PARENT.model_copy(update={"metadata": ObjectMeta(name="etl-7", namespace="default", uid="another")})
    assert not asks_for(make_child(), other, on_failure=None)


def test_what_a_child_is_asked() -> None:
    assert request_for(make_child(reruns=3), PARENT) == {
        "metadata": {"uid": "child-uid", "resourceVersion": "7"},
        "spec": {"replay": {"number": 4, "from": "Failed", "requestedBy": "run-uid/1"}},
    }


def test_a_child_is_asked_once_for_each_replay() -> None:
    child = make_child(replayed=True)
    assert was_asked(child, PARENT)
    assert not was_asked(child, PARENT.model_copy(update={"status": RunStatus(reruns=2)}))
    assert not was_asked(make_child(), PARENT)


# --- A tree


@dataclass
class Node:
    """A run of a tree: its steps one after the other, each with the children that it spawns and awaits."""

    failures: list[int]  # by step: how often it fails, whatever its children do
    children: list[list[Node]]  # by step

    @property
    def graph(self) -> Graph:
        steps = range(len(self.failures))
        return make_graph(*(make_step(f"s{n}", parents=(f"s{n - 1}",) if n else ()) for n in steps))


def nodes(depth: int) -> st.SearchStrategy[Node]:
    below = st.lists(nodes(depth - 1), max_size=3) if depth else st.just([])

    @st.composite
    def make(draw: st.DrawFn) -> Node:
        count = draw(st.integers(1, 2))
        return Node([draw(st.integers(0, 2)) for _ in range(count)], [draw(below) for _ in range(count)])

    return make()


@dataclass
class Tree:
    """The engine around the decisions: every object, what is out, and what was executed.

    It looks at its runs in any order. An operator that crashes forgets what it has asked for, but not what it wrote:
    nothing of this class is a memory of replays.
    """

    draw: Any
    now: datetime = NOW
    nodes: dict[str, Node] = field(default_factory=dict)
    runs: dict[str, WorkflowRun] = field(default_factory=dict)
    live: dict[str, dict[str, LiveAttempt]] = field(default_factory=dict)
    reports: dict[str, dict[str, Report]] = field(default_factory=dict)
    done: list[tuple[str, str, bool]] = field(default_factory=list)

    def create(self, name: str, node: Node, parent: ParentRef | None = None) -> None:
        metadata = ObjectMeta(name=name, namespace="default", uid=name, resource_version="1", creation_timestamp=NOW)
        self.nodes[name] = node
        self.runs[name] = WorkflowRun(metadata=metadata, spec=RunSpec(workflow="etl", parent=parent))
        self.live[name], self.reports[name] = {}, {}

    def children_of(self, name: str, step: str | None = None) -> list[WorkflowRun]:
        spawned = [run for run in self.runs.values() if run.spec.parent and run.spec.parent.uid == name]
        return [run for run in spawned if step is None or (run.spec.parent and run.spec.parent.step == step)]

    @staticmethod
    def is_final(run: WorkflowRun) -> bool:
        return run.status.phase.is_final and run.spec.reruns_wanted <= run.status.reruns

    def until_over(self, name: str) -> Phase:
        for _ in range(2000):
            if all(self.is_final(run) for run in self.runs.values()):
                return self.runs[name].status.phase
            self.now += timedelta(seconds=1)
            for each in self.draw(st.permutations(sorted(self.runs))):
                self.reconcile(each)
                self.work(each)
        raise AssertionError("the tree never ends")

    def ready(self, name: str) -> bool:
        """Ask at most one child, as an operator does that is killed after it."""
        parent = self.runs[name]
        if parent.status.children_first is None:
            return False
        for child in self.children_of(name):
            if self.is_final(child) and not was_asked(child, parent) and asks_for(child, parent, on_failure=None):
                self.change_spec(child.metadata.name, replay=request_for(child, parent)["spec"]["replay"])
                return False
        return all(self.is_final(child) for child in self.children_of(name) if was_asked(child, parent))

    def change_spec(self, name: str, **changes: Any) -> None:
        run = self.runs[name]
        changes["replay"] = Replay.model_validate(changes["replay"])
        self.runs[name] = run.model_copy(update={"spec": run.spec.model_copy(update=changes)})

    def reconcile(self, name: str) -> None:
        run, node = self.runs[name], self.nodes[name]
        parent = self.runs[run.spec.parent.uid] if run.spec.parent else None
        children = self.children_of(name)
        final = parent is not None and self.is_final(parent)
        seen = ObservedRun(
            run=run,
            graph=node.graph,
            policy=POLICY,
            parent=ParentState(cancelled=False, closed=final) if parent else None,
            live=self.live[name],
            reports=self.reports[name],
            children=ChildCounts(total=len(children), summary=f"?/{len(children)}") if children else None,
            children_are_ready=self.ready(name),
        )
        plan = plan_run(seen, self.now)
        if plan.status is not None:
            self.runs[name] = run.model_copy(update={"status": RunStatus.model_validate(plan.status.to_wire())})
            states = plan.status.steps
            over = [step for step in self.reports[name] if step in states and states[step].phase.is_final]
            for step in over:
                del self.reports[name][step]
                self.live[name].pop(step, None)
            return
        for attempt in plan.wanted:
            if attempt.step.name not in self.live[name]:
                self.begin(name, attempt.step.name, attempt.id)

    def begin(self, name: str, step: str, identity: str) -> None:
        run = self.runs[name]
        for child in self.children_of(name, step):
            asked = was_asked(child, run) or child.status.phase is Phase.SUCCEEDED
            assert run.status.reruns
            assert asked, f"{name}/{step} began before what failed below it was run again"
            assert self.is_final(child), f"{name}/{step} began before a child had ended"
        self.live[name][step] = LiveAttempt(
            id=identity, worker="w", started_at=self.now, deadline=self.now + timedelta(days=1)
        )

    def work(self, name: str) -> None:
        """What the functions do: spawn, await, and fail as often as they are to."""
        for step, attempt in self.live[name].items():
            if step in self.reports[name]:
                continue
            number, node = int(step[1:]), self.nodes[name]
            for key, child in enumerate(node.children[number]):
                spawned = f"{name}.{step}.{key}"
                if spawned not in self.runs:
                    self.create(spawned, child, ParentRef(name=name, uid=name, step=step, key=str(key), index=key))
            below = self.children_of(name, step)
            if not all(self.is_final(child) for child in below):
                continue
            is_well = all(child.status.phase is Phase.SUCCEEDED for child in below)
            if is_well and node.failures[number]:
                node.failures[number] -= 1
                is_well = False
            outcome = Outcome.COMPLETED if is_well else Outcome.FAILED
            output = f'"{name}/{step}"' if is_well else None
            self.reports[name][step] = Report(attempt_id=attempt.id, outcome=outcome, at=self.now, output=output)
            self.done.append((name, step, is_well))


@settings(max_examples=25, deadline=None)
@given(root=nodes(2), data=st.data())
def test_a_tree_is_replayed_until_it_succeeds_and_each_step_succeeds_once(root: Node, data: st.DataObject) -> None:
    tree = Tree(draw=data.draw)
    tree.create("root", root)
    replays = 0
    while tree.until_over("root") is not Phase.SUCCEEDED:
        failed_before = {(run, step) for run, step, is_well in tree.done if not is_well}
        assert failed_before
        known = set(tree.runs)
        replays += 1
        assert replays < 100
        tree.change_spec("root", replay={"number": replays, "from": "Failed"})
        assert known <= set(tree.runs)
    succeeded_steps = [(run, step) for run, step, is_well in tree.done if is_well]
    assert len(succeeded_steps) == len(set(succeeded_steps)), "a step that had succeeded ran again"
    for name, run in tree.runs.items():
        assert run.status.phase is Phase.SUCCEEDED
        assert set(run.status.steps) == {step.name for step in tree.nodes[name].graph.steps}
        for step, state in run.status.steps.items():
            assert state.output == f'"{name}/{step}"', "an output was lost"
            assert (name, step) in succeeded_steps
