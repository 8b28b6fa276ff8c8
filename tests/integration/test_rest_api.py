"""Hatchet's REST API word by word: whose token may ask for what, pages and their bounds, ids, what is refused."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.kinds import POOLS, SECRETS, WORKFLOWS
from hatchet_operator.errors import NotFound
from hatchet_operator.pace import Pace
from hatchet_operator.receiver.bounds import Bounds
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import tenant_id
from hatchet_sdk import Context, Hatchet
from tests.integration.inprocess import KEY, NAMESPACE, SECONDS, Instance, receiving, running_operator
from tests.kube.eventually import eventually

TENANT = tenant_id(NAMESPACE)
RUNS = f"stable/tenants/{TENANT}/workflow-runs"

hatchet = Hatchet()  # for its decorators


@hatchet.workflow()
class Diamond:
    @hatchet.step()
    async def load(self, context: Context) -> dict[str, int]:
        return {"n": context.workflow_input()["n"]}

    @hatchet.step(parents=["load"])
    async def double(self, context: Context) -> dict[str, str]:
        return {"rows": "x" * 2 * int(context.step_output("load")["n"])}


@hatchet.workflow(on_crons=["15 4 * * *"])
class Daily:
    @hatchet.step()
    async def work(self, context: Context) -> None:
        """Do nothing."""


@hatchet.workflow()
class Parent:
    @hatchet.step()
    async def spawn(self, context: Context) -> dict[str, str]:
        child = await context.aio.spawn_workflow("Diamond", {"n": 1}, key="one")
        await child.result()
        return {"attempt": context.step_run_id}


@pytest.fixture
async def instance() -> AsyncIterator[Instance]:
    async with running_operator(events_port=0) as instance:
        yield instance


@pytest.fixture
async def api(instance: Instance) -> AsyncIterator[RestClient]:
    async with RestClient(instance) as client:
        yield client


class RestClient:
    """A client with the token of a pool."""

    def __init__(
        self,
        instance: Instance,
        *,
        namespace: str = NAMESPACE,
        pool: str = "main",
        prefix: str = "",
        address: str | None = None,
    ) -> None:
        assert instance.operator.term is not None
        self.url = f"http://{address or f'127.0.0.1:{instance.operator.term.events_port}'}{prefix}/api/v1/"
        token = mint_token(Caller(namespace=namespace, pool=pool), key=KEY, grpc_address="")
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        self._http = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, timeout=timeout)

    async def __aenter__(self) -> RestClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    def request(self, method: str, path: str, **options: Any) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._http.request(method, self.url + path, **options)

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:  # as JSON says it
        """Return the status of an answer, and its body: of an error, what it says."""
        async with self.request(method, path, **options) as response:
            body: Any = await response.json() if response.status != 204 else None
            if response.status >= 400:
                (error,) = body["errors"]
                return response.status, error["description"]
            return response.status, body

    async def get(self, path: str, **query: Any) -> Any:
        status, body = await self.ask("GET", path, params=query)
        assert status == 200, body
        return body

    async def refused(self, path: str, **query: Any) -> tuple[int, str]:
        status, said = await self.ask("GET", path, params=query)
        assert status >= 400
        return status, said


async def run_all(instance: Instance, *names: str) -> dict[str, str]:
    """Run Diamond once for each name; return the runs' UIDs."""
    await instance.work(Diamond(), Parent())
    made = {name: await instance.create_run(name, "diamond", {"n": 1}) for name in names}
    await asyncio.gather(*(instance.finished(name) for name in names))
    return {name: run["metadata"]["uid"] for name, run in made.items()}


async def test_nobody_asks_without_a_token_or_about_another_namespace(instance: Instance, api: RestClient) -> None:
    await run_all(instance, "a")
    assert (await api.ask("GET", RUNS, headers={"Authorization": "Basic x"}))[0] == 401
    assert (await api.ask("GET", "no/such/path", headers={"Authorization": "Bearer x.y.z"}))[0] == 401
    bank = tenant_id("bank")
    want = f'pool "main" is of namespace "default", which is not tenant {bank}'
    assert await api.refused(f"stable/tenants/{bank}/workflow-runs") == (403, want)
    uid = (await instance.run("a"))["metadata"]["uid"]
    workflow = (await instance.workflow("diamond"))["metadata"]["uid"]
    async with RestClient(instance, namespace="bank") as stranger:
        assert (await stranger.get(f"stable/tenants/{bank}/workflow-runs"))["rows"] == []
        assert (await stranger.get(f"tenants/{bank}/workflows"))["rows"] == []
        assert (await stranger.get(f"tenants/{bank}/worker"))["rows"] == []
        for path in (f"stable/workflow-runs/{uid}", f"stable/tasks/{uid}", f"workflows/{workflow}"):
            assert (await stranger.refused(path))[0] == 404
        ids = {"externalIds": [uid]}
        assert (await stranger.ask("POST", f"stable/tenants/{bank}/tasks/replay", json=ids))[0] == 404


async def test_only_its_pool_pauses_a_worker_and_an_unknown_one_is_paused(instance: Instance, api: RestClient) -> None:
    worker = await (await instance.scripted()).start()
    path, paused = f"workers/{worker.id}", {"isPaused": True}
    async with RestClient(instance, pool="other") as other:
        assert (await other.ask("PATCH", path, json=paused))[0] == 403
    assert (await api.get(path))["status"] == "ACTIVE"
    status, told = await api.ask("PATCH", path, json=paused)
    assert (status, told["status"], told["maxRuns"]) == (200, "PAUSED", 100)
    assert instance.connected() == 0
    assert (await api.ask("PATCH", path, json={"isPaused": False}))[0] == 400
    status, told = await api.ask("PATCH", f"workers/{'0' * 36}", json=paused)
    assert (status, told["status"]) == (200, "INACTIVE")
    assert await api.refused(f"workers/{'0' * 36}") == (404, f'there is no worker "{"0" * 36}" in namespace "default"')


async def test_pages_are_bounded_and_come_newest_first(instance: Instance, api: RestClient) -> None:
    uids = await run_all(instance, "a", "b", "c")
    first = await api.get(RUNS, limit=2)
    second = await api.get(RUNS, limit=2, offset=2)
    rows = [*first["rows"], *second["rows"]]
    assert first["pagination"] == {"current_page": 1, "next_page": 2, "num_pages": 2}
    assert {row["metadata"]["id"] for row in rows} == set(uids.values())
    assert [row["createdAt"] for row in rows] == sorted((row["createdAt"] for row in rows), reverse=True)
    assert (await api.get(RUNS, statuses="FAILED"))["rows"] == []
    assert (await api.get(RUNS, since="2100-01-01T00:00:00Z"))["rows"] == []
    assert await api.get(f"{RUNS}/external-ids", workflow_ids="diamond") == [row["metadata"]["id"] for row in rows]
    counts = {each["status"]: each["count"] for each in await api.get(f"stable/tenants/{TENANT}/task-metrics")}
    assert counts == {"QUEUED": 0, "RUNNING": 0, "COMPLETED": 3, "FAILED": 0, "CANCELLED": 0}
    assert await api.refused(RUNS, limit=1001) == (400, 'limit is "1001"; expected 1 to 1000')
    assert await api.refused(RUNS, workflow_ids="nothing") == (
        404,
        'there is no workflow "nothing" in namespace "default"',
    )


async def test_a_list_that_costs_too_much_is_refused_and_not_cut_off() -> None:
    async with running_operator(events_port=0, pace=Pace(grace=0.0, runs_in_one_call=1)) as instance:
        await run_all(instance, "a", "b")
        async with RestClient(instance) as api:
            status, said = await api.refused(RUNS, additional_metadata="team:blue")
            assert (status, said[:56]) == (400, "2 runs would have to be read to find those that are aske")
            assert len((await api.get(RUNS, limit=1))["rows"]) == 1, "what memory knows needs no reading"


async def test_a_page_that_is_too_large_is_refused_and_not_cut_off(instance: Instance) -> None:
    await run_all(instance, "a")
    async with receiving(instance, Bounds(answer_bytes=10)) as address, RestClient(instance, address=address) as api:
        status, said = await api.refused(RUNS, limit=1)
        assert (status, "without these (include_payloads=False)" in said) == (400, True)
        assert len((await api.get(RUNS, limit=1, include_payloads="false"))["rows"]) == 1


async def test_metadata_is_matched_and_paged(instance: Instance, api: RestClient) -> None:
    await instance.work(Diamond())
    for number in range(3):
        team = "blue" if number else "red"
        await instance.create_run(f"run-{number}", "diamond", {"n": 1}, additionalMetadata={"team": team})
    found = await api.get(RUNS, additional_metadata="team:blue", limit=1)
    assert (len(found["rows"]), found["pagination"]["num_pages"]) == (1, 2)
    last = await api.get(RUNS, additional_metadata="team:blue", limit=1, offset=1)
    assert {row["displayName"] for each in (found, last) for row in each["rows"]} == {"run-1", "run-2"}


async def test_an_id_of_a_task_is_good_for_ever_and_one_of_an_attempt_while_it_goes_on(
    instance: Instance, api: RestClient
) -> None:
    worker = await instance.scripted()
    await worker.put_workflow("Two", [{}, {"readable_id": "last", "parents": ["work"]}])
    await worker.start()
    made = await instance.create_run("two", "two")
    action = await worker.next()
    path = f"stable/tasks/{action.task_run_external_id}"
    assert (await api.get(path))["displayName"] == "work"
    await worker.complete(action, {})
    await worker.complete(await worker.next(), {})
    await instance.finished("two")
    details = await api.get(f"stable/workflow-runs/{made['metadata']['uid']}")
    for task in details["tasks"]:
        again = await api.get(f"stable/tasks/{task['taskExternalId']}")
        assert (again["displayName"], again["status"]) == (task["displayName"], "COMPLETED")
    status, said = await api.refused(path)
    assert (status, "the id of an attempt means something only until its end" in said) == (404, True)
    assert (await api.refused(f"stable/tasks/{made['metadata']['uid']}"))[0] == 400


async def test_children_are_found_by_their_parent_and_by_its_step(instance: Instance, api: RestClient) -> None:
    await run_all(instance)
    made = await instance.create_run("parent", "parent")
    await instance.finished("parent")
    uid = made["metadata"]["uid"]
    (child,) = (await api.get(RUNS, parent_task_external_id=uid))["rows"]
    assert (child["workflowName"], child["parentTaskExternalId"], child["type"]) == ("Diamond", uid, "DAG")
    (again,) = (await api.get(f"tenants/{TENANT}/workflows/runs", parentWorkflowRunId=uid))["rows"]
    assert (again["metadata"]["id"], again["parentId"]) == (child["metadata"]["id"], uid)
    tasks = (await api.get(RUNS, parent_task_external_id=uid, only_tasks="true"))["rows"]
    assert [task["displayName"] for task in tasks] == ["load", "double"]
    none = await api.get(RUNS, parent_task_external_id=child["children"][0]["taskExternalId"])
    assert none["rows"] == [], "nor has this step of the child children"


async def test_what_can_not_be_replayed_is_told_and_what_is_over_is_no_error_to_cancel(
    instance: Instance, api: RestClient
) -> None:
    uids = await run_all(instance, "a")
    cancel, replay = (f"stable/tenants/{TENANT}/tasks/{act}" for act in ("cancel", "replay"))
    assert await api.ask("POST", cancel, json={"externalIds": [uids["a"]]}) == (200, {"ids": []})
    assert await api.ask("POST", replay, json={"externalIds": [uids["a"], "0" * 36]}) == (200, {"ids": [uids["a"]]})
    await instance.finished("a", reruns=1)
    await instance.create_run("held", "diamond", {"n": 1}, suspended=True)
    held = (await instance.run("held"))["metadata"]["uid"]
    status, said = await api.ask("POST", replay, json={"externalIds": [held]})
    assert (status, said[:14]) == (400, "run held goes ")
    assert await api.ask("POST", cancel, json={}) == (
        400,
        "neither externalIds nor a filter says which runs are meant",
    )
    assert (await api.ask("POST", cancel, json={"filter": {}}))[1] == "filter.since: Field required"
    assert (await api.ask("POST", cancel, data=b"x"))[0] == 415


async def test_requests_for_runs_are_checked(instance: Instance, api: RestClient) -> None:
    await run_all(instance)
    trigger = f"stable/tenants/{TENANT}/workflow-runs/trigger"
    status, said = await api.ask("POST", trigger, json={"workflowName": "Dimond"})
    assert (status, "Diamond" in said) == (404, True)
    assert (await api.ask("POST", trigger, json={"input": {}}))[1] == "workflowName: Field required"
    again = {"workflowName": "Diamond", "input": {"n": 1}, "additionalMetadata": {"dedupe": "one"}}
    assert (await api.ask("POST", trigger, json=again))[0] == 200
    assert (await api.ask("POST", trigger, json=again))[0] == 409
    later = f"tenants/{TENANT}/workflows/Diamond/scheduled"
    status, made = await api.ask("POST", later, json={"triggerAt": "2100-01-31T12:00:00Z", "input": {"n": 1}})
    assert (status, made["workflowRunStatus"]) == (200, "PENDING")
    nothing = {"triggerAt": "2100-01-31T12:00:00Z", "input": None, "additionalMetadata": None}  # as Go's clients say it
    status, other = await api.ask("POST", later.replace("Diamond", "Parent"), json=nothing)
    assert (status, other.get("input", {})) == (200, {})
    listed = await api.get(f"tenants/{TENANT}/workflows/scheduled", workflowId="diamond")
    assert [row["metadata"]["id"] for row in listed["rows"]] == [made["metadata"]["id"]]
    assert (await api.get(f"tenants/{TENANT}/workflows/scheduled", workflowId="daily"))["rows"] == []
    assert (await api.ask("DELETE", f"tenants/{TENANT}/workflows/scheduled/{made['metadata']['id']}"))[0] == 204
    assert (await api.get(f"tenants/{TENANT}/workflows/scheduled", workflowId="diamond"))["rows"] == [], "at once"
    assert (await instance.finished(made["workflowRunName"]))["phase"] == "Cancelled"
    assert (await api.ask("DELETE", f"tenants/{TENANT}/workflows/scheduled/{made['metadata']['id']}"))[0] == 400


async def test_crons_are_shown_as_they_are_in_effect(instance: Instance, api: RestClient) -> None:
    await instance.work(Daily(), Diamond())
    ours = {"schedule": "30 6 * * MON-FRI", "timeZone": "Europe/Berlin", "input": {"n": 2}, "priority": 3}
    spec = {"crons": [ours | {"suspended": True, "additionalMetadata": {"team": "blue"}}]}
    await instance.api.patch(WORKFLOWS, NAMESPACE, "diamond", {"spec": spec})
    crons = f"tenants/{TENANT}/workflows/crons"

    async def both_are_there() -> bool:
        return len((await api.get(crons))["rows"]) == 2

    await eventually(both_are_there)
    registered, written = (await api.get(crons))["rows"]
    assert (registered["workflowName"], registered["cron"], registered["enabled"]) == ("Daily", "15 4 * * *", True)
    assert (written["workflowName"], written["enabled"]) == ("Diamond", False)
    assert written["cron"] == "CRON_TZ=Europe/Berlin 30 6 * * MON-FRI"
    assert (written["input"], written["priority"]) == ({"n": 2}, 3)
    assert await api.get(f"{crons}/{written['metadata']['id']}") == written
    for query, want in (
        ({"workflowId": registered["workflowId"]}, [registered]),
        ({"workflowName": "Diamond"}, [written]),
        ({"additionalMetadata": "team:blue"}, [written]),
        ({"additionalMetadata": "team:red"}, []),
        ({"offset": 1, "limit": 1}, [written]),
    ):
        assert (await api.get(crons, **query))["rows"] == want, query
    assert (await api.ask("GET", f"{crons}/none"))[0] == 404
    assert (await api.ask("GET", crons, params={"cronName": "mine"}))[0] == 400
    status, said = await api.ask("DELETE", f"{crons}/{written['metadata']['id']}")
    assert (status, "are changed in code, or in spec.crons" in said) == (405, True)


async def test_what_is_not_served_says_so_and_which_methods_are(instance: Instance, api: RestClient) -> None:
    status, said = await api.refused("tenants/x/nonsense")
    want = "this version of hatchet-operator does not serve /api/v1/tenants/x/nonsense; docs/published-sdk.md says what"
    assert (status, said) == (405, f"{want} is served")
    async with api.request("DELETE", "workflows/abc") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
        assert "are suspended and deleted with kubectl" in (await response.json())["errors"][0]["description"]


async def test_a_path_before_it_does_not_matter(instance: Instance) -> None:
    async with RestClient(instance, prefix="/behind/a/proxy") as api:
        assert (await api.get(RUNS))["rows"] == []


async def test_what_is_in_the_store_is_read_for_a_run_and_stays_a_reference_in_a_list(tmp_path: Path) -> None:
    async with running_operator(events_port=0, payload_store=tmp_path.as_uri(), payload_inline_bytes=1024) as instance:
        await instance.work(Diamond(), payloads=f"{tmp_path.as_uri()}/{NAMESPACE}", payloads_above=1024)
        made = await instance.create_run("large", "diamond", {"n": 5000})
        await instance.finished("large")
        async with RestClient(instance) as api:
            path = f"stable/workflow-runs/{made['metadata']['uid']}"
            assert (await api.get(path))["run"]["output"]["double"] == {"rows": "x" * 10_000}
            (row,) = (await api.get(RUNS))["rows"]
            assert "hatchet-operator.dev/payload" in row["output"]["double"]
        bounds = Bounds(answer_bytes=10_000)
        async with receiving(instance, bounds) as address, RestClient(instance, address=address) as api:
            status, said = await api.refused(path)
            assert (status, "more than the 10000 that are answered" in said) == (400, True)


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        pytest.param({}, "https://hatchet-operator-has-no-rest-api.invalid", id="it is not served"),
        pytest.param({"events_port": 0}, "http://127.0.0.1:{port}", id="it is where the events come to"),
        pytest.param({"events_port": 0, "rest_url": "https://h.example/x"}, "https://h.example/x", id="as configured"),
    ],
)
async def test_a_pools_token_says_where_it_is(settings: dict[str, Any], want: str) -> None:
    async with running_operator(**settings) as instance:
        template = {"spec": {"containers": [{"name": "worker", "image": "etl:1"}]}}
        body = {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": {"name": "main"}}
        await instance.api.create(POOLS, NAMESPACE, {**body, "spec": {"template": template}})
        secret: Json = {}

        async def holds() -> bool:
            nonlocal secret
            try:
                secret = await instance.api.get(SECRETS, NAMESPACE, "main-token")
            except NotFound:
                return False
            return True

        await eventually(holds, within_seconds=SECONDS)
        claims = jwt.decode(base64.b64decode(secret["data"]["token"]), options={"verify_signature": False})
        assert instance.operator.term is not None
        assert claims["server_url"] == want.format(port=instance.operator.term.events_port)
