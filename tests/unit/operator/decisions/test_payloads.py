"""Whose a payload is, and when it may go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hatchet_operator.decisions.inputs import is_same_json
from hatchet_operator.decisions.payloads import Owner, owner_of_path, owners_referenced, removable
from hatchet_operator.resources.run import RunStatus, StepStatus
from hatchet_sdk.payloads.reference import MARK, PayloadReference, digest_of
from tests.unit.operator.decisions.builders import NOW, make_run

DIGEST = "ab" * 32
RUN = "5f1d3c1e-0000-4000-8000-000000000001"


def reference(owner: str, *, digest: str = DIGEST) -> str:
    return PayloadReference(url=f"s3://bucket/default/{owner}/{digest}", sha256=digest, size=9).to_text()


@pytest.mark.parametrize(
    ("path", "namespace", "want"),
    [
        pytest.param(f"etl/{RUN}/{DIGEST}", None, Owner("etl", RUN), id="in the whole store"),
        pytest.param(f"{RUN}/{DIGEST}", "etl", Owner("etl", RUN), id="in the folder of a namespace"),
        pytest.param(f"{RUN}/{DIGEST}", None, None, id="too high up"),
        pytest.param(f"x/etl/{RUN}/{DIGEST}", None, None, id="too far down"),
        pytest.param(f"etl/{RUN}/notes.txt", None, None, id="somebody else's file"),
        pytest.param(f"etl/Backup of runs/{DIGEST}", None, None, id="somebody else's folder"),
        pytest.param("notes.txt", None, None, id="somebody else's file at the top"),
    ],
)
def test_whose_an_object_is(path: str, namespace: str | None, want: Owner | None) -> None:
    assert owner_of_path(path, namespace=namespace) == want


def test_a_run_holds_what_its_input_and_outputs_refer_to() -> None:
    steps = {
        "large": StepStatus(output=reference(RUN)),
        "small": StepStatus(output='{"a":1}'),
        "bad": StepStatus(output=f'{{"{MARK}":1}}'),
        "none": StepStatus(),
    }
    run = make_run(status=RunStatus(steps=steps))
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"input_json": reference("request-1234")})})
    assert owners_referenced(run) == {Owner("default", RUN), Owner("default", "request-1234")}
    assert owners_referenced(make_run()) == frozenset()


def test_what_nobody_holds_goes_when_it_is_old() -> None:
    held, new, old = (Owner("etl", f"owner-{name}") for name in ("held", "new", "old"))
    stored = {held: NOW - timedelta(days=9), new: NOW - timedelta(minutes=59), old: NOW - timedelta(minutes=61)}
    assert removable(stored, is_referenced=lambda owner: owner == held, now=NOW, after=timedelta(hours=1)) == [old]


@pytest.mark.parametrize(
    ("one", "other", "want"),
    [
        pytest.param(reference(RUN), reference("request-1234"), True, id="one text in two places"),
        pytest.param(reference(RUN), reference(RUN, digest="cd" * 32), False, id="two texts"),
        pytest.param(reference(RUN, digest=digest_of('{"a":1}')), '{"a":1}', True, id="stored, and not"),
        pytest.param(reference(RUN, digest=digest_of('{"a":1}')), '{"a": 1}', False, id="written in another way"),
        pytest.param(f'{{"{MARK}":1}}', "{}", False, id="none at all"),
    ],
)
def test_payloads_are_the_same_by_their_digests(one: str, other: str, want: bool) -> None:
    assert is_same_json(one, other) is want
    assert is_same_json(other, one) is want
