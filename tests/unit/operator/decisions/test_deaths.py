"""When a Pod's status says that the container of a worker is over, whatever came before what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.deaths import Life, look_at_container, why_silent
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.pod import Pod
from tests.unit.operator.decisions.builders import seen_pod

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OOM = "(exit code 137, OOMKilled)"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")  # as the kubelet writes it, rounded down


def running(since: float) -> Json:
    return {"running": {"startedAt": stamp(since)}}


def ended(began: float, end: float, *, reason: str = "OOMKilled", exit_code: int = 137) -> Json:
    how = {"exitCode": exit_code, "reason": reason}
    return {"terminated": {**how, "startedAt": stamp(began), "finishedAt": stamp(end)}}


def waiting(reason: str = "CrashLoopBackOff") -> Json:
    return {"waiting": {"reason": reason}}


def make_pod(state: Json, *, restarts: int = 0, last: Json | None = None, beside: Json | None = None) -> Pod:
    statuses = [{"name": "worker", "restartCount": restarts, "state": state, "lastState": last or {}}]
    if beside is not None:
        statuses.insert(0, {"name": "a-sidecar", "restartCount": 0, "state": beside})
    return seen_pod({"status": {"containerStatuses": statuses}})


def look_at_all(life: Life, pods: Sequence[Pod]) -> list[str | None]:
    said = []
    for pod in pods:
        life, what = look_at_container(life, pod)
        said.append(what)
    return said


CREATING = make_pod(waiting("ContainerCreating"))
FIRST = make_pod(running(0))
FIRST_ENDED = make_pod(ended(0, 20))
FIRST_BACKS_OFF = make_pod(waiting(), last=ended(0, 20))
SECOND = make_pod(running(22), restarts=1, last=ended(0, 20))
SECOND_ENDED = make_pod(ended(22, 30, reason="Error", exit_code=1), restarts=1, last=ended(0, 20))
THIRD = make_pod(running(40), restarts=2, last=ended(22, 30, reason="Error", exit_code=1))
IN_FIRST, IN_SECOND = Life(alive_at=at(6.5)), Life(alive_at=at(24.5))
NOT_SAID = Life()


@pytest.mark.parametrize(
    ("life", "pods", "want"),
    [
        pytest.param(IN_FIRST, [CREATING, FIRST, FIRST], None, id="it runs on"),
        pytest.param(IN_FIRST, [FIRST, FIRST_ENDED], f"its container ended {OOM}", id="it ended"),
        pytest.param(IN_FIRST, [FIRST_ENDED], f"its container ended {OOM}", id="its Pod had no event before the end"),
        pytest.param(IN_FIRST, [CREATING, FIRST_ENDED], f"its container ended {OOM}", id="it was never seen running"),
        pytest.param(IN_FIRST, [FIRST_BACKS_OFF], f"its container ended {OOM}", id="it is about to be started again"),
        pytest.param(
            Life(alive_at=at(20.2)), [FIRST_ENDED], f"its container ended {OOM}", id="in the second of its registration"
        ),
        pytest.param(IN_FIRST, [SECOND], f"its container was restarted {OOM}", id="the next one runs already"),
        pytest.param(
            IN_FIRST, [THIRD], "its container was restarted more than once", id="of its own end nothing is left"
        ),
        pytest.param(
            IN_FIRST, [SECOND_ENDED], "its container was restarted more than once", id="the next one ended as well"
        ),
        pytest.param(IN_SECOND, [FIRST_ENDED, FIRST_BACKS_OFF, SECOND], None, id="the one before it ended"),
        pytest.param(
            IN_SECOND,
            [FIRST, FIRST_ENDED, SECOND, SECOND_ENDED],
            "its container ended (exit code 1, Error)",
            id="the status of the one before it came late",
        ),
        pytest.param(IN_SECOND, [FIRST, SECOND], None, id="and so late that its end was left out"),
        pytest.param(IN_SECOND, [THIRD], "its container was restarted (exit code 1, Error)", id="a crash loop"),
        pytest.param(NOT_SAID, [FIRST_ENDED], None, id="not said: what ended before it was seen may be another"),
        pytest.param(NOT_SAID, [FIRST, FIRST_ENDED], f"its container ended {OOM}", id="not said: it ended"),
        pytest.param(NOT_SAID, [FIRST, SECOND], f"its container was restarted {OOM}", id="not said: restarted"),
        pytest.param(Life(after=at(21)), [FIRST, FIRST_ENDED, SECOND], None, id="not said: an earlier worker's"),
        pytest.param(
            IN_FIRST,
            [make_pod(running(0), beside=running(0)), make_pod(running(0), beside=ended(0, 20))],
            None,
            id="a sidecar ended",
        ),
        pytest.param(
            IN_FIRST,
            [make_pod(ended(0, 20), beside=running(0))],
            f"its container ended {OOM}",
            id="it ended, and a sidecar that is listed first runs on",
        ),
    ],
)
def test_a_worker_ends_with_its_container(life: Life, pods: list[Pod], want: str | None) -> None:
    *before, last = look_at_all(life, pods)
    assert before == [None] * len(before)
    assert last == want


@pytest.mark.parametrize(
    ("pod", "want"),
    [
        pytest.param(None, "", id="it lives in none"),
        pytest.param({"spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}}, "", id="its Pod does not run"),
        pytest.param(
            {"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}},
            ', while its Pod is said to run on node "n1", which may be gone or cut off, or its process stopped',
            id="its Pod is said to run",
        ),
    ],
)
def test_silence_says_what_is_known(pod: Json | None, want: str) -> None:
    assert why_silent(30.2, seen_pod(pod) if pod else None) == f"it was silent for 30 seconds{want}"


def test_a_clock_that_is_put_back_ends_nobody() -> None:
    life, _ = look_at_container(Life(alive_at=at(10)), FIRST)
    _, what = look_at_container(Life(alive_at=at(-3600), start=life.start), FIRST)
    assert what is None


@dataclass(frozen=True)
class Start:
    """One start of a container: when it began and ended, in seconds."""

    began: float
    end: float


@st.composite
def lives(draw: st.DrawFn) -> list[Start]:
    """Containers of one Pod, with the pause between them that any kubelet makes."""
    now, starts = 0.0, []
    for _ in range(draw(st.integers(1, 5))):
        began = now + draw(st.floats(1.5, 40))
        now = began + draw(st.floats(1.5, 60))
        starts.append(Start(began, now))
    return starts


def statuses_of(starts: list[Start]) -> list[tuple[float, Pod]]:
    """What a kubelet says, one after another, and when."""
    said: list[tuple[float, Pod]] = [(0.0, CREATING)]
    last: Json = {}
    for number, start in enumerate(starts):
        over = ended(start.began, start.end, exit_code=number)
        said += [
            (start.began, make_pod(running(start.began), restarts=number, last=last)),
            (start.end, make_pod(over, restarts=number, last=last)),
            (start.end + 0.5, make_pod(waiting(), restarts=number, last=over)),
        ]
        last = over
    return said


@given(lives(), st.data())
def test_whatever_is_seen_of_a_pod_its_worker_dies_once_and_of_its_own_end(
    starts: list[Start], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(starts) - 1))
    mine = starts[number]
    registered = data.draw(st.floats(mine.began + 0.3, mine.end - 1.1))
    is_late = data.draw(st.booleans())  # what is seen first after the registration may be from long before it
    seen = [
        (when, pod)
        for when, pod in statuses_of(starts)
        if (is_late or when >= registered) and data.draw(st.booleans(), label=f"{when} is seen")
    ]
    life = Life(alive_at=at(registered))
    for when, pod in seen:
        life, what = look_at_container(life, pod)
        if when < mine.end:
            assert what is None, "it lives"
            continue
        assert what is not None, "it is over, and every status from now on says so"
        if when < (starts[number + 1].end if number + 1 < len(starts) else when + 1):
            assert f"exit code {number}," in what, "its own end is told"
        break


def test_nothing_is_made_of_a_pod_without_a_status() -> None:
    assert look_at_container(IN_FIRST, seen_pod({})) == (IN_FIRST, None)
