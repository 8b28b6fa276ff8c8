"""Namespaces are dealt to shards, and shards to replicas: evenly, with few moves, and never to two."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchet_operator.decisions.shards import Deal, Scope, deal, may_concern, shard_of

NAMESPACES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=63)


@pytest.mark.parametrize(
    ("namespace", "shards", "want"),
    [
        pytest.param("default", 12, 1, id="default"),
        pytest.param("team-a", 12, 0, id="team-a"),
        pytest.param("team-b", 12, 2, id="team-b"),
        pytest.param("team-a", 3, 0, id="another number of shards"),
        pytest.param("default", 1, 0, id="one shard has all"),
    ],
)
def test_the_shard_of_a_namespace_is_the_same_for_every_version(namespace: str, shards: int, want: int) -> None:
    assert shard_of(namespace, shards) == want


@given(NAMESPACES, st.integers(1, 64))
def test_exactly_one_shard_has_a_namespace(namespace: str, shards: int) -> None:
    covering = [shard for shard in range(shards) if Scope(shards=shards, shard=shard).covers(namespace)]
    assert len(covering) == 1


@pytest.mark.parametrize(
    ("scope", "want"),
    [
        pytest.param(Scope(), {"a", "b", "c"}, id="all"),
        pytest.param(Scope(namespaces=("a",)), {"a"}, id="one namespace"),
        pytest.param(Scope(namespaces=("c", "a")), {"a", "c"}, id="two namespaces"),
    ],
)
def test_without_shards_a_scope_is_as_it_is_set(scope: Scope, want: set[str]) -> None:
    assert {name for name in ("a", "b", "c") if scope.covers(name)} == want
    assert not scope.is_shard


def test_shards_deal_the_namespaces_that_are_served_and_no_others() -> None:
    served = tuple(f"team-{number}" for number in range(20))
    scopes = [Scope(namespaces=served, shards=3, shard=shard) for shard in range(3)]
    assert sorted(place or "" for scope in scopes for place in scope.places) == sorted(served)
    assert not any(scope.covers("another") or scope.is_served("another") for scope in scopes)
    assert all(scope.is_served(name) for scope in scopes for name in served), "if not by its own leader"
    nothing = Scope(namespaces=served[:1], shards=3, shard=(shard_of(served[0], 3) + 1) % 3)
    assert nothing.places == (), "and not the whole cluster"


@pytest.mark.parametrize(
    ("scope", "want"),
    [
        pytest.param(Scope(), (None,), id="the whole cluster at once"),
        pytest.param(Scope(shards=2, shard=1), (None,), id="all, of which others are dropped"),
        pytest.param(Scope(namespaces=("b", "a")), ("b", "a"), id="each that was named"),
    ],
)
def test_what_has_to_be_listed(scope: Scope, want: tuple[str | None, ...]) -> None:
    assert scope.places == want


# --- Events of the others


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        pytest.param({"name": "x", "namespace": "ours"}, True, id="ours"),
        pytest.param({"name": "x", "namespace": "theirs"}, False, id="another's"),
        pytest.param(
            {"labels": {"namespace": "theirs"}, "namespace": "ours"}, True, id="ours, with a misleading label"
        ),
        pytest.param({"annotations": {"a": '{"namespace":"theirs"}'}, "namespace": "ours"}, True, id="ours, with JSON"),
        pytest.param({"annotations": {"a": '{"namespace":"ours"}'}, "namespace": "theirs"}, False, id="JSON in a text"),
        pytest.param({"resourceVersion": "1"}, True, id="a bookmark has no namespace"),
    ],
)
def test_an_event_of_other_namespaces_is_known_without_parsing_it(metadata: dict[str, object], want: bool) -> None:
    event = orjson.dumps({"type": "ADDED", "object": {"metadata": metadata}})
    assert may_concern(event, lambda namespace: namespace == "ours") is want


JSON = st.recursive(
    st.text(max_size=20) | st.none(),
    lambda inner: st.dictionaries(st.sampled_from(["namespace", "a", '"namespace":"x"']), inner, max_size=3),
)


@given(JSON, JSON)
def test_no_event_of_ours_is_ever_dropped(spec: object, annotations: object) -> None:
    metadata = {"annotations": annotations, "namespace": "ours"}
    event = orjson.dumps({"object": {"metadata": metadata, "spec": spec}})
    assert may_concern(event, lambda namespace: namespace == "ours")


# --- The deal


@pytest.mark.parametrize(
    ("holders", "alive", "want"),
    [
        pytest.param([None] * 3, ["a"], Deal(take=(0, 1, 2)), id="who is alone takes all"),
        pytest.param(["a"] * 4, ["a", "b"], Deal(give_up=(2, 3)), id="one joins: half is given up"),
        pytest.param(["b"] * 4, ["a", "b"], Deal(), id="nothing is taken from one that is alive"),
        pytest.param(["b", "b", None, None], ["a", "b"], Deal(take=(2, 3)), id="what was given up is taken"),
        pytest.param(["a", "b", "dead"], ["a", "b"], Deal(take=(2,)), id="what a dead one led is taken"),
        pytest.param(["a", "a", "b"], ["a", "b"], Deal(), id="a difference of one is even"),
        pytest.param(["a", "b", "b"], ["a", "b"], Deal(), id="and stays where it is"),
        pytest.param(["a", "b", None], ["a", "b", "c"], Deal(), id="the third is for another"),
        pytest.param(["b"], ["a", "b"], Deal(), id="more replicas than shards: one has none"),
    ],
)
def test_what_a_replica_takes_and_gives_up(holders: list[str | None], alive: list[str], want: Deal) -> None:
    assert deal(holders, alive, "a") == want


REPLICAS = st.sets(st.sampled_from("abcdefg"), min_size=1)
HOLDERS = st.lists(st.sampled_from("abcdefg") | st.none(), min_size=1, max_size=64)


@given(HOLDERS, REPLICAS)
def test_two_never_take_the_same_and_none_takes_what_is_led(holders: list[str | None], alive: set[str]) -> None:
    taken: Counter[int] = Counter()
    for replica in alive:
        plan = deal(holders, alive, replica)
        taken.update(plan.take)
        assert all(holders[shard] not in alive for shard in plan.take)
        assert all(holders[shard] == replica for shard in plan.give_up)
    assert set(taken.values()) <= {1}


@given(HOLDERS, REPLICAS, st.randoms())
def test_replicas_that_act_one_after_another_converge_to_even_shares_and_then_rest(
    holders: list[str | None], alive: set[str], random: object
) -> None:
    """However the first ones act on what they see, two rounds are enough: surplus goes, then it is taken."""
    led = list(holders)
    kept = Counter(holder for holder in led if holder in alive)
    for _ in range(2):
        line = sorted(alive)
        random.shuffle(line)  # type: ignore[attr-defined]
        for replica in line:
            plan = deal(led, alive, replica)
            for shard in plan.give_up:
                led[shard] = None
            for shard in plan.take:
                led[shard] = replica
    shares = Counter({replica: led.count(replica) for replica in alive})
    assert sum(shares.values()) == len(led)
    assert max(shares.values()) - min(shares.values()) <= 1
    assert all(deal(led, alive, replica) == Deal() for replica in alive)
    share = len(led) // len(alive)
    moved = sum(1 for before, after in zip(holders, led, strict=True) if before in alive and before != after)
    assert moved <= sum(max(kept[replica] - share, 0) for replica in alive)
