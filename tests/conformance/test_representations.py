"""Other shapes of the same objects: tables for kubectl, metadata for informers."""

from __future__ import annotations

from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CONFIG_MAPS, PODS, Api

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


async def test_a_table_has_the_printer_columns_of_its_kind(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", size=5))).ok()
    table = (await api.list_all(WIDGETS, accept=TABLE)).ok()
    assert (table["apiVersion"], table["kind"]) == ("meta.k8s.io/v1", "Table")
    names = ["Name", "Color", "Size", "Phase", "Ready", "Finished", "Title", "Age"]
    columns = {column["name"]: column for column in table["columnDefinitions"]}
    assert list(columns) == names
    assert columns["Name"]["format"] == "name"
    assert columns["Size"]["type"] == "integer"
    assert columns["Phase"]["description"] == "Where it stands."
    assert columns["Title"]["priority"] == 1
    assert columns["Age"]["type"] == "date"


async def test_a_row_has_a_cell_for_each_column_and_the_metadata(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a", size=5))).ok()
    conditions = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Done", "conditions": conditions}}, "status")).ok()
    (await api.create(WIDGETS, make_widget("b"))).ok()
    one, two = (await api.list_all(WIDGETS, accept=TABLE)).ok()["rows"]
    assert one["cells"][:-1] == ["a", "red", 5, "Done", "True", None, "a widget"]
    assert two["cells"][:-1] == ["b", "red", 1, None, None, None, "a widget"]
    assert one["cells"][-1] in {f"{seconds}s" for seconds in range(30)}
    assert one["object"]["kind"] == "PartialObjectMetadata"
    assert one["object"]["metadata"]["name"] == "a"


async def test_one_object_is_a_table_too(api: Api) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    table = (await api.get(WIDGETS, "a", accept=TABLE)).ok()
    assert table["kind"] == "Table"
    assert len(table["rows"]) == 1


async def test_rows_can_carry_whole_objects_or_none(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    whole = (await api.list_all(WIDGETS, accept=TABLE, includeObject="Object")).ok()
    assert whole["rows"][0]["object"] == created
    none = (await api.list_all(WIDGETS, accept=TABLE, includeObject="None")).ok()
    assert none["rows"][0]["object"] is None


async def test_a_table_is_watched_row_by_row(api: Api) -> None:
    start = (await api.list_all(WIDGETS)).ok()["metadata"]["resourceVersion"]
    async with api.watch(WIDGETS, accept=TABLE, resourceVersion=start) as watch:
        for name in ("a", "b"):
            (await api.create(WIDGETS, make_widget(name))).ok()
        first, second = await watch.next(), await watch.next()
    assert (first.type, first.object["kind"]) == ("ADDED", "Table")
    assert first.object["rows"][0]["cells"][0] == "a"
    assert second.object["rows"][0]["cells"][0] == "b"


async def test_a_table_of_a_kind_without_columns_has_name_and_age(api: Api) -> None:
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("a", data={"x": "y"}))).ok()
    table = (await api.list_all(CONFIG_MAPS, accept=TABLE)).ok()
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names[0] == "Name"
    assert names[-1] == "Age"


async def test_a_table_of_pods_shows_their_status(api: Api) -> None:
    (await api.create(PODS, PODS.make("a", spec={"containers": [{"name": "main", "image": "none"}]}))).ok()
    (await api.merge_patch(PODS, "a", {"status": {"phase": "Running"}}, "status")).ok()
    table = (await api.list_all(PODS, accept=TABLE)).ok()
    row = dict(zip((column["name"] for column in table["columnDefinitions"]), table["rows"][0]["cells"], strict=True))
    assert (row["Name"], row["Ready"], row["Status"]) == ("a", "0/1", "Running")


async def test_metadata_alone_can_be_asked_for(api: Api) -> None:
    created = (await api.create(WIDGETS, make_widget("a", metadata={"labels": {"x": "y"}}))).ok()
    want = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": created["metadata"]}
    assert (await api.get(WIDGETS, "a", accept=METADATA)).ok() == want
    body = (await api.list_all(WIDGETS, accept=METADATA_LIST)).ok()
    assert body["kind"] == "PartialObjectMetadataList"
    assert [item["metadata"] for item in body["items"]] == [created["metadata"]]


async def test_metadata_alone_can_be_watched(api: Api) -> None:
    start = (await api.list_all(WIDGETS)).ok()["metadata"]["resourceVersion"]
    async with api.watch(WIDGETS, accept=METADATA, resourceVersion=start) as watch:
        (await api.create(WIDGETS, make_widget("a"))).ok()
        event = await watch.next()
    assert (event.type, event.name, event.object["kind"]) == ("ADDED", "a", "PartialObjectMetadata")
    assert "spec" not in event.object
