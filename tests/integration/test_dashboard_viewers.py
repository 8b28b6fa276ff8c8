"""The page that a cluster serves: a real kube-apiserver decides what each viewer sees and does, in a real Chromium.

No operator runs: runs are objects that somebody made, and what a viewer does to one is a change of its spec.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest
import trustme
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect
from typer.testing import CliRunner

from benchmarks.processes import install_crds
from hatchet_cli.app import app
from hatchet_cli.dashboard.server import Serving, serving_viewers
from hatchet_operator.access.tls import CertificateFiles
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import NAMESPACES, RUNS, Resource
from hatchet_operator.errors import AlreadyExists
from hatchet_operator.resources.base import API_VERSION, GROUP, Json
from tests.integration.harness import free_port
from tests.kube.chromium import browsing, needs_chromium, page_of
from tests.kube.eventually import eventually
from tests.kube.real_api import BinariesMissingError, RealApi

ACCOUNTS = Resource(group="", version="v1", plural="serviceaccounts", kind="ServiceAccount")
RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(group=RBAC, version="v1", plural="roles", kind="Role")
BINDINGS = Resource(group=RBAC, version="v1", plural="rolebindings", kind="RoleBinding")
OURS = ["workflows", "workflowruns", "workerpools", "ratelimits"]
SEES = [{"apiGroups": [GROUP], "resources": OURS, "verbs": ["get", "list", "watch"]}]
CHANGES = [*SEES, {"apiGroups": [GROUP], "resources": ["workflowruns"], "verbs": ["create", "patch"]}]
TEAM, COOKIE = "team", "__Host-hatchet"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    try:
        starting = RealApi(tmp_path_factory.mktemp("real-api"), unsafe_no_fsync=True)
    except BinariesMissingError as missing:
        pytest.skip(str(missing))
    with starting as started:
        asyncio.run(prepare(started))
        yield started


async def prepare(server: RealApi) -> None:
    async with Api(replace(make_endpoint(server), token=server.token), may_write=always) as api:
        await install_crds(api)
        await put(api, NAMESPACES, {"metadata": {"name": TEAM}})


@dataclass(frozen=True, kw_only=True)
class World:
    """A cluster with a namespace of a team, as its administrator sees it, and the page that it serves."""

    admin: Api
    origin: str

    async def person(self, name: str, rules: list[Json]) -> str:
        """Make somebody who may do this in the namespace; return a token."""
        await put(self.admin, ACCOUNTS, {"metadata": {"name": name}})
        await put(self.admin, ROLES, {"metadata": {"name": name}, "rules": rules})
        await self.bind(name)
        tokens = replace(ACCOUNTS, plural=f"{ACCOUNTS.plural}/{name}/token", kind="TokenRequest")
        answer = await self.admin.create(tokens, TEAM, {"spec": {"expirationSeconds": 3600}})
        return str(answer["status"]["token"])

    async def bind(self, name: str) -> None:
        subject = {"kind": "ServiceAccount", "name": name, "namespace": TEAM}
        role = {"apiGroup": RBAC, "kind": "Role", "name": name}
        await put(self.admin, BINDINGS, {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})

    async def unbind(self, name: str) -> None:
        await self.admin.delete(BINDINGS, TEAM, name)

    async def run(self, name: str) -> None:
        body = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": {"name": name}}
        await put(self.admin, RUNS, body | {"spec": {"workflow": "child"}})


async def put(api: Api, resource: Resource, body: Json) -> None:
    try:
        await api.create(resource, TEAM, {"apiVersion": resource.api_version, "kind": resource.kind, **body})
    except AlreadyExists:
        await api.patch(resource, TEAM, body["metadata"]["name"], body)


@pytest.fixture
async def admin(server: RealApi) -> AsyncIterator[Api]:
    async with Api(replace(make_endpoint(server), token=server.token), may_write=always) as api:
        yield api


def make_endpoint(server: RealApi) -> Endpoint:
    return Endpoint(server=server.url, ssl_context=server.endpoint.ssl_context())


def make_serving(server: RealApi, port: int, **settings: Any) -> Serving:
    endpoint = make_endpoint(server)
    origins = frozenset({f"http://localhost:{port}"})
    return Serving(endpoint=endpoint, origins=origins, namespace=TEAM, port=port, ask_seconds=0.5, **settings)


@pytest.fixture
async def world(server: RealApi, admin: Api) -> AsyncIterator[World]:
    port = free_port()
    async with serving_viewers(make_serving(server, port)):
        yield World(admin=admin, origin=f"http://localhost:{port}")


@pytest.fixture
async def http(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(world.origin, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


async def sign_in(page: Page, origin: str, token: str, path: str = "/runs") -> Page:
    await page.goto(origin + path)
    await expect(page.get_by_role("heading", name="Sign in to hatchet")).to_be_visible()
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    return page


@needs_chromium
async def test_two_people_see_and_do_what_each_of_them_may_also_when_that_changes(world: World) -> None:
    await world.run("seen")
    ada, ben = await world.person("ada", CHANGES), await world.person("ben", SEES)
    async with browsing() as browser, page_of(browser) as hers, page_of(browser) as his:
        await sign_in(hers, world.origin, ada, "/runs/seen")
        await sign_in(his, world.origin, ben, "/runs/seen")
        heading, cancel = his.get_by_role("heading", name="seen"), his.get_by_role("button", name="Cancel")
        await expect(heading).to_be_visible()
        await expect(his.get_by_text("system:serviceaccount:team:ben")).to_be_visible()
        await expect(hers.get_by_role("button", name="Cancel")).to_be_visible()
        await expect(cancel).to_be_hidden()

        await put(world.admin, ROLES, {"metadata": {"name": "ben"}, "rules": CHANGES})
        await expect(cancel).to_be_visible()
        await put(world.admin, ROLES, {"metadata": {"name": "ben"}, "rules": SEES})
        await expect(cancel).to_be_hidden()
        await expect(heading).to_be_visible()
        await world.unbind("ben")
        withheld = his.get_by_role("status").filter(
            has_text="You may not list and watch workflowruns in namespace team."
        )
        await expect(withheld).to_be_visible()
        await expect(heading).to_be_hidden()
        found = await Axe().run(his)
        assert found.response["violations"] == [], found.generate_report()
        await world.bind("ben")
        await expect(heading).to_be_visible()
        await expect(withheld).to_be_hidden()

        await hers.get_by_role("button", name="Cancel").click()

        async def is_cancelled() -> bool:
            return bool((await world.admin.get(RUNS, TEAM, "seen"))["spec"].get("cancelled"))

        await eventually(is_cancelled)


@needs_chromium
async def test_a_token_that_is_withdrawn_leads_back_to_the_sign_in(world: World) -> None:
    await world.run("watched")
    token = await world.person("dan", SEES)
    async with browsing() as browser, page_of(browser) as page:
        await sign_in(page, world.origin, "no-token-of-this-cluster")
        await expect(page.get_by_role("alert")).to_contain_text("The API server does not accept this token")
        found = await Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        await sign_in(page, world.origin, token)
        link = page.get_by_role("link", name="watched", exact=True)
        await expect(link).to_be_visible()
        (cookie,) = await page.context.cookies()
        flags = (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"])
        assert flags == (COOKIE, True, True, "Strict")
        assert cookie["value"] not in token
        assert token not in await page.content()
        await world.admin.delete(ACCOUNTS, TEAM, "dan")
        await expect(page.get_by_text("The API server does not accept this token: it has expired")).to_be_visible()
        await expect(link).to_be_hidden()


@needs_chromium
async def test_an_api_server_that_was_away_is_followed_again(server: RealApi, admin: Api) -> None:
    port = free_port()
    async with Relay(server) as relay:
        serving = replace(make_serving(server, port), endpoint=replace(make_endpoint(server), server=relay.url))
        async with serving_viewers(serving), browsing() as browser, page_of(browser) as page:
            world = World(admin=admin, origin=f"http://localhost:{port}")
            await world.run("before")
            await sign_in(page, world.origin, await world.person("lea", SEES))
            await expect(page.get_by_role("link", name="before", exact=True)).to_be_visible()
            await relay.cut()
            told = page.get_by_text("This may be out of date")
            await expect(told).to_be_visible()
            await expect(page.get_by_role("link", name="before", exact=True)).to_be_visible()
            await world.run("meanwhile")
            await relay.listen()
            await expect(page.get_by_role("link", name="meanwhile", exact=True)).to_be_visible()
            await expect(told).to_be_hidden()


class Relay:
    """Leads to the API server, unless it is cut."""

    def __init__(self, server: RealApi) -> None:
        self._target = urlsplit(server.url).port
        self._port = free_port()
        self._connections: set[asyncio.Task[None]] = set()
        self.url = f"https://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Relay:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def listen(self) -> None:
        self._listening = await asyncio.start_server(self._connect, "127.0.0.1", self._port)

    async def cut(self) -> None:
        self._listening.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with suppress(asyncio.CancelledError, ConnectionError):
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_copy(reader, back))
                    group.create_task(_copy(there, writer))
            finally:
                back.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_whoever_signs_out_has_to_sign_in_again(world: World, http: aiohttp.ClientSession) -> None:
    token = await world.person("eve", SEES)
    origin = {"Origin": world.origin}
    async with http.post("/api/session", json={"token": token}, headers=origin) as answer:
        assert answer.status == 200
        morsel = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    headers = {"Cookie": f"{COOKIE}={morsel.value}", **origin}
    async with http.get("/api/session", headers=headers) as answer:
        want = {"namespace": TEAM, "user": "system:serviceaccount:team:eve", "signsOut": True}
        assert await answer.json() == want
        assert answer.headers["Cache-Control"] == "no-store"
    async with http.get(f"/api/namespaces/{TEAM}/rows", headers=headers) as rows:
        async with http.post("/api/session/end", headers=headers) as answer:
            assert answer.status == 200
        async with asyncio.timeout(10):
            assert b"event: end" in await rows.read(), "what is open ends too"
    async with http.get("/api/session", headers=headers) as answer:
        assert (answer.status, await answer.json()) == (401, {"error": "Sign in to see what runs, waits and failed."})


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({}, 401, id="nobody"),
        pytest.param({"Authorization": "Bearer"}, 401, id="an empty token is nobody, not system:anonymous"),
        pytest.param({"Authorization": "Bearer a b"}, 401, id="what can't be a token"),
        pytest.param({"Authorization": "Bearer {expired}"}, 401, id="a token that has expired"),
        pytest.param({"Authorization": "Basic {token}"}, 401, id="another scheme"),
        pytest.param({"Cookie": f"{COOKIE}={{token}}"}, 401, id="a token is no session"),
        pytest.param({"Authorization": "Bearer {token}", "Host": "evil.example"}, 421, id="DNS rebinding"),
        pytest.param({"Authorization": "Bearer {token}", "Origin": "http://evil.example"}, 403, id="another page"),
        pytest.param({"Authorization": "Bearer {token}", "Origin": ""}, 403, id="a form in an old browser"),
        pytest.param({"Authorization": "Bearer {token}"}, 201, id="the page, by way of a proxy"),
        pytest.param(
            {"Authorization": "Bearer {token}", "Impersonate-User": "admin", "Impersonate-Group": "system:masters"},
            201,
            id="headers are not passed on",
        ),
        pytest.param({"Authorization": "Bearer {seer}", "Impersonate-Group": "system:masters"}, 403, id="no right"),
    ],
)
async def test_a_run_is_started_by_whoever_may_and_by_nobody_else(
    headers: dict[str, str], code: int, world: World, http: aiohttp.ClientSession, server: RealApi
) -> None:
    tokens = {
        "token": await world.person("fay", CHANGES),
        "seer": await world.person("gil", SEES),
        "expired": make_expired(server),
    }
    sent = {"Origin": world.origin} | {name: value.format(**tokens) for name, value in headers.items()}
    path = f"/api/namespaces/{TEAM}/runs"
    async with http.post(path, json={"workflow": "child"}, headers={k: v for k, v in sent.items() if v}) as answer:
        assert answer.status == code, await answer.text()
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def make_expired(server: RealApi) -> str:
    """Sign a token as the API server does, of an hour ago."""
    now = int(time.time())
    account = {"namespace": TEAM, "serviceaccount": {"name": "fay", "uid": "any"}}
    claims = {
        "iss": "https://kubernetes.default.svc",
        "aud": ["https://kubernetes.default.svc"],
        "sub": f"system:serviceaccount:{TEAM}:fay",
        "iat": now - 7200,
        "nbf": now - 7200,
        "exp": now - 3600,
        "kubernetes.io": account,
    }
    return jwt.encode(claims, (server.directory / "service-accounts.key").read_bytes(), algorithm="RS256")


async def test_namespaces_are_offered_whose_runs_a_viewer_may_list(world: World, http: aiohttp.ClientSession) -> None:
    token = await world.person("hal", SEES)
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get("/api/namespaces", headers=headers) as answer:
        assert await answer.json() == [], "who may not list them types one"
    await allow_listing_namespaces(world.admin, "hal")
    async with http.get("/api/namespaces", headers=headers) as answer:
        assert await answer.json() == [TEAM]


async def allow_listing_namespaces(admin: Api, name: str) -> None:
    roles = Resource(group=RBAC, version="v1", plural="clusterroles", kind="ClusterRole", namespaced=False)
    bindings = Resource(
        group=RBAC, version="v1", plural="clusterrolebindings", kind="ClusterRoleBinding", namespaced=False
    )
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]
    await put(admin, roles, {"metadata": {"name": "namespaces"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": TEAM}
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "namespaces"}
    await put(admin, bindings, {"metadata": {"name": "namespaces"}, "subjects": [subject], "roleRef": role})


async def test_there_are_no_more_viewers_than_the_server_has_room_for(server: RealApi, admin: Api) -> None:
    port = free_port()
    async with serving_viewers(make_serving(server, port, most_viewers=1)):
        world = World(admin=admin, origin=f"http://localhost:{port}")
        first, second = await world.person("ida", SEES), await world.person("jon", SEES)
        async with aiohttp.ClientSession(world.origin) as http:
            as_first, as_second = ({"Authorization": f"Bearer {token}"} for token in (first, second))
            async with (
                http.get(f"/api/namespaces/{TEAM}/rows", headers=as_first),
                http.get("/api/session", headers=as_second) as answer,
            ):
                assert answer.status == 429
                assert "This page takes 1 people at a time" in (await answer.json())["error"]

            async def has_room() -> bool:
                async with http.get("/api/session", headers=as_second) as answer:
                    return answer.status == 200

            await eventually(has_room)  # once the first one's tab is closed


async def test_those_who_guess_tokens_are_slowed_down_and_others_not(world: World, http: aiohttp.ClientSession) -> None:
    known = {"Authorization": f"Bearer {await world.person('kim', SEES)}"}
    async with http.get("/api/session", headers=known) as answer:
        assert answer.status == 200
    codes = []
    for number in range(61):
        async with http.get("/api/session", headers={"Authorization": f"Bearer guess-{number}"}) as answer:
            codes.append(answer.status)
    assert (codes[0], codes[-1]) == (401, 429)
    async with http.get("/api/session", headers=known) as answer:
        assert answer.status == 200


async def test_an_api_server_that_is_away_is_not_taken_for_a_wrong_token() -> None:
    port, nowhere = free_port(), free_port()
    origins = frozenset({f"http://localhost:{port}"})
    serving = Serving(endpoint=Endpoint(server=f"http://127.0.0.1:{nowhere}"), origins=origins, port=port)
    async with serving_viewers(serving), aiohttp.ClientSession(f"http://localhost:{port}") as http:
        async with http.get("/api/session", headers={"Authorization": "Bearer any"}) as answer:
            assert answer.status == 502
        async with http.get("/livez", headers={"Host": "10.0.0.7:8080"}) as answer:  # as the kubelet asks
            assert answer.status == 200


async def test_a_certificate_is_presented_and_one_that_replaces_it_too(server: RealApi, tmp_path: Path) -> None:
    port = free_port()
    authorities = [trustme.CA(), trustme.CA()]
    files = CertificateFiles(tmp_path / "tls.crt", tmp_path / "tls.key", None)
    files.look_again_seconds = 0.1
    write_certificate(authorities[0], tmp_path)
    origins = frozenset({f"https://localhost:{port}"})
    async with serving_viewers(replace(make_serving(server, port), origins=origins, certificate=files)):
        for authority in authorities:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            write_certificate(authority, tmp_path)

            async def is_answered(context: ssl.SSLContext = context) -> bool:
                try:
                    async with (
                        aiohttp.ClientSession(f"https://localhost:{port}") as http,
                        http.get("/api/session", ssl=context) as answer,
                    ):
                        return answer.status == 401
                except aiohttp.ClientConnectorCertificateError:
                    return False

            await eventually(is_answered)


def write_certificate(authority: trustme.CA, folder: Path) -> None:
    signed = authority.issue_cert("localhost")
    (folder / "tls.crt").write_bytes(b"".join(each.bytes() for each in signed.cert_chain_pems))
    (folder / "tls.key").write_bytes(signed.private_key_pem.bytes())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tls-cert-file=tls.crt"], "--tls-cert-file and --tls-key-file go together"),
        (["--tls-cert-file=tls.crt", "--tls-key-file=tls.key"], "is opened with https, not as http://localhost:8080"),
    ],
)
def test_half_of_a_certificate_and_addresses_without_tls_are_refused(arguments: list[str], said: str) -> None:
    wanted = ["serve-dashboard", "--url=http://localhost:8080", "--api-server=https://127.0.0.1:1", *arguments]
    done = CliRunner().invoke(app, wanted)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
