"""Times in messages: clients may send any number."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hatchet_operator.dispatcher.stamps import milliseconds_of, stamp_of, time_of, valid_time_of
from hatchet_operator.dispatcher.v0.translation.attempts import claimed_attempts
from hatchet_operator.errors import InvalidRequest
from hatchet_sdk.contracts import dispatcher_pb2 as wire

INVALID = [Timestamp(seconds=10**15), Timestamp(seconds=1, nanos=-5), Timestamp(seconds=-(10**15))]


def test_a_time_comes_back_as_it_was_sent() -> None:
    moment = datetime(2026, 3, 14, 15, 9, 26, 535_000, tzinfo=UTC)
    stamp = stamp_of(moment)
    assert stamp is not None
    assert (time_of(stamp), valid_time_of(stamp, "since")) == (moment, moment)
    assert milliseconds_of(stamp) == int(moment.timestamp() * 1000)
    assert (stamp_of(None), time_of(Timestamp()), milliseconds_of(Timestamp())) == (None, None, 0)


@pytest.mark.parametrize("stamp", INVALID)
def test_a_time_that_is_none_is_no_fault_of_ours(stamp: Timestamp) -> None:
    assert (time_of(stamp), milliseconds_of(stamp)) == (None, 0)
    with pytest.raises(InvalidRequest, match="since is not a valid time"):
        valid_time_of(stamp, "since")


@pytest.mark.parametrize("stamp", [Timestamp(), *INVALID])
def test_a_worker_may_not_know_when_an_attempt_began(stamp: Timestamp) -> None:
    item = wire.HeldAttempt(workflow_run_id="run", task_run_external_id="a", task_name="work", started_at=stamp)
    held = claimed_attempts(wire.WorkerListenRequest(reports_held=True, held=[item]))
    assert held is not None
    assert [each.started_at for each in held] == [None]
