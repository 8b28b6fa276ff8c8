"""Payloads are removed with the last run that holds them, whatever came and went before."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.payloads.keys import namespace_keys
from hatchet_operator.engine.payloads.removal import Removal
from hatchet_operator.engine.payloads.texts import Payloads
from hatchet_operator.engine.runs.changes import RunFeed
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.engine.runs.store import RunStore
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.settings import Settings
from hatchet_sdk.payloads.reference import PayloadReference
from tests.unit.sdk.test_payloads import key_of

RUNS, OWNERS = 4, 6
DIGEST = "ab" * 32


@dataclass(frozen=True)
class Change:
    """A run is there with references to these owners' payloads; None: it is deleted."""

    run: int
    holds: frozenset[int] | None


CHANGES = st.lists(
    st.builds(
        Change,
        run=st.integers(0, RUNS - 1),
        holds=st.none() | st.frozensets(st.integers(0, OWNERS - 1), max_size=3),
    ),
    max_size=25,
)


def uid_of(number: int) -> str:
    """Owners 0 to 3 are runs, the others are requests."""
    return f"00000000-0000-4000-8000-{number:012}" if number < RUNS else f"request-{number:032}"


def run_object(change: Change, version: int) -> dict[str, object]:
    references = {
        f"step-{owner}": {
            "output": PayloadReference(
                url=f"s3://bucket/default/{uid_of(owner)}/{DIGEST}", sha256=DIGEST, size=9
            ).to_text()
        }
        for owner in sorted(change.holds or ())
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkflowRun",
        "metadata": {
            "name": f"run-{change.run}",
            "namespace": "default",
            "uid": uid_of(change.run),
            "resourceVersion": str(version),
        },
        "spec": {"workflow": "etl"},
        "status": {"steps": references},
    }


@given(CHANGES)
def test_what_is_removed_is_what_no_run_holds(changes: list[Change]) -> None:
    store, feed = RunStore(), RunFeed()
    observer = RunObserver(store, feed, clock=Clock())
    payloads = Payloads(Settings(payload_store="s3://bucket"), Metrics())
    removal = Removal(
        payloads,
        store=store,
        observer=observer,
        scope=Scope(),
        installation=None,
        after=timedelta(hours=1),
        metrics=Metrics(),
        is_leading=lambda: True,
        clock=Clock(now=lambda: datetime.now(UTC)),
    )
    feed.react_with(removal.run_changed)
    gone: set[int] = set()
    holds: dict[int, frozenset[int]] = {}
    for version, change in enumerate(changes, start=1):
        if change.run in gone:
            continue  # a UID comes once
        kind = "DELETED" if change.holds is None else "MODIFIED"
        known = change.run in holds
        observer.observe(kind, run_object(change, version))
        if change.holds is not None:
            holds[change.run] = change.holds
        elif known:
            gone.add(change.run)
            before = holds.pop(change.run)
            held = frozenset().union(*holds.values()) | holds.keys()
            want = {uid_of(owner) for owner in before - held}
            if change.run not in held and change.run in _ever_stored(changes[: version - 1], change.run, gone):
                want.add(uid_of(change.run))
            assert want <= (taken := _taken(removal)), "else it would stay"
            assert not {uid_of(owner) for owner in held} & taken, "a run needs it"


def _ever_stored(before: list[Change], owner: int, gone: set[int]) -> set[int]:
    """Return the owner if a run referred to it, that was not gone at the time or is the one that goes now."""
    counts = any(owner in (change.holds or ()) and change.run not in gone - {owner} for change in before)
    return {owner} if counts else set()


def _taken(removal: Removal) -> set[str]:
    taken = set()
    while True:
        try:
            taken.add(removal.to_remove.get_nowait().name)
        except asyncio.QueueEmpty:
            return taken


def test_each_namespace_has_keys_of_its_own() -> None:
    keys = f"{key_of(1)}, {key_of(2)}"
    one, other = (namespace_keys(keys, namespace).split(",") for namespace in ("one", "other"))
    assert namespace_keys(keys, "one").split(",") == one
    assert len({*one, *other, key_of(1), key_of(2)}) == 6
