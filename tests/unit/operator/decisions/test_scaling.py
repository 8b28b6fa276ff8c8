"""How many pods a pool gets, and which of them go."""

from dataclasses import replace
from datetime import timedelta
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.pool_status import pool_status
from hatchet_operator.decisions.scaling import Demand, PodView, PoolPlan, plan_pool
from hatchet_operator.decisions.waiting import NO_LOAD
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.resources.workerpool import PodTemplate, PoolSpec, WorkerPool
from tests.unit.operator.decisions.builders import NOW

LONG = timedelta(hours=1)
NO_IMAGE = "ErrImagePull: no such image"


def make_pool(**spec: Any) -> WorkerPool:
    template = PodTemplate(spec={"containers": [{"name": "worker"}]})
    return WorkerPool(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=PoolSpec(template=template, **spec))


def idle(name: str, **given: Any) -> PodView:
    return PodView(name=name, connected=True, idle_for=given.pop("idle_for", timedelta()), **given)


def busy(name: str, attempts: int = 1, **given: Any) -> PodView:
    return PodView(name=name, connected=True, attempts=attempts, occupied=attempts, **given)


def starting(name: str, **given: Any) -> PodView:
    return PodView(name=name, **given)


def old(name: str, **given: Any) -> PodView:
    """One of an older template that is not connected."""
    return PodView(name=name, current=False, **given)


def away(name: str, **given: Any) -> PodView:
    """One whose worker is registered, but has no stream just now."""
    return PodView(name=name, idle_for=timedelta(), **given)


def ended(name: str, **given: Any) -> PodView:
    return PodView(name=name, **{"ended_for": timedelta(), **given})


def plan(pods: list[PodView], *, queued: int = 0, slots: int = 10, **spec: Any) -> PoolPlan:
    return plan_pool(make_pool(**spec), pods, Demand(queued=queued, slots_per_pod=slots))


@pytest.mark.parametrize(
    ("pods", "queued", "spec", "want"),
    [
        pytest.param([], 0, {}, 1, id="an idle pool keeps its minimum"),
        pytest.param([], 0, {"min_replicas": 0, "max_replicas": 3}, 0, id="an idle pool may be empty"),
        pytest.param(
            [], 1, {"min_replicas": 0, "max_replicas": 3}, 1, id="the first queued attempt wakes an empty pool"
        ),
        pytest.param([], 25, {"min_replicas": 0, "max_replicas": 5}, 3, id="as many pods as the queue fills"),
        pytest.param([], 250, {"min_replicas": 0, "max_replicas": 5}, 5, id="never more than the maximum"),
        pytest.param([busy("a", 10)], 1, {"max_replicas": 5}, 1, id="running work counts too"),
        pytest.param([starting("a")], 5, {"max_replicas": 5}, 0, id="a pod that is starting is not made twice"),
        pytest.param([ended("a", lived=LONG)], 0, {}, 1, id="a pod that ended is replaced"),
        pytest.param([starting("a", deleting=True)], 0, {}, 1, id="a pod that is going is replaced"),
        pytest.param([], 5, {"min_replicas": 2}, 2, id="without a maximum the minimum is it"),
        pytest.param([], 0, {"min_replicas": 8, "max_replicas": 3}, 3, id="scaled above the maximum, the maximum"),
        pytest.param([], 9, {"min_replicas": 8, "max_replicas": 0}, 0, id="none where none may be, however scaled"),
    ],
)
def test_pods_that_are_made(pods: list[PodView], queued: int, spec: dict[str, Any], want: int) -> None:
    assert plan(pods, queued=queued, **spec).create == want


SCALED = {"min_replicas": 0, "max_replicas": 3}


@pytest.mark.parametrize(
    ("pods", "spec", "want"),
    [
        pytest.param([idle("a", idle_for=LONG)], SCALED, ("a",), id="a pod that was idle for long goes"),
        pytest.param([idle("a")], SCALED, (), id="a pod that was idle for a moment stays"),
        pytest.param([away("a")], SCALED, (), id="a pod whose worker will be back may have work still"),
        pytest.param([idle("a", idle_for=LONG)], {}, (), id="the minimum stays however idle"),
        pytest.param([busy("a"), idle("b", idle_for=LONG)], SCALED, ("b",), id="the idle one goes, not the busy one"),
        pytest.param([starting("a"), busy("b")], SCALED, ("a",), id="one that is not needed before it started goes"),
        pytest.param(
            [busy("a"), busy("b", 3)], {"min_replicas": 1}, ("a",), id="beyond the maximum the least busy one drains"
        ),
        pytest.param(
            [busy("a"), busy("b", 3)],
            {"min_replicas": 2, "max_replicas": 1},
            ("a",),
            id="beyond the maximum one drains though it is scaled higher",
        ),
        pytest.param(
            [PodView(name="a", connected=True, attempts=2), busy("b")],
            SCALED,
            (),
            id="a pod whose steps await children is not idle",
        ),
    ],
)
def test_pods_that_are_drained(pods: list[PodView], spec: dict[str, Any], want: tuple[str, ...]) -> None:
    assert plan(pods, **spec).drain == want


def test_a_drained_pod_with_work_is_deleted_when_it_has_none() -> None:
    second = timedelta(seconds=1)
    assert plan([busy("a", draining_for=second), idle("b")]).delete == ()
    assert plan([idle("a", draining_for=second), idle("b")]).delete == ("a",)


def test_a_drained_pod_is_deleted_when_its_time_is_over() -> None:
    late = busy("a", draining_for=timedelta(minutes=6))
    assert plan([late, idle("b")]).delete == ("a",)


class TestReplacing:
    """A changed template."""

    def test_the_new_pod_is_made_beside_the_old(self) -> None:
        want = plan([busy("old", current=False)])
        assert (want.create, want.drain) == (1, ())

    def test_the_old_pod_stays_while_the_new_one_starts(self) -> None:
        want = plan([busy("old", current=False), starting("new")])
        assert (want.create, want.drain) == (0, ())

    def test_the_old_pod_drains_when_the_new_one_is_connected(self) -> None:
        want = plan([busy("old", current=False), idle("new")])
        assert (want.create, want.drain, want.delete) == (0, ("old",), ())

    def test_an_idle_old_pod_goes_at_once(self) -> None:
        assert plan([idle("old", current=False), idle("new")]).delete == ("old",)

    def test_at_most_a_quarter_more_is_made(self) -> None:
        old = [idle(f"old{n}", current=False) for n in range(8)]
        assert plan(old, min_replicas=8).create == 2

    def test_a_template_that_does_not_start_takes_nothing_away(self) -> None:
        old = [busy(f"old{n}", current=False) for n in range(4)]
        want = plan([*old, starting("new", trouble=NO_IMAGE)], min_replicas=4)
        assert (want.drain, want.delete) == ((), ())

    @pytest.mark.parametrize("replicas", [1, 2, 4, 8])
    def test_one_that_does_not_start_makes_room_for_the_next(self, replicas: int) -> None:
        works = [busy(f"v1-{n}", current=False) for n in range(replicas)]
        fails = [old(f"v2-{n}", trouble=NO_IMAGE) for n in range(max(1, -(-replicas // 4)))]
        gone = tuple(pod.name for pod in fails)
        want = plan([*works, *fails], min_replicas=replicas)
        assert (want.create, want.drain, want.delete) == (0, gone, gone)
        want = plan(works, min_replicas=replicas)
        assert (want.create, want.drain) == (len(fails), ())

    @pytest.mark.parametrize("replicas", [1, 2, 4, 8])
    def test_one_that_does_not_start_goes_when_the_one_before_is_back(self, replicas: int) -> None:
        works = [busy(f"v1-{n}") for n in range(replicas)]
        fails = [old(f"v2-{n}", trouble=NO_IMAGE) for n in range(max(1, -(-replicas // 4)))]
        gone = tuple(pod.name for pod in fails)
        want = plan([*works, *fails], min_replicas=replicas)
        assert (want.create, want.drain, want.delete) == (0, gone, gone)

    @pytest.mark.parametrize(
        ("pods", "want"),
        [
            pytest.param([old("a"), old("b")], ("a",), id="beyond what is desired"),
            pytest.param([old("a"), old("b", trouble=NO_IMAGE)], ("b",), id="first those in trouble"),
            pytest.param([old("a"), starting("b")], (), id="not the one that may come before the new one"),
            pytest.param([old("a"), idle("b")], ("a",), id="all when a new one is connected"),
            pytest.param([away("a", current=False), old("b")], ("b",), id="not one whose worker will be back"),
            pytest.param(
                [away("a", current=False), idle("b")], (), id="not even beside a new one, for what it may have"
            ),
        ],
    )
    def test_of_old_pods_that_are_not_connected_go(self, pods: list[PodView], want: tuple[str, ...]) -> None:
        assert plan(pods).drain == want


class Rollouts:
    """A pool whose template is changed again and again; pods of a template that works connect when they are told to."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.pods: dict[str, PodView] = {}
        self._names = map(str, count())

    @property
    def connected(self) -> int:
        return sum(pod.connected for pod in self.pods.values())

    def change_template(self) -> None:
        self.pods = {name: replace(pod, current=False) for name, pod in self.pods.items()}

    def reconcile(self) -> bool:
        """Do what is planned; return whether there was something to do."""
        made = plan(list(self.pods.values()), min_replicas=self.replicas)
        for name in made.delete:
            del self.pods[name]
        self.pods |= {name: starting(name) for name in islice(self._names, made.create)}
        return bool(made.create or made.delete)

    def connect(self, *names: str) -> None:
        self.pods |= {name: replace(self.pods[name], connected=True, idle_for=timedelta()) for name in names}


@given(st.data(), st.integers(1, 9), st.lists(st.booleans(), max_size=5))
def test_a_template_that_works_replaces_whatever_came_before(
    data: st.DataObject, replicas: int, between: list[bool]
) -> None:
    pool = Rollouts(replicas)
    kept = 0
    for works in (True, *between, True):
        pool.change_template()
        for _ in range(data.draw(st.integers(0, 6), label="rounds before the next template")):
            pool.reconcile()
            assert pool.connected >= kept, "no rollout takes a connected pod away"
            assert len(pool.pods) <= replicas + max(1, -(-replicas // 4))
            new = [name for name, pod in pool.pods.items() if pod.current and works]
            pool.connect(*(name for name in new if data.draw(st.booleans(), label=f"pod {name} connects")))
            kept = min(pool.connected, replicas)
    is_moving = True
    while is_moving:
        pool.connect(*(name for name, pod in pool.pods.items() if pod.current))
        is_moving = pool.reconcile()
        assert pool.connected >= kept
    assert [(pod.current, pod.connected) for pod in pool.pods.values()] == [(True, True)] * replicas


class TestEndingAtOnce:
    """Pods that end by themselves, again and again."""

    @pytest.mark.parametrize(
        ("number", "want"),
        [(0, 1), (1, 2), (2, 4), (8, 256), (9, 300), (10_000, 300)],
    )
    def test_the_pause_doubles_up_to_five_minutes(self, number: int, want: int) -> None:
        made = plan([ended("a", number=number)])
        assert (made.create, made.delete, made.recheck_after) == (0, (), timedelta(seconds=want))
        made = plan([ended("a", number=number, ended_for=timedelta(seconds=want))])
        assert (made.create, made.number) == (1, number + 1)

    def test_the_pause_is_the_pools_and_counts_from_the_last_end(self) -> None:
        pods = [ended("a", number=3, ended_for=LONG), ended("b", number=3), ended("c", number=1)]
        made = plan(pods, min_replicas=3)
        assert (made.create, made.recheck_after) == (0, timedelta(seconds=8))
        assert made.delete == ("a", "c")

    @pytest.mark.parametrize(
        "pod",
        [
            pytest.param(ended("a", number=5, lived=timedelta(minutes=10)), id="it lived long"),
            pytest.param(ended("a", number=5, current=False), id="it was made from another template"),
        ],
    )
    def test_there_is_no_pause_when(self, pod: PodView) -> None:
        made = plan([pod])
        assert (made.create, made.number, made.delete) == (1, 0, ("a",))

    def test_the_last_one_is_kept_until_the_next_is_connected(self) -> None:
        last = ended("a", ended_for=LONG)
        assert plan([last, starting("b", number=1)]).delete == ()
        assert plan([last, idle("b", number=1)]).delete == ("a",)

    def test_its_words_stay_while_the_next_one_starts(self) -> None:
        last = ended("a", ended_for=LONG, trouble="Error (exit code 1)\nno database")
        for pods in ([last], [last, starting("b", number=1)]):
            made = plan(pods)
            assert (made.reason, made.message) == (Reason.PODS_FAILING, "pod a: Error (exit code 1)\nno database")
        assert plan([last, idle("b", number=1)]).reason is Reason.AVAILABLE

    def test_pods_that_work_go_on_meanwhile(self) -> None:
        made = plan([ended("a", number=4), busy("b")], min_replicas=2)
        assert (made.create, made.drain, made.ready) == (0, (), 1)


def test_a_connected_pod_is_not_blamed_for_how_its_container_ended_before() -> None:
    made = plan([idle("a", trouble="OOMKilled (exit code 137)"), starting("b")], min_replicas=2)
    assert (made.reason, made.message) == (Reason.PODS_MISSING, "1 of 2 workers are connected")


def test_a_pod_that_does_not_start_is_told_of() -> None:
    want = plan([starting("a", trouble="ErrImagePull: no such image")])
    assert (want.reason, want.message) == (Reason.PODS_FAILING, "pod a: ErrImagePull: no such image")


@pytest.mark.parametrize(
    ("pods", "want", "message"),
    [
        pytest.param([idle("new")], Reason.ROLLED_OUT, "", id="nothing is left of older templates"),
        pytest.param([], Reason.ROLLING_OUT, "0 of 1 workers have the current template", id="there are no pods yet"),
        pytest.param(
            [starting("new", trouble=NO_IMAGE)], Reason.PODS_FAILING, f"pod new: {NO_IMAGE}", id="none has ever started"
        ),
        pytest.param(
            [idle("old", current=False), starting("new")],
            Reason.ROLLING_OUT,
            "0 of 1 workers have the current template; pods of older ones: 1",
            id="a new pod starts",
        ),
        pytest.param(
            [busy("old", current=False, draining_for=timedelta(seconds=1)), idle("new")],
            Reason.ROLLING_OUT,
            "1 of 1 workers have the current template; pods of older ones: 1",
            id="an old pod finishes what it has",
        ),
        pytest.param(
            [idle("old", current=False), starting("new", trouble=NO_IMAGE)],
            Reason.PODS_FAILING,
            f"pod new: {NO_IMAGE}",
            id="the new template does not start",
        ),
        pytest.param(
            [idle("old", current=False), ended("new", trouble="Error (exit code 1)")],
            Reason.PODS_FAILING,
            "pod new: Error (exit code 1)",
            id="the new template's pods end at once",
        ),
        pytest.param(
            [idle("v1", current=False), old("v2", trouble=NO_IMAGE), starting("v3")],
            Reason.ROLLING_OUT,
            "0 of 1 workers have the current template; pods of older ones: 2",
            id="what an older template suffers from is no trouble of this one",
        ),
    ],
)
def test_how_far_a_template_is_rolled_out(pods: list[PodView], want: Reason, message: str) -> None:
    made = plan(pods)
    assert (made.rollout, made.rollout_message) == (want, message)


def test_a_pool_that_lacks_workers_tells_of_the_current_template_first() -> None:
    made = plan([old("v1", trouble="OOMKilled"), starting("v2", trouble=NO_IMAGE)])
    assert (made.reason, made.message) == (Reason.PODS_FAILING, f"pod v2: {NO_IMAGE}")


def test_time_alone_is_looked_at_again() -> None:
    assert plan([idle("a", idle_for=timedelta(seconds=20))], **SCALED).recheck_after == timedelta(seconds=40)


PODS = st.lists(
    st.builds(
        PodView,
        name=st.uuids().map(str),
        deleting=st.booleans(),
        current=st.booleans(),
        connected=st.booleans(),
        attempts=st.integers(0, 3),
        occupied=st.integers(0, 3),
        idle_for=st.none() | st.timedeltas(timedelta(), LONG),
        draining_for=st.none() | st.timedeltas(timedelta(), timedelta(minutes=1)),
        ended_for=st.none() | st.timedeltas(timedelta(), LONG),
        number=st.integers(0, 20),
    ),
    max_size=12,
)


@given(PODS, st.integers(0, 100), st.integers(0, 5), st.integers(0, 5))
def test_no_plan_removes_work_or_overshoots(pods: list[PodView], queued: int, least: int, more: int) -> None:
    want = plan(pods, queued=queued, min_replicas=least, max_replicas=least + more)
    by_name = {pod.name: pod for pod in pods}
    assert least <= want.desired <= least + more
    assert all(by_name[name].attempts == 0 or by_name[name].ended_for is not None for name in want.delete)
    assert want.replicas + want.create <= max(want.desired + max(1, -(-want.desired // 4)), want.replicas)
    assert not any(by_name[name].deleting for name in (*want.drain, *want.delete))


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        pytest.param({"min_replicas": 3, "max_replicas": 3}, None, id="as many as may be"),
        pytest.param({"min_replicas": 8}, None, id="without a maximum"),
        pytest.param(
            {"min_replicas": 8, "max_replicas": 3},
            "minReplicas, which kubectl scale and an HPA set, asks for 8 pods; maxReplicas allows 3",
            id="more",
        ),
    ],
)
def test_a_pool_says_that_it_is_scaled_above_its_maximum(spec: dict[str, Any], want: str | None) -> None:
    pool = make_pool(**spec)
    plan = plan_pool(pool, [], Demand(queued=0, slots_per_pod=1))
    said = {each.type: each for each in pool_status(pool, plan, None, NO_LOAD, NOW).conditions}
    told = said.get("ScalingLimited")
    assert (told.message if told else None) == want
    assert told is None or (told.status, told.reason) == ("True", "TooManyReplicas")
