"""What may go in a window; and a model of leaders that follow each other, of which none exceeds a limit."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchet_operator.decisions.rate_limits import (
    LONGEST_UNWRITTEN,
    Answer,
    Limit,
    Window,
    after_start,
    ask,
    available,
    current,
    settle,
    taken_over,
)

SHORT = Limit(units=3, seconds=1.0)
MINUTE = Limit(units=12, seconds=60.0)
HOUR = Limit(units=1600, seconds=3600.0)


@pytest.mark.parametrize(
    ("window", "units", "limit", "now", "want"),
    [
        pytest.param(
            None, 2, SHORT, 5.0, Answer(window=Window(started_at=5.0, used=2)), id="the first units begin a window"
        ),
        pytest.param(
            Window(started_at=5.0, used=2),
            1,
            SHORT,
            5.9,
            Answer(window=Window(started_at=5.0, used=3)),
            id="up to the limit they go",
        ),
        pytest.param(
            Window(started_at=5.0, used=2),
            2,
            SHORT,
            5.9,
            Answer(again_at=6.0),
            id="more wait for the end of the window",
        ),
        pytest.param(
            Window(started_at=5.0, used=3),
            3,
            SHORT,
            6.0,
            Answer(window=Window(started_at=6.0, used=3)),
            id="at its end all units are back, and the next window begins with its first units",
        ),
        pytest.param(None, 4, SHORT, 5.0, Answer(never=True), id="more units than the limit never go"),
        pytest.param(
            None, 1, Limit(units=0, seconds=1.0), 5.0, Answer(never=True), id="a limit of nothing lets none go"
        ),
        pytest.param(
            None,
            1,
            MINUTE,
            5.0,
            Answer(reserve=Window(started_at=5.0, reserved=2)),
            id="units of a long window are reserved first, a sixth of a minute's at a time",
        ),
        pytest.param(
            Window(started_at=5.0, used=1, reserved=2),
            1,
            MINUTE,
            6.0,
            Answer(window=Window(started_at=5.0, used=2, reserved=2)),
            id="what is reserved goes",
        ),
        pytest.param(
            Window(started_at=5.0, used=2, reserved=2),
            7,
            MINUTE,
            6.0,
            Answer(reserve=Window(started_at=5.0, used=2, reserved=9)),
            id="as much is reserved as one step needs",
        ),
        pytest.param(
            Window(started_at=5.0, used=11, reserved=11),
            1,
            MINUTE,
            6.0,
            Answer(reserve=Window(started_at=5.0, used=11, reserved=12)),
            id="never more than the limit is reserved",
        ),
        pytest.param(
            Window(started_at=5.0, used=12, reserved=12),
            1,
            MINUTE,
            65.0,
            Answer(reserve=Window(started_at=65.0, reserved=2)),
            id="a new window has nothing reserved",
        ),
        pytest.param(
            None,
            1,
            HOUR,
            0.0,
            Answer(reserve=Window(started_at=0.0, reserved=100)),
            id="of an hour a sixteenth at a time",
        ),
        pytest.param(
            Window(started_at=5.0, used=12, reserved=12),
            1,
            Limit(units=6, seconds=60.0),
            6.0,
            Answer(again_at=65.0),
            id="a limit that was lowered lets none go until the window ends",
        ),
    ],
)
def test_asking(window: Window | None, units: int, limit: Limit, now: float, want: Answer) -> None:
    assert ask(window, units, limit, now) == want


@pytest.mark.parametrize(
    ("window", "limit", "want"),
    [
        pytest.param(None, SHORT, 3, id="all of a window that did not begin"),
        pytest.param(None, MINUTE, 0, id="nothing that is not reserved"),
        pytest.param(Window(started_at=0.0, used=1, reserved=5), MINUTE, 4, id="what is reserved and not used"),
        pytest.param(
            Window(started_at=0.0, used=1, reserved=20), MINUTE, 11, id="not more than the limit, if it was lowered"
        ),
        pytest.param(Window(started_at=0.0, used=3), SHORT, 0, id="nothing of a full window"),
    ],
)
def test_what_is_available(window: Window | None, limit: Limit, want: int) -> None:
    assert available(window, limit, 0.5) == want


def test_the_next_leader_counts_what_was_reserved_and_gets_back_what_was_settled() -> None:
    window = Window(started_at=0.0, used=1, reserved=5)
    assert taken_over(window).used == 5
    assert taken_over(settle(window)).used == 1


def test_units_that_may_not_have_been_granted_do_not_shorten_a_window() -> None:
    limit = Limit(units=2, seconds=60.0)
    lost = taken_over(Window(started_at=0.0, used=0, reserved=1))  # its leader died before it granted any
    first = ask(lost, 1, limit, 15.0).reserve
    assert first is not None
    granted = ask(first, 1, limit, 15.0).window
    assert granted == Window(started_at=15.0, used=2, reserved=2)
    assert ask(granted, 1, limit, 60.0) == Answer(again_at=75.0)


@dataclass
class Leaders:
    """Leaders one after another, with what is written; units that go are noted with their time."""

    limit: Limit
    now: float = 1000.0
    written: Window | None = None
    window: Window | None = None
    gone: list[tuple[float, int]] = field(default_factory=list)

    def take(self, units: int, *, lose_answer: bool) -> None:
        """Ask, and write as told; a leader that dies between the write and its answer gave nothing out."""
        answer = ask(self.window, units, self.limit, self.now)
        if answer.reserve is not None:
            self.written = answer.reserve
            if lose_answer:
                self.crash()
                return
            self.window = answer.reserve
            answer = ask(self.window, units, self.limit, self.now)
            assert answer.window is not None, "what was reserved for it may go"
        if answer.window is not None:
            self.window = answer.window
            self.gone.append((self.now, units))
        else:
            self.could_not_go(units, answer)

    def could_not_go(self, units: int, answer: Answer) -> None:
        """Nothing starves: who waits does so for a full window, and for no longer than one."""
        if answer.never:
            assert units > self.limit.units
            return
        known = current(self.window, self.limit, self.now)
        assert known is not None
        assert known.used + units > self.limit.units
        assert answer.again_at is not None
        assert self.now < answer.again_at <= self.now + self.limit.seconds

    def crash(self) -> None:
        if self.limit.is_written:
            self.window = None if self.written is None else taken_over(self.written)
        else:
            self.window = after_start(self.limit, self.now)

    def hand_over(self) -> None:
        if self.window is not None and self.limit.is_written:
            self.written = settle(self.window)
        self.crash()

    def settle(self) -> None:
        if self.window is not None:
            self.window = self.written = settle(self.window)

    def most_in_a_window(self) -> int:
        """Windows begin with their first units and do not overlap: count as a client would, who knows no leader."""
        most = used = 0
        started = float("-inf")
        for at, units in self.gone:
            if at >= started + self.limit.seconds:
                started, used = at, 0
            used += units
            most = max(most, used)
        return most


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 7), st.booleans()),
        st.tuples(st.just("wait"), st.floats(0.01, 45.0)),
        st.tuples(st.sampled_from(["crash", "hand over", "settle"])),
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 12), st.sampled_from([0.5, 5.0, LONGEST_UNWRITTEN, 20.0, 60.0, 1000.0]), STEPS)
def test_no_leader_exceeds_a_limit_whoever_led_before(
    units: int, seconds: float, steps: list[tuple[object, ...]]
) -> None:
    leaders = Leaders(Limit(units=units, seconds=seconds))
    for step in steps:
        match step:
            case ("take", int(wanted), bool(lost)):
                leaders.take(wanted, lose_answer=lost)
            case ("wait", float(passed)):
                leaders.now += passed
            case ("crash",):
                leaders.crash()
            case ("hand over",):
                leaders.hand_over()
            case ("settle",):
                leaders.settle()
    assert leaders.most_in_a_window() <= units


def test_an_orderly_change_of_leader_loses_nothing() -> None:
    leaders = Leaders(HOUR)
    for _ in range(HOUR.units):
        leaders.take(1, lose_answer=False)
        leaders.hand_over()
    assert sum(units for _, units in leaders.gone) == HOUR.units
