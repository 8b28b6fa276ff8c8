"""Label and field selectors of lists."""

from __future__ import annotations

import pytest

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CONFIG_MAPS, PODS, SECRETS, Api

COLORS = {"a": "red", "b": "green", "c": "blue"}


@pytest.fixture
async def shelf(api: Api) -> Api:
    """Widgets a, b and c: labels tier=one, tier=two and none; colours red, green and blue."""
    labels = {"a": {"tier": "one", "app": ""}, "b": {"tier": "two"}, "c": {}}
    for name, color in COLORS.items():
        (await api.create(WIDGETS, make_widget(name, color=color, metadata={"labels": labels[name]}))).ok()
    return api


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        pytest.param("tier=one", ["a"], id="equality"),
        pytest.param("tier==one", ["a"], id="double equality"),
        pytest.param("tier!=one", ["b", "c"], id="inequality is true of the absent"),
        pytest.param("tier in (one,two)", ["a", "b"], id="in"),
        pytest.param("tier in (one, three)", ["a"], id="in with a space"),
        pytest.param("tier notin (one)", ["b", "c"], id="notin is true of the absent"),
        pytest.param("tier", ["a", "b"], id="exists"),
        pytest.param("!tier", ["c"], id="does not exist"),
        pytest.param("app=", ["a"], id="an empty value"),
        pytest.param("tier,tier!=two", ["a"], id="all terms must hold"),
        pytest.param("", ["a", "b", "c"], id="an empty selector selects all"),
    ],
)
async def test_labels_select(shelf: Api, selector: str, want: list[str]) -> None:
    assert await shelf.names(WIDGETS, labelSelector=selector) == want


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        pytest.param("spec.color=green", ["b"], id="a selectable field"),
        pytest.param("spec.color!=green", ["a", "c"], id="its inequality"),
        pytest.param("status.phase=Done", ["c"], id="a selectable field of the status"),
        pytest.param("status.phase=", ["a", "b"], id="an absent field is empty"),
        pytest.param("status.phase!=Done", ["a", "b"], id="an absent field is unequal"),
        pytest.param("metadata.name=a", ["a"], id="the name"),
        pytest.param("spec.color=red,metadata.name=b", [], id="all terms must hold"),
    ],
)
async def test_fields_select(shelf: Api, selector: str, want: list[str]) -> None:
    (await shelf.merge_patch(WIDGETS, "c", {"status": {"phase": "Done"}}, "status")).ok()
    assert await shelf.names(WIDGETS, fieldSelector=selector) == want


async def test_both_selectors_must_hold(shelf: Api) -> None:
    assert await shelf.names(WIDGETS, labelSelector="tier", fieldSelector="spec.color!=red") == ["b"]


async def test_a_field_that_is_not_selectable_is_a_bad_request(shelf: Api) -> None:
    status = (await shelf.list_all(WIDGETS, fieldSelector="spec.size=1")).refused(400, "BadRequest")
    assert "field label not supported: spec.size" in status["message"]


async def test_a_label_selector_that_does_not_parse_is_a_bad_request(shelf: Api) -> None:
    (await shelf.list_all(WIDGETS, labelSelector="tier in (one")).refused(400, "BadRequest")


async def test_the_namespace_can_be_selected_across_namespaces(shelf: Api) -> None:
    params = {"fieldSelector": f"metadata.namespace={shelf.namespace}"}
    items = (await shelf.call("GET", WIDGETS.path(None), params=params)).ok()["items"]
    assert [item["metadata"]["name"] for item in items] == ["a", "b", "c"]


async def test_pods_are_selected_by_phase_and_node(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(PODS, PODS.make(name, spec={"containers": [{"name": "main", "image": "none"}]}))).ok()
    (await api.merge_patch(PODS, "b", {"status": {"phase": "Running"}}, "status")).ok()
    assert await api.names(PODS, fieldSelector="status.phase=Running") == ["b"]
    assert await api.names(PODS, fieldSelector="status.phase!=Running") == ["a"]
    assert await api.names(PODS, fieldSelector="spec.nodeName=") == ["a", "b"]


async def test_secrets_are_selected_by_type(api: Api) -> None:
    (await api.create(SECRETS, SECRETS.make("a", type="example.com/token"))).ok()
    (await api.create(SECRETS, SECRETS.make("b"))).ok()
    assert await api.names(SECRETS, fieldSelector="type=example.com/token") == ["a"]


async def test_a_collection_is_deleted_by_selector(shelf: Api) -> None:
    await shelf.call("DELETE", WIDGETS.path(shelf.namespace), params={"labelSelector": "tier"})
    assert await shelf.names(WIDGETS) == ["c"]


async def test_a_label_selector_spares_other_kinds(api: Api) -> None:
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("a", metadata={"labels": {"tier": "one"}}))).ok()
    assert await api.names(CONFIG_MAPS, labelSelector="tier=one") == ["a"]
    assert await api.names(WIDGETS, labelSelector="tier=one") == []
