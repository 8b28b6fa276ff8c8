"""How often the API server is asked whose a token is, and what is done with its answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from hatchet_operator.access.callers import Callers
from hatchet_operator.access.identity import Caller, mint_token
from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import Resource
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.errors import NotFound, NotPermitted, NotReady, OperatorError, Refused, Transient, Unauthenticated
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.pod import Pod, read_pod
from tests.kube.memory import alive

AUDIENCE = "hatchet-operator"
KEY = "a-key-for-tests-" * 4
NOW = 1_000_000_000.0
POD_A = Caller(namespace="shop", pool="main", pod_name="a", pod_uid="uid-a")


class ScriptedApi(Api):
    """Vouches for tokens "pod:<name>", and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(Endpoint(server="http://nowhere"), may_write=always)
        self.reviews = 0
        self.at_once = 0
        self.most_at_once = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.error: Exception | None = None
        self.status: Json | None = None
        self.pods: dict[str, Json] = {"a": make_pod()}

    async def create(self, resource: Resource, namespace: str | None, body: Json, *, strict: bool = False) -> Json:
        self.reviews += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.answering.wait()
        finally:
            self.at_once -= 1
        if self.error is not None:
            raise self.error
        if self.status is not None:
            return {**body, "status": self.status}
        name = subject_of(body["spec"]["token"])
        if name is None:
            return {**body, "status": {"user": {}, "error": "invalid bearer token"}}
        return {**body, "status": make_status(name)}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Json:
        if name not in self.pods:
            raise NotFound(f'pods "{name}" not found', status=404)
        return self.pods[name]


def make_status(pod: str = "a", *, namespace: str = "shop", **changes: Any) -> Json:
    extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [f"uid-{pod}"]}
    user = {"username": f"system:serviceaccount:{namespace}:worker", "extra": extra}
    return {"authenticated": True, "audiences": [AUDIENCE], "user": user, **changes}


def make_pod(name: str = "a", *, pool: str | None = "main") -> Json:
    labelled = {labels.POOL: pool} if pool else {}
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": labelled}}


def make_token(pod: str = "a", *, lives_seconds: float = 3600, number: int = 0) -> str:
    return jwt.encode({"sub": f"pod:{pod}", "exp": NOW + lives_seconds, "n": number}, "the API server's key " * 3)


def subject_of(token: str) -> str | None:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return None
    return str(claims["sub"]).removeprefix("pod:")


async def until(holds: Callable[[], bool]) -> None:
    """Let others go on until something holds."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # what it does is all within this loop
            await asyncio.sleep(0)


class World:
    def __init__(self, *, audience: str | None = AUDIENCE, scope: Scope | None = None) -> None:
        self.api = ScriptedApi()
        self.now = NOW
        self.seen: dict[str, Pod] = {}
        self.callers = Callers(
            self.api,
            key=KEY,
            audience=audience,
            scope=scope or Scope(),
            find_pod=self.seen.get,
            clock=lambda: self.now,
        )

    async def refused(self, token: str, error: type[OperatorError]) -> str:
        with pytest.raises(error) as raised:
            await self.callers.find(token)
        return str(raised.value)


async def test_a_pods_token_is_reviewed_once() -> None:
    world = World()
    token = make_token()
    assert world.callers.known(token) is None
    assert [await world.callers.find(token) for _ in range(3)] == [POD_A] * 3
    assert world.callers.known(token) == POD_A
    assert world.api.reviews == 1


async def test_many_calls_at_once_make_one_review() -> None:
    world = World()
    world.api.answering.clear()
    calls = [asyncio.create_task(world.callers.find(make_token())) for _ in range(50)]
    await asyncio.sleep(0)
    calls[0].cancel()  # one caller's going away is nothing to the others
    world.api.answering.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert answers[1:] == [POD_A] * 49
    assert world.api.reviews == 1


async def test_reviews_of_different_tokens_are_bounded() -> None:
    world = World()
    world.api.answering.clear()
    calls = [asyncio.create_task(world.callers.find(make_token(number=number))) for number in range(50)]
    await until(lambda: world.api.at_once == 8)
    for _ in range(10):  # turns for those that must not come beside them
        await asyncio.sleep(0)
    world.api.answering.set()
    assert await asyncio.gather(*calls) == [POD_A] * 50
    assert (world.api.reviews, world.api.most_at_once) == (50, 8)


async def test_a_flood_of_unknown_tokens_is_turned_away_and_known_ones_are_not() -> None:
    world = World()
    await world.callers.find(make_token())
    world.api.answering.clear()
    flood = [asyncio.create_task(world.callers.find(make_token(number=number))) for number in range(1, 1001)]
    await asyncio.sleep(0)
    assert "too many" in await world.refused(make_token(number=1001), NotReady)
    world.now += 601  # the known one is to be judged again
    assert world.callers.known(make_token()) == POD_A
    world.api.answering.set()
    assert await asyncio.gather(*flood) == [POD_A] * 1000


async def test_a_pools_token_needs_no_review() -> None:
    world = World()
    pool = Caller(namespace="shop", pool="main")
    token = mint_token(pool, key=KEY, grpc_address="a:1")
    assert await world.callers.find(token) == pool
    assert world.callers.known(token) == pool
    assert world.api.reviews == 0


async def test_a_claim_beside_a_pools_token_says_which_pod_it_is_and_is_not_kept() -> None:
    world, before = World(), alive(Caller)
    token = mint_token(Caller(namespace="shop", pool="main"), key=KEY, grpc_address="a:1")
    for uid in ("uid-a", "uid-b"):
        want = Caller(namespace="shop", pool="main", claimed_pod_uid=uid)
        assert await world.callers.find(f"{token}~{uid}") == want
        assert world.callers.known(f"{token}~{uid}") == want
    assert world.callers.known(token) == Caller(namespace="shop", pool="main")
    del want
    assert alive(Caller) == before + 1, "else whoever has a good token could fill the memory"


async def test_a_claim_beside_a_pods_own_token_is_nothing() -> None:
    world = World()
    assert await world.callers.find(make_token() + "~uid-b") == POD_A
    assert world.callers.known(make_token() + "~uid-b") == POD_A


async def test_an_expired_token_is_reviewed_again() -> None:
    world = World()
    token = make_token(lives_seconds=60)
    await world.callers.find(token)
    world.now += 61
    assert world.callers.known(token) is None
    world.api.status = {"error": "token has expired"}
    await world.refused(token, Unauthenticated)


@pytest.mark.parametrize(
    ("kind", "pool"),
    [
        pytest.param("DELETED", "main", id="its Pod is deleted"),
        pytest.param("MODIFIED", "other", id="its Pod is given to another pool"),
    ],
)
async def test_a_token_ends_when(kind: str, pool: str) -> None:
    world = World()
    await world.callers.find(make_token())
    world.callers.observe_pod(kind, read_pod(make_pod(pool=pool)))
    assert world.callers.known(make_token()) is None


async def test_a_late_answer_does_not_bring_a_deleted_pod_back() -> None:
    world = World()
    world.api.answering.clear()
    call = asyncio.create_task(world.callers.find(make_token()))
    await asyncio.sleep(0)
    world.callers.observe_pod("DELETED", read_pod(make_pod()))
    world.api.answering.set()
    with pytest.raises(Unauthenticated, match="is gone"):
        await call


async def test_what_was_refused_is_asked_again_only_after_a_while() -> None:
    world = World()
    for _ in range(3):
        assert "HATCHET_CLIENT_TOKEN" in await world.refused("garbage", Unauthenticated)
    assert world.api.reviews == 1
    world.now += 6
    await world.refused("garbage", Unauthenticated)
    assert world.api.reviews == 2


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        pytest.param(
            make_status(audiences=["https://kubernetes.default.svc"]), Unauthenticated, AUDIENCE, id="another audience"
        ),
        pytest.param(make_status(audiences=[]), Unauthenticated, AUDIENCE, id="no word about audiences"),
        pytest.param({}, Unauthenticated, AUDIENCE, id="no word at all"),
        pytest.param(
            make_status(user={"username": "system:serviceaccount:shop:ci"}), NotPermitted, "is not a Pod", id="no Pod"
        ),
        pytest.param(make_status("gone"), Unauthenticated, "is gone", id="a Pod that is gone"),
        pytest.param(make_status("free"), NotPermitted, f"set the label {labels.POOL}", id="a Pod without a pool"),
        pytest.param(make_status(namespace="bank"), NotPermitted, "namespace shop only", id="a namespace not served"),
    ],
)
async def test_nobody_is_let_in_with(status: Json, error: type[OperatorError], words: str) -> None:
    world = World(scope=Scope(namespaces=("shop",)))
    world.api.pods["free"] = make_pod("free", pool=None)
    world.api.status = status
    assert words in await world.refused(make_token(), error)


async def test_a_pod_that_was_made_anew_under_its_name_is_another() -> None:
    world = World()
    world.api.pods["a"]["metadata"]["uid"] = "uid-new"
    await world.refused(make_token(), Unauthenticated)


async def test_a_pods_token_is_nothing_to_an_operator_without_an_audience() -> None:
    world = World(audience=None)
    await world.refused(make_token(), Unauthenticated)
    assert world.api.reviews == 0


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Transient("no connection"), id="does not answer"),
        pytest.param(Refused("tokenreviews is forbidden", status=403), id="does not let us ask"),
    ],
)
async def test_while_the_api_server(error: Exception) -> None:
    world = World()
    known, unknown = make_token(), make_token(number=1)
    await world.callers.find(known)
    world.api.error = error
    await world.refused(unknown, NotReady)
    world.now += 700  # it is time to ask again, in vain
    assert world.callers.known(known) == POD_A
    await until(lambda: world.api.reviews == 3)
    for _ in range(10):  # turns for the answer
        await asyncio.sleep(0)
    assert world.callers.known(known) == POD_A, "a worker that was let in must not fall silent"
    world.api.error = None
    await world.callers.find(unknown)


async def test_a_token_that_is_not_valid_any_more_is_found_out_beside_the_calls() -> None:
    world = World()
    await world.callers.find(make_token())
    world.api.status = {"error": "service account was deleted"}
    world.now += 601
    assert world.callers.known(make_token()) == POD_A
    await until(lambda: world.callers.known(make_token()) is None)
    await world.refused(make_token(), Unauthenticated)
    assert world.api.reviews == 2


async def test_the_watch_is_believed_before_the_api_server_is_asked_for_the_pod() -> None:
    world = World()
    world.api.pods.clear()
    world.seen["uid-a"] = read_pod(make_pod(pool="seen"))
    assert (await world.callers.find(make_token())).pool == "seen"


async def test_of_the_tokens_that_a_pod_had_only_those_that_live_are_kept() -> None:
    world, before = World(), alive(Caller)
    for number in range(30):
        token = jwt.encode({"sub": "pod:a", "exp": world.now + 3600, "n": number}, "the API server's key " * 3)
        await world.callers.find(token)
        world.now += 48 * 60  # when the kubelet renews it
    assert alive(Caller) == before + 2
    world.callers.observe_pod("DELETED", read_pod(make_pod()))  # with all of its tokens
    await asyncio.sleep(0)  # this turn of the loop still has the last answer
    assert alive(Caller) == before
