"""Why an attempt waits although nothing is broken, in words."""

from __future__ import annotations

import pytest

from hatchet_operator.decisions.placing import Requirement
from hatchet_operator.decisions.waiting import PoolLoad, why_bound, why_no_slot, why_nobody_fits, why_nobody_offers
from hatchet_operator.resources.worker_labels import Comparator, LabelValue
from hatchet_operator.resources.workerpool import WorkerPool


def make_pool(**spec: object) -> WorkerPool:
    template = {"spec": {"containers": [{"name": "worker"}]}}
    return WorkerPool.model_validate({"metadata": {"name": "main"}, "spec": {"template": template, **spec}})


@pytest.mark.parametrize(
    ("load", "before", "pool", "want"),
    [
        pytest.param(
            PoolLoad(queued=3, running=2, slots=2, workers=1),
            2,
            make_pool(maxReplicas=1),
            'all 2 slots are busy in pool "main": 2 steps run, 2 to go before it; '
            "the pool has its only pod (maxReplicas): raise that, or its slots, for more",
            id="a pool at its maximum",
        ),
        pytest.param(
            PoolLoad(queued=1, running=1, slots=1, workers=1),
            0,
            make_pool(maxReplicas=3),
            'the only slot is busy in pool "main": one step runs, it is the next; '
            "the pool may have 3 pods, of which 1 are connected",
            id="more pods may come",
        ),
        pytest.param(
            PoolLoad(queued=1, running=1, slots=1, workers=1),
            0,
            None,
            'the only slot is busy in pool "main": one step runs, it is the next; another worker would help',
            id="workers that nobody's pool makes",
        ),
        pytest.param(
            PoolLoad(queued=1, running=11, slots=20, workers=1),
            0,
            make_pool(),
            'pool "main" has free slots, but its workers hold as many steps that wait for their children as they may; '
            "it is the next; the pool has its only pod (maxReplicas): raise that, or its slots, for more",
            id="a root that is held back",
        ),
        pytest.param(
            PoolLoad(queued=2, running=1, slots=20, workers=2, trials=1),
            1,
            None,
            'pool "main" has free slots, but a step that may have ended its last worker is tried alone on 1 of its 2 '
            "workers, for a minute at most; 1 to go before it; another worker would help",
            id="a suspect is tried",
        ),
    ],
)
def test_a_slot_is_waited_for(load: PoolLoad, before: int, pool: WorkerPool | None, want: str) -> None:
    assert why_no_slot("main", load, before=before, pool=pool) == want


def test_a_suspect_says_what_it_waits_for() -> None:
    load = PoolLoad(queued=1, running=1, slots=20, workers=1)
    assert why_no_slot("main", load, before=0, pool=None, is_suspect=True) == (
        'it may have ended its last worker, so it waits for one in pool "main" where nothing else runs; '
        "it is the next; another worker would help"
    )


def test_code_that_nobody_has_any_more() -> None:
    offered = [f"Name{number:02}" for number in range(12)]
    assert why_nobody_offers("dev", workflow="OldName", step="go", workers=1, offered=offered) == (
        'pool "dev" has one connected worker, but none that offers step "go" of workflow "OldName" (offered: Name00, '
        "Name01, Name02, Name03, Name04, Name05, Name06, Name07, Name08, Name09, …): it may have been "
        "renamed, or be in another image"
    )


LARGE = Requirement("model", Comparator.EQUAL, "large")
ROOMY = Requirement("memory", Comparator.GREATER_THAN, 256)


@pytest.mark.parametrize(
    ("required", "workers", "want"),
    [
        pytest.param((LARGE,), [{}, {"model": "large"}], None, id="one has it"),
        pytest.param(
            (LARGE,),
            [{}],
            'pool "main" has one connected worker that offers step "train" of workflow "Train", but none with the '
            'label that it requires: "model" Equal "large" (there is: none of that name)',
            id="nobody has any",
        ),
        pytest.param(
            (LARGE, ROOMY),
            [{"model": "small", "memory": 512}, {"model": "tiny"}],
            'pool "main" has 2 connected workers that offer step "train" of workflow "Train", but none with the label '
            'that it requires: "model" Equal "large" (there is: "model" is "small", "model" is "tiny")',
            id="others are there; what one has is not told",
        ),
        pytest.param(
            (LARGE, ROOMY),
            [{"model": "large", "memory": 1}, {"memory": 512}],
            'pool "main" has 2 connected workers that offer step "train" of workflow "Train", but none with the label '
            'that it requires: "model" Equal "large" and "memory" GreaterThan 256 (there is: "model" is "large", '
            '"memory" is 1, "memory" is 512)',
            id="each is there, but not both",
        ),
    ],
)
def test_a_required_label_that_nobody_has(
    required: tuple[Requirement, ...], workers: list[dict[str, LabelValue]], want: str | None
) -> None:
    assert why_nobody_fits("main", workflow="Train", step="train", required=required, workers=workers) == want


@pytest.mark.parametrize(
    ("known", "leaving", "connected", "offers", "want"),
    [
        pytest.param(True, False, True, True, None, id="it is there: it has no slot"),
        pytest.param(False, False, False, False, "is gone for good", id="gone"),
        pytest.param(True, True, False, True, "takes no new steps any more", id="it leaves"),
        pytest.param(True, False, False, True, "is not connected at the moment", id="away"),
        pytest.param(True, False, True, False, 'does not offer step "train"', id="without the code"),
    ],
)
def test_why_the_only_worker_does_not_take_it(
    known: bool, leaving: bool, connected: bool, offers: bool, want: str | None
) -> None:
    said = why_bound("w1", step="train", is_known=known, is_leaving=leaving, is_connected=connected, offers_it=offers)
    begins = 'its workflow is sticky (Hard), so only worker "w1" may take it, and that '
    assert said == (None if want is None else begins + want)


def test_what_waits_for_the_slots_of_one_worker() -> None:
    assert why_no_slot("main", PoolLoad(slots=9), before=0, pool=None, only="w1") == (
        'its workflow is sticky (Hard), so only worker "w1" may take it, whose slots are busy'
    )
