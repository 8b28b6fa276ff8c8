"""Labels, annotations and states of Pods are anybody's: whatever they say is understood, or counts for nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hatchet_operator.decisions.deaths import Life, look_at_container
from hatchet_operator.decisions.pooling import lacks_token, lifetime_of, number_of, trouble_of
from hatchet_operator.decisions.run_pods import has_ended, pause_after, run_pod_name, run_uid_of
from hatchet_operator.engine.dispatch.worker import Registration
from hatchet_operator.engine.workers.registrations import read_registration
from hatchet_operator.resources import labels
from hatchet_operator.resources.pod import read_pod

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TIMES = st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | TIMES,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=5,
)
FIELDS = [field.alias or name for name, field in Registration.model_fields.items()]


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


# as the API server lets them be written: what is no text is of its type
ENDED = optional(
    exitCode=st.integers(-(2**31), 2**31 - 1),
    reason=TEXT,
    message=TEXT,
    startedAt=TIMES | st.none(),
    finishedAt=TIMES | st.none(),
)
STATES = optional(waiting=optional(reason=TEXT, message=TEXT), terminated=ENDED, running=optional(startedAt=TIMES))
CONTAINERS = st.lists(
    optional(name=TEXT | st.just("worker"), state=STATES, lastState=STATES, restartCount=st.integers(0, 2**31 - 1))
)
CONDITIONS = st.lists(
    optional(type=TEXT | st.just("PodScheduled"), reason=TEXT | st.just("Unschedulable"), message=TEXT)
)
STATUSES = optional(
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown", ""]),
    reason=TEXT,
    message=TEXT,
    conditions=CONDITIONS,
    containerStatuses=CONTAINERS,
    initContainerStatuses=CONTAINERS,
)


def make_pod(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", **metadata}, "spec": {"containers": [{"name": "worker"}]}}


@given(TEXT | st.from_regex("[0-9]+"))
@example("9" * 5000)
@example("²")
@example("٣")
def test_a_pods_number(text: str) -> None:
    number = number_of(read_pod(make_pod(annotations={labels.POD_NUMBER: text})))
    assert 0 <= number < 1_000_000
    assert len(run_pod_name("r" * 253, number)) <= 253
    assert pause_after(number)


@given(TEXT | JSON.map(json.dumps) | st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON)).map(json.dumps))
def test_a_registration(text: str) -> None:
    registration = read_registration("a", {labels.REGISTRATION: text})
    assert registration is None or registration.worker_id is not None


MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))


@given(STATUSES, MOMENTS, MOMENTS, st.none() | st.integers(0, 2**31 - 1))
def test_a_status(status: dict[str, Any], after: datetime | None, alive_at: datetime | None, start: int | None) -> None:
    pod = read_pod({**make_pod(), "status": status})
    assert isinstance(trouble_of(pod), str | None)
    assert isinstance(has_ended(pod), bool)
    assert isinstance(lifetime_of(pod), timedelta)
    assert isinstance(lacks_token(pod, pool="main"), bool)
    life, what = look_at_container(Life(alive_at=alive_at, after=after, start=start), pod)
    assert isinstance(life, Life)
    assert isinstance(what, str | None)


@given(TEXT, st.lists(st.fixed_dictionaries({"kind": TEXT, "uid": TEXT, "name": TEXT, "apiVersion": TEXT})))
def test_a_pod_that_the_run_does_not_own_is_not_its_pod(uid: str, owners: list[dict[str, Any]]) -> None:
    strangers = [owner for owner in owners if (owner["kind"], owner["uid"]) != ("WorkflowRun", uid)]
    pod = make_pod(labels={labels.RUN_UID: uid}, ownerReferences=strangers)
    assert run_uid_of(read_pod(pod)) is None
    pod["metadata"]["ownerReferences"].append({"kind": "WorkflowRun", "uid": uid})
    assert run_uid_of(read_pod(pod)) == uid
