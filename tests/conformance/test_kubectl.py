"""The real kubectl, as people use it."""

from __future__ import annotations

import asyncio
import re

from tests.conformance.kubectl import Kubectl
from tests.conformance.widgets import WIDGETS, make_widget
from tests.kube.client import CONFIG_MAPS, EVENTS, PODS, SECRETS, Api, Json


async def test_get_prints_the_columns_of_the_kind(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a", size=5))).ok()
    (await api.merge_patch(WIDGETS, "a", {"status": {"phase": "Done"}}, "status")).ok()
    header, row = (await kubectl("get", "widgets")).table()
    assert header == ["NAME", "COLOR", "SIZE", "PHASE", "READY", "FINISHED", "AGE"]
    assert row[:4] == ["a", "red", "5", "Done"]
    assert re.fullmatch(r"\d+s", row[-1])


async def test_get_wide_adds_columns_of_lower_priority(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    header, row = (await kubectl("get", "widgets", "-o", "wide")).table()
    assert header == ["NAME", "COLOR", "SIZE", "PHASE", "READY", "FINISHED", "TITLE", "AGE"]
    assert row[-3:-1] == ["a", "widget"]


async def test_get_knows_short_names_singulars_and_categories(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    for word in ("wd", "widget", "widgets.conformance.test", "widgets.v1.conformance.test", "gadgets"):
        assert (await kubectl("get", word, "-o", "name")).ok().split() == ["widget.conformance.test/a"]


async def test_get_yaml_and_json_print_the_object(api: Api, kubectl: Kubectl) -> None:
    created = (await api.create(WIDGETS, make_widget("a"))).ok()
    assert "title: a widget" in (await kubectl("get", "wd", "a", "-o", "yaml")).ok()
    printed = (await kubectl("get", "wd", "a", "-o", "json", "--show-managed-fields")).json()
    assert printed == created
    path = (await kubectl("get", "wd", "a", "-o", "jsonpath={.spec.limits.mode}")).ok()
    assert path == "fast"


async def test_get_sorts_selects_and_spans_namespaces(api: Api, kubectl: Kubectl) -> None:
    for name, size in (("a", 3), ("b", 1)):
        (await api.create(WIDGETS, make_widget(name, size=size, metadata={"labels": {"n": name}}))).ok()
    rows = (await kubectl("get", "wd", "--sort-by=.spec.size", "--no-headers")).table()
    assert [row[0] for row in rows] == ["b", "a"]
    assert (await kubectl("get", "wd", "-l", "n in (b)", "-o", "name")).ok() == "widget.conformance.test/b\n"
    one = await kubectl("get", "wd", "--field-selector", "spec.color=red,metadata.name=a", "-o", "name")
    assert one.ok() == "widget.conformance.test/a\n"
    rows = (await kubectl("get", "wd", "--all-namespaces", "--no-headers")).table()
    assert [api.namespace, "a"] in [row[:2] for row in rows]


async def test_get_of_nothing_says_so(kubectl: Kubectl) -> None:
    output = await kubectl("get", "widgets")
    assert (output.code, output.out) == (0, "")
    assert "No resources found in" in output.err
    output = await kubectl("get", "widgets", "a")
    assert output.code == 1
    assert output.err == 'Error from server (NotFound): widgets.conformance.test "a" not found\n'


async def test_get_watch_prints_each_change(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    async with kubectl.following("get", "wd", "-w", "--output-watch-events", "--no-headers") as lines:

        async def next_line() -> list[str]:
            return (await asyncio.wait_for(lines.readline(), 60)).decode().split()

        assert (await next_line())[:2] == ["ADDED", "a"]
        (await api.merge_patch(WIDGETS, "a", {"spec": {"size": 77}})).ok()
        assert (await next_line())[:4] == ["MODIFIED", "a", "red", "77"]
        (await api.delete(WIDGETS, "a")).ok()
        assert (await next_line())[:2] == ["DELETED", "a"]


async def test_describe_shows_the_object_and_its_events(api: Api, kubectl: Kubectl) -> None:
    widget = (await api.create(WIDGETS, make_widget("a"))).ok()
    regarding = {"apiVersion": "conformance.test/v1", "kind": "Widget", "name": "a", "namespace": api.namespace}
    event = EVENTS.make(
        "a.1",
        eventTime="2026-01-01T00:00:00.000000Z",
        type="Normal",
        reason="Painted",
        action="Paint",
        note="it is red now",
        reportingController="conformance.test/operator",
        reportingInstance="operator-0",
        regarding=regarding | {"uid": widget["metadata"]["uid"]},
    )
    (await api.create(EVENTS, event)).ok()
    text = (await kubectl("describe", "wd", "a")).ok()
    assert re.search(r"Name:\s+a\n", text)
    assert re.search(r"Title:\s+a widget\n", text)
    assert re.search(r"Normal\s+Painted\s.*it is red now", text)


async def test_apply_creates_changes_and_leaves_alone(api: Api, kubectl: Kubectl) -> None:
    widget = make_widget("a", host="h", tags=["x"])
    assert (await kubectl("apply", "-f", "-", stdin=widget)).ok() == "widget.conformance.test/a created\n"
    assert (await kubectl("apply", "-f", "-", stdin=widget)).ok() == "widget.conformance.test/a unchanged\n"
    (await api.merge_patch(WIDGETS, "a", {"spec": {"code": "theirs"}})).ok()
    changed = make_widget("a", size=9, tags=["x", "y"])
    assert (await kubectl("apply", "-f", "-", stdin=changed)).ok() == "widget.conformance.test/a configured\n"
    spec = (await api.get(WIDGETS, "a")).ok()["spec"]
    assert (spec["size"], spec["tags"], spec["code"]) == (9, ["x", "y"], "theirs")
    assert "host" not in spec


async def test_apply_merges_lists_of_built_in_kinds(api: Api, kubectl: Kubectl) -> None:
    def pod(image: str) -> Json:
        return PODS.make("a", spec={"containers": [{"name": "main", "image": image}]})

    (await kubectl("apply", "-f", "-", stdin=pod("one"))).ok()
    assert (await kubectl("apply", "-f", "-", stdin=pod("two"))).ok() == "pod/a configured\n"
    assert (await api.get(PODS, "a")).ok()["spec"]["containers"][0]["image"] == "two"


async def test_server_side_apply_creates_and_changes(api: Api, kubectl: Kubectl) -> None:
    for size in (2, 3):
        output = await kubectl("apply", "--server-side", "-f", "-", stdin=make_widget("a", size=size))
        assert output.ok() == "widget.conformance.test/a serverside-applied\n"
        assert (await api.get(WIDGETS, "a")).ok()["spec"]["size"] == size


async def test_server_side_apply_drops_what_it_no_longer_says(api: Api, kubectl: Kubectl) -> None:
    (await kubectl("apply", "--server-side", "-f", "-", stdin=make_widget("a", host="h"))).ok()
    (await kubectl("apply", "--server-side", "-f", "-", stdin=make_widget("a"))).ok()
    assert "host" not in (await api.get(WIDGETS, "a")).ok()["spec"]


async def test_nonsense_is_refused_with_the_words_of_the_schema(kubectl: Kubectl) -> None:
    output = await kubectl("apply", "-f", "-", stdin=make_widget("a", color="pink"))
    assert output.code == 1
    assert 'The Widget "a" is invalid' in output.err
    assert 'spec.color: Unsupported value: "pink": supported values: "red", "green", "blue"' in output.err
    output = await kubectl("apply", "-f", "-", stdin=make_widget("a", least=2, most=1))
    assert "least must not exceed most" in output.err


async def test_a_misspelt_field_is_refused_before_it_is_pruned(kubectl: Kubectl) -> None:
    for verb in ("create", "apply"):
        output = await kubectl(verb, "-f", "-", stdin=make_widget("a", titel="x"))
        assert output.code == 1
        assert 'unknown field "spec.titel"' in output.err


async def test_create_of_what_exists_says_so(kubectl: Kubectl) -> None:
    assert (await kubectl("create", "-f", "-", stdin=make_widget("a"))).ok() == "widget.conformance.test/a created\n"
    output = await kubectl("create", "-f", "-", stdin=make_widget("a"))
    assert (output.code, "(AlreadyExists)" in output.err) == (1, True)


async def test_wait_returns_once_a_condition_holds(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    waiting = asyncio.create_task(kubectl("wait", "--for=condition=Ready", "wd/a", "--timeout=90s"))
    conditions = [{"type": "Ready", "status": "True"}]
    (await api.merge_patch(WIDGETS, "a", {"status": {"conditions": conditions}}, "status")).ok()
    assert (await waiting).ok() == "widget.conformance.test/a condition met\n"
    output = await kubectl("wait", "--for=jsonpath={.spec.color}=red", "wd/a", "--timeout=90s")
    assert output.ok() == "widget.conformance.test/a condition met\n"


async def test_wait_returns_once_an_object_is_deleted(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a", metadata={"finalizers": ["conformance.test/hold"]}))).ok()
    (await api.delete(WIDGETS, "a")).ok()
    waiting = asyncio.create_task(kubectl("wait", "--for=delete", "wd/a", "--timeout=90s"))
    (await api.merge_patch(WIDGETS, "a", {"metadata": {"finalizers": None}})).ok()
    assert (await waiting).code == 0


async def test_wait_gives_up_after_its_timeout(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    output = await kubectl("wait", "--for=condition=Ready", "wd/a", "--timeout=1s")
    assert output.code == 1
    assert "timed out waiting for the condition on widgets/a" in output.err


async def test_explain_tells_the_descriptions(kubectl: Kubectl) -> None:
    text = (await kubectl("explain", "wd.spec.title")).ok()
    assert re.search(r"KIND:\s+Widget", text)
    assert re.search(r"FIELD: title <string>", text)
    assert "What it is called." in text
    text = (await kubectl("explain", "widgets")).ok()
    assert "A thing to test with." in text
    assert re.search(r"spec\s+<Object> -required-", text)


async def test_scale_sets_the_replicas(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a", replicas=1))).ok()
    output = await kubectl("scale", "wd/a", "--replicas=4", "--current-replicas=1")
    assert output.ok() == "widget.conformance.test/a scaled\n"
    assert (await api.get(WIDGETS, "a")).ok()["spec"]["replicas"] == 4


async def test_delete_waits_until_the_object_is_gone(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    assert (await kubectl("delete", "wd", "a")).ok().startswith('widget.conformance.test "a" deleted')
    assert not await api.exists(WIDGETS, "a")
    output = await kubectl("delete", "wd", "a")
    assert (output.code, "(NotFound)" in output.err) == (1, True)
    assert (await kubectl("delete", "wd", "a", "--ignore-not-found")).code == 0


async def test_delete_takes_all_that_a_selector_selects(api: Api, kubectl: Kubectl) -> None:
    for name, tier in (("a", "one"), ("b", "one"), ("c", "two")):
        (await api.create(WIDGETS, make_widget(name, metadata={"labels": {"tier": tier}}))).ok()
    (await kubectl("delete", "wd", "-l", "tier=one")).ok()
    assert await api.names(WIDGETS) == ["c"]
    (await kubectl("delete", "wd", "--all")).ok()
    assert await api.names(WIDGETS) == []


async def test_label_annotate_and_patch_write(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a"))).ok()
    (await kubectl("label", "wd", "a", "x=y")).ok()
    (await kubectl("annotate", "wd", "a", "c=d")).ok()
    (await kubectl("patch", "wd", "a", "--type=merge", "-p", '{"spec": {"size": 8}}')).ok()
    (
        await kubectl("patch", "wd", "a", "--subresource=status", "--type=merge", "-p", '{"status": {"phase": "Done"}}')
    ).ok()
    widget = (await api.get(WIDGETS, "a")).ok()
    assert widget["metadata"]["labels"] == {"x": "y"}
    assert widget["metadata"]["annotations"] == {"c": "d"}
    assert (widget["spec"]["size"], widget["status"]["phase"]) == (8, "Done")


async def test_replace_writes_the_whole_object(api: Api, kubectl: Kubectl) -> None:
    (await api.create(WIDGETS, make_widget("a", host="h"))).ok()
    (await kubectl("replace", "-f", "-", stdin=make_widget("a", size=4))).ok()
    spec = (await api.get(WIDGETS, "a")).ok()["spec"]
    assert spec["size"] == 4
    assert "host" not in spec


async def test_pods_secrets_and_config_maps_are_shown(api: Api, kubectl: Kubectl) -> None:
    (await api.create(PODS, PODS.make("p", spec={"containers": [{"name": "main", "image": "none"}]}))).ok()
    (await api.create(SECRETS, SECRETS.make("s", stringData={"x": "1"}))).ok()
    (await api.create(CONFIG_MAPS, CONFIG_MAPS.make("m", data={"x": "1"}))).ok()
    header, row = (await kubectl("get", "pods")).table()
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["p", "0/1", "Pending", "0"]
    assert (await kubectl("get", "secrets", "--no-headers")).table()[0][:3] == ["s", "Opaque", "1"]
    assert (await kubectl("get", "cm", "m", "--no-headers")).table()[0][:2] == ["m", "1"]
    assert re.search(r"Status:\s+Pending", (await kubectl("describe", "pod", "p")).ok())


async def test_events_are_shown(api: Api, kubectl: Kubectl) -> None:
    regarding = {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": api.namespace, "uid": "1"}
    event = EVENTS.make(
        "p.1",
        eventTime="2026-01-01T00:00:00.000000Z",
        type="Warning",
        reason="Broken",
        action="Break",
        note="it broke",
        reportingController="conformance.test/operator",
        reportingInstance="operator-0",
        regarding=regarding,
    )
    (await api.create(EVENTS, event)).ok()
    text = (await kubectl("get", "events")).ok()
    assert re.search(r"Warning\s+Broken\s+pod/p\s+it broke", text)
    assert "it broke" in (await kubectl("events", "--for", "pod/p")).ok()


async def test_api_resources_and_crds_are_listed(kubectl: Kubectl) -> None:
    rows = (await kubectl("api-resources", "--api-group=conformance.test", "--no-headers")).table()
    assert rows == [["widgets", "wd", "conformance.test/v1", "true", "Widget"]]
    assert "widgets.conformance.test" in (await kubectl("get", "crd", "-o", "name")).ok()


async def test_diff_tells_what_apply_would_change(api: Api, kubectl: Kubectl) -> None:
    (await kubectl("apply", "-f", "-", stdin=make_widget("a"))).ok()
    output = await kubectl("diff", "-f", "-", stdin=make_widget("a", size=6))
    assert output.code == 1
    assert "+  size: 6" in output.out
    assert (await api.get(WIDGETS, "a")).ok()["spec"]["size"] == 1


async def test_raw_answers_are_passed_through(kubectl: Kubectl) -> None:
    assert (await kubectl("get", "--raw", "/readyz")).ok() == "ok"
    assert "Server Version: v1." in (await kubectl("version")).ok()


async def test_deleting_in_the_foreground_and_orphaning_are_understood(collected: Api, kubectl: Kubectl) -> None:
    (await collected.create(WIDGETS, make_widget("a"))).ok()
    (await kubectl("delete", "wd", "a", "--cascade=foreground", "--timeout=60s")).ok()
    assert not await collected.exists(WIDGETS, "a")
