"""Names are an interface: equal inputs give equal names, in every release. The literals below must never change."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hatchet_operator.decisions.pooling import token_secret_name
from hatchet_operator.decisions.run_pods import run_pod_name
from hatchet_operator.resources.names import (
    ObjectRef,
    action_id,
    attempt_id,
    child_run_name,
    generate_name,
    revision_name,
    root_label,
    root_run_name,
    spawn_identity,
    tenant_id,
    workflow_object_name,
)

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates too
SPAWNS = st.builds(spawn_identity, key=st.none() | ANY_TEXT, index=st.integers(-1, 10**9))
CHILDREN = st.tuples(st.uuids().map(str), ANY_TEXT, SPAWNS)


def name_of(child: tuple[str, str, str], parent: str = "etl") -> str:
    uid, step, spawn = child
    return child_run_name(parent, uid, step=step, spawn=spawn)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        (child_run_name("etl", "uid-1", step="load", spawn="key:a"), "etl-963dab5dab16e339"),
        (child_run_name("etl", "uid-1", step="load", spawn="index:0"), "etl-f85d1c7b21a5049f"),
        (root_run_name("etl", "request-1"), "etl-f798571faa6d8550"),
        (revision_name("etl", "{}"), "etl-06d303a9b27b9a13"),
        (attempt_id("uid-1", rerun=0, step="load", attempt=0, dispatch=0), "39e0764f-9ddd-5528-bf55-166409cee24c"),
        (tenant_id("default"), "8fb423f7-b6d6-517b-a119-1f7226b7d743"),
    ],
)
def test_names_that_clusters_hold_already(name: str, want: str) -> None:
    assert name == want


@given(ANY_TEXT, CHILDREN)
@example("-", ("", "", ""))
@example("\ud800" * 5000, ("u", "\udfff", "key:\ud800"))
@example("x" * 253, ("u", "s", "key:" + "k" * 65536))
def test_a_childs_name_is_a_dns_label(parent: str, child: tuple[str, str, str]) -> None:
    assert DNS_LABEL.fullmatch(name_of(child, parent))


@given(ANY_TEXT, ANY_TEXT)
def test_names_of_root_runs_and_revisions_are_dns_labels(workflow: str, rest: str) -> None:
    assert DNS_LABEL.fullmatch(root_run_name(workflow, rest))
    assert DNS_LABEL.fullmatch(revision_name(workflow, rest))


@given(CHILDREN, CHILDREN)
def test_different_children_have_different_names(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (name_of(one) == name_of(other)) == (one == other)


@given(ANY_TEXT, st.integers(-1))
@example("0", 0)
@example("index:0", 0)
def test_a_key_never_meets_an_index(key: str, index: int) -> None:
    assert spawn_identity(key=key, index=index) != spawn_identity(key=None, index=index)


@given(ANY_TEXT, st.integers(-1), st.integers(-1))
def test_a_key_alone_names_a_child_wherever_it_stands(key: str, one: int, other: int) -> None:
    assert spawn_identity(key=key, index=one) == spawn_identity(key=key, index=other)


def test_the_parents_name_stays_readable() -> None:
    name = child_run_name("nightly.etl", "u", step="s", spawn="index:0")
    assert name.startswith("nightly-etl-")


@pytest.mark.parametrize(
    ("exact", "want"),
    [
        ("etl", "etl"),
        ("My_Workflow v2", "my-workflow-v2"),
        ("--x--", "x"),
        ("a" * 62 + "-b", "a" * 62),
        ("Größe", "gr-e"),
    ],
)
def test_object_names_of_workflows(exact: str, want: str) -> None:
    assert workflow_object_name(exact) == want


@given(ANY_TEXT)
def test_any_workflow_name_gives_a_dns_label_or_says_why_not(exact: str) -> None:
    if re.search("[a-z0-9]", exact.lower()[:63]):
        assert DNS_LABEL.fullmatch(workflow_object_name(exact))
    else:
        assume(not re.search("[a-z0-9]", exact.lower()))  # further on, it depends on what was cut
        with pytest.raises(ValueError, match="with at least one"):
            workflow_object_name(exact)


@given(ANY_TEXT)
def test_an_object_name_names_itself(exact: str) -> None:
    try:
        name = workflow_object_name(exact)
    except ValueError:
        return
    assert workflow_object_name(name) == name


@given(st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True))
def test_any_run_name_has_a_label(name: str) -> None:
    label = root_label(name)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", label)
    assert (label == name) is (len(name) <= 63)


def test_long_names_have_labels_of_their_own() -> None:
    assert root_label("x" * 100) != root_label("x" * 101)


FIELDS = {"rerun": 0, "attempt": 0, "dispatch": 0}


@pytest.mark.parametrize("field", FIELDS)
def test_every_giving_out_has_an_id_of_its_own(field: str) -> None:
    first = attempt_id("u", step="s", **FIELDS)
    assert attempt_id("u", step="s", **FIELDS | {field: 1}) != first
    assert attempt_id("v", step="s", **FIELDS) != first
    assert attempt_id("u", step="t", **FIELDS) != first
    assert uuid.UUID(first).version == 5


def test_the_rest() -> None:
    assert action_id("My-Flow", "Load") == "my-flow:load"
    assert str(ObjectRef("default", "etl")) == "default/etl"
    assert tenant_id("a") != tenant_id("b")


OBJECT_NAMES = st.from_regex(SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= 253)


@given(OBJECT_NAMES, st.integers(0, 10**6))
@example("a" * 49 + ".report-2026", 0)
@example("a" * 253, 10**6)
@example("a" + ".a" * 126, 7)
def test_what_is_made_for_an_object_has_a_valid_name(name: str, number: int) -> None:
    assert SUBDOMAIN.fullmatch(generate_name(name) + "x7k2p")
    assert len(generate_name(name)) <= 58, "beyond that the API server cuts"
    assert SUBDOMAIN.fullmatch(run_pod_name(name, number))
    assert len(run_pod_name(name, number)) <= 253
    assert DNS_LABEL.fullmatch(child_run_name(name, "uid", step="s", spawn="index:0"))


@given(OBJECT_NAMES.filter(lambda name: len(name) <= 63))
def test_a_pools_secret_has_a_valid_name(pool: str) -> None:
    assert SUBDOMAIN.fullmatch(token_secret_name(pool))
