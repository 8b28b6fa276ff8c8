"""Who may take an attempt, and which of those that may gets it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.placing import (
    Needs,
    Requirement,
    choose_worker,
    fits,
    has_room,
    required_labels,
    satisfies,
    weight_of,
)
from hatchet_operator.resources.worker_labels import Comparator, DesiredLabel, LabelValue

ROOT, CHILD = Needs(is_root=True), Needs(is_root=False)
SUSPECT, IMPATIENT, DESPERATE = (Needs(is_root=False, suspicion=patience) for patience in range(3))


@dataclass(frozen=True, kw_only=True)
class Somebody:
    id: str = "worker"
    labels: dict[str, LabelValue] = field(default_factory=dict)
    slots: int = 2
    occupied: int = 0
    waiting: int = 0
    running_suspects: int = 0
    tried_suspects: int = 0
    revisions: frozenset[str] = frozenset()

    @property
    def free_slots(self) -> int:
        return self.slots - self.occupied


@pytest.mark.parametrize(
    ("worker", "needs", "want"),
    [
        pytest.param(Somebody(), ROOT, True, id="a free slot is enough"),
        pytest.param(Somebody(occupied=2), CHILD, False, id="without one there is no room"),
        pytest.param(Somebody(waiting=19), ROOT, True, id="some of its steps wait for children"),
        pytest.param(Somebody(waiting=20), ROOT, False, id="so many wait that it takes no more roots"),
        pytest.param(Somebody(waiting=20), CHILD, True, id="but their children"),
        pytest.param(Somebody(), SUSPECT, True, id="a suspect where nothing runs"),
        pytest.param(Somebody(occupied=1), SUSPECT, False, id="a suspect not where something runs"),
        pytest.param(Somebody(occupied=1), IMPATIENT, True, id="unless its patience ended"),
        pytest.param(
            Somebody(occupied=1, running_suspects=1), IMPATIENT, False, id="and what runs is no suspect itself"
        ),
        pytest.param(
            Somebody(occupied=1, running_suspects=1, tried_suspects=1),
            CHILD,
            False,
            id="nothing beside one that is tried",
        ),
        pytest.param(
            Somebody(occupied=1, running_suspects=1), CHILD, True, id="beside one that has stood its trial anything"
        ),
        pytest.param(
            Somebody(slots=9, occupied=4, running_suspects=4, tried_suspects=1),
            DESPERATE,
            True,
            id="as many are tried as have stood their trial",
        ),
        pytest.param(
            Somebody(slots=9, occupied=4, running_suspects=4, tried_suspects=2), DESPERATE, False, id="and no more"
        ),
    ],
)
def test_whether_there_is_room(worker: Somebody, needs: Needs, want: bool) -> None:
    assert has_room(worker, needs) is want


def make_worker(name: str, free_slots: int, *revisions: str) -> Somebody:
    return Somebody(id=name, slots=free_slots, revisions=frozenset(revisions))


@pytest.mark.parametrize(
    ("workers", "want"),
    [
        pytest.param([make_worker("a", 1, "etl-1"), make_worker("b", 3, "etl-1")], "b", id="the emptiest"),
        pytest.param([make_worker("a", 1, "etl-1"), make_worker("b", 3, "etl-2")], "a", id="the same code comes first"),
        pytest.param([make_worker("a", 1), make_worker("b", 3, "etl-2")], "b", id="other code is better than waiting"),
    ],
)
def test_who_gets_it(workers: list[Somebody], want: str) -> None:
    assert choose_worker(workers, revision="etl-1").id == want


@pytest.mark.parametrize(
    ("has", "comparator", "value", "want"),
    [
        pytest.param("large", Comparator.EQUAL, "large", True, id="the same text"),
        pytest.param("Large", Comparator.EQUAL, "large", False, id="case counts"),
        pytest.param("5", Comparator.EQUAL, 5, False, id="a text is no number"),
        pytest.param(5, Comparator.EQUAL, 5, True, id="the same number"),
        pytest.param(None, Comparator.EQUAL, "large", False, id="a label that is not there is like nothing"),
        pytest.param(None, Comparator.NOT_EQUAL, "large", True, id="and so it differs"),
        pytest.param("large", Comparator.NOT_EQUAL, "large", False, id="what is the same does not differ"),
        pytest.param(6, Comparator.GREATER_THAN, 5, True, id="greater"),
        pytest.param(5, Comparator.GREATER_THAN, 5, False, id="not greater"),
        pytest.param(5, Comparator.GREATER_THAN_OR_EQUAL, 5, True, id="as great"),
        pytest.param(4, Comparator.GREATER_THAN_OR_EQUAL, 5, False, id="not as great"),
        pytest.param(4, Comparator.LESS_THAN, 5, True, id="less"),
        pytest.param(5, Comparator.LESS_THAN, 5, False, id="not less"),
        pytest.param(5, Comparator.LESS_THAN_OR_EQUAL, 5, True, id="as little"),
        pytest.param(6, Comparator.LESS_THAN_OR_EQUAL, 5, False, id="not as little"),
        pytest.param("9", Comparator.GREATER_THAN, 5, False, id="a text is not greater than a number"),
        pytest.param(None, Comparator.LESS_THAN, 5, False, id="what is not there is not less"),
    ],
)
def test_what_a_label_satisfies(has: LabelValue | None, comparator: Comparator, value: LabelValue, want: bool) -> None:
    labels = {} if has is None else {"x": has}
    assert satisfies(labels, "x", comparator, value) is want


LARGE = Requirement("model", Comparator.EQUAL, "large")
ROOMY = Requirement("memory", Comparator.GREATER_THAN, 256)


@pytest.mark.parametrize(
    ("worker", "needs", "want"),
    [
        pytest.param(Somebody(), ROOT, True, id="what needs nothing goes anywhere"),
        pytest.param(
            Somebody(labels={"model": "large"}), ROOT._replace(labels=(LARGE,)), True, id="its label is there"
        ),
        pytest.param(Somebody(labels={"model": "small"}), ROOT._replace(labels=(LARGE,)), False, id="it is another"),
        pytest.param(
            Somebody(labels={"model": "large"}), ROOT._replace(labels=(LARGE, ROOMY)), False, id="one of two is missing"
        ),
        pytest.param(Somebody(id="w1"), ROOT._replace(worker="w1"), True, id="the one that it is bound to"),
        pytest.param(Somebody(id="w2"), ROOT._replace(worker="w1"), False, id="another one"),
        pytest.param(Somebody(id="w1"), ROOT._replace(worker="w1", labels=(LARGE,)), False, id="both have to hold"),
    ],
)
def test_whether_it_fits(worker: Somebody, needs: Needs, want: bool) -> None:
    assert fits(worker, needs) is want


def desired(value: LabelValue, **changes: object) -> DesiredLabel:
    return DesiredLabel.model_validate({"value": value, **changes})


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        pytest.param([{"model": "small"}, {"model": "large"}], 1, id="a wish"),
        pytest.param([{"model": "large"}, {"memory": 512}], 0, id="the weightier wish"),
        pytest.param([{"model": "large"}, {"memory": 512, "zone": "a"}], 1, id="weights add up"),
        pytest.param([{"model": "large", "bad": 1}, {}], 1, id="a weight below 0 keeps it away"),
        pytest.param([{}, {"zone": "b"}], 0, id="none: the first of those that are alike"),
    ],
)
def test_which_labels_are_preferred(labels: list[dict[str, LabelValue]], want: int) -> None:
    workers = [Somebody(id=str(number), labels=each) for number, each in enumerate(labels)]
    wishes = {
        "model": desired("large"),
        "memory": desired(256, comparator="GreaterThan", weight=60),
        "zone": desired("a", weight=50),
        "bad": desired(1, weight=-200),
    }
    assert choose_worker(workers, revision="etl-1", desired=wishes).id == str(want)


def test_a_sticky_run_goes_back_whatever_else_is_better() -> None:
    workers = [Somebody(id="w1"), Somebody(id="w2", slots=9, labels={"model": "large"}, revisions=frozenset({"etl-1"}))]
    assert choose_worker(workers, revision="etl-1", desired={"model": desired("large")}, preferred="w1").id == "w1"
    assert choose_worker(workers, revision="etl-1", desired={"model": desired("large")}, preferred="gone").id == "w2"


VALUES = st.sampled_from(["large", "small", "5", 5, 6, 0])


@given(
    labels=st.dictionaries(st.sampled_from("abc"), VALUES),
    wishes=st.dictionaries(
        st.sampled_from("abcd"), st.tuples(VALUES, st.sampled_from(Comparator), st.booleans(), st.integers(1, 9))
    ),
)
def test_a_worker_that_fits_has_the_weight_of_all_that_is_required(
    labels: dict[str, LabelValue], wishes: dict[str, tuple[LabelValue, Comparator, bool, int]]
) -> None:
    step = {
        key: desired(value, comparator=comparator, required=required, weight=weight)
        for key, (value, comparator, required, weight) in wishes.items()
    }
    held = {key for key, each in step.items() if _naive(labels.get(key), each)}
    must = {key for key, each in step.items() if each.required}
    worker = Somebody(labels=labels)
    assert fits(worker, ROOT._replace(labels=required_labels(step))) is (must <= held)
    assert weight_of(labels, step) == sum(step[key].weight for key in held)


def _naive(has: LabelValue | None, label: DesiredLabel) -> bool:
    signs = {"Equal": "==", "NotEqual": "!=", "GreaterThan": ">", "GreaterThanOrEqual": ">=", "LessThan": "<"}
    sign = signs.get(label.comparator, "<=")
    try:
        return bool(eval(f"{has!r} {sign} {label.value!r}")) and (  # of values that are listed above
            sign in ("==", "!=") or isinstance(has, int)
        )
    except TypeError:
        return False
