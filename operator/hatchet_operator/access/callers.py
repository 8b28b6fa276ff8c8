"""Finds the caller of a call by its bearer token.

    token ─► known? ─► caller                                    (one call in a hundred thousand goes further)
              └─► a pool's? ─► caller, kept
                   └─► TokenReview ─► of a Pod? ─► of a pool? ─► caller, kept until the token or the Pod expires
                         │              └───────────┴─► refused, kept for a few seconds
                         └─► no answer ─► UNAVAILABLE: nobody is let in unchecked, nobody is rejected permanently

The trap: workers must not fall silent because the API server is down. So a reviewed token is reviewed again now and
then, but in the background, and only a definite no invalidates it.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from hatchet_operator.access.identity import Caller, PodIdentity, cut_claim, expiry_of, read_pod_identity, verify_token
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.cluster.token_review import review_token
from hatchet_operator.decisions.shards import Scope, shard_of
from hatchet_operator.errors import (
    ApiError,
    NotFound,
    NotPermitted,
    NotReady,
    RequestError,
    Transient,
    Unauthenticated,
)
from hatchet_operator.resources import labels
from hatchet_operator.resources.pod import Pod, read_pod

log = logging.getLogger(__name__)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_REVIEWS_AT_ONCE = 8
_REVIEWS_WAITING = 1000
_REVIEW_SECONDS = 10.0
_REFUSED_SECONDS = 5.0
_REFUSED_KEPT = 10_000
_JUDGED_AGAIN_SECONDS = 600.0
_TRIED_AGAIN_SECONDS = 30.0
_LONGEST_SECONDS = 86_400.0  # for tokens that do not say when they expire
_GONE_KEPT = 10_000

WHO_ARE_YOU = (
    "no valid token: in a pod, project a service-account token and set HATCHET_CLIENT_TOKEN_FILE (a WorkerPool's pods "
    "have it); elsewhere set HATCHET_CLIENT_TOKEN to the one in the Secret <pool>-token of the pool's namespace"
)


@dataclass(slots=True)
class _Known:
    caller: Caller
    expires_at: float
    judged_again_at: float


class Callers:
    """All callers so far, by a hash of the token.

    Args:
        api: Reviews service-account tokens.
        key: Signs pools' tokens.
        audience: The audience of service-account tokens; None: only pools' tokens are accepted.
        scope: The namespaces that are served.
        find_pod: Finds a Pod of a pool by its UID, as far as the watch has seen it.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        api: Api,
        *,
        key: str,
        audience: str | None,
        scope: Scope,
        find_pod: Callable[[str], Pod | None],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._key = key
        self._audience = audience
        self._scope = scope
        self._find_pod = find_pod
        self._clock = clock
        self._known: dict[bytes, _Known] = {}
        self._of_pod: dict[str, set[bytes]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()  # Pods: a late answer must not bring one back
        self._refused: OrderedDict[bytes, tuple[float, RequestError]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Caller]] = {}
        self._reviews = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    def known(self, token: str) -> Caller | None:
        """Return the caller known by this token, without waiting for an answer.

        A token that was reviewed a while ago is reviewed again in the background.
        """
        # Kept without the claim: anybody could add one claim after another to a valid token, until no memory is left.
        signed, claimed_pod_uid = cut_claim(token)
        caller = self._known_caller(signed)
        return _claiming(caller, claimed_pod_uid) if caller is not None else None

    def _known_caller(self, token: str) -> Caller | None:
        digest = _digest(token)
        known = self._known.get(digest)
        if known is None:
            return None
        now = self._clock()
        if now >= known.expires_at:
            self._forget(digest)
            return None
        if now >= known.judged_again_at:
            known.judged_again_at = now + _TRIED_AGAIN_SECONDS
            self._ask(digest, token)
        return known.caller

    async def find(self, token: str) -> Caller:
        """Find the caller.

        Raises:
            Unauthenticated: The token is not valid.
            NotPermitted: It is valid, but its owner is not a worker.
            NotReady: The API server did not answer.
        """
        if (caller := self.known(token)) is not None:
            return caller
        token, claimed_pod_uid = cut_claim(token)
        digest = _digest(token)
        if (pool := verify_token(token, key=self._key)) is not None:
            self.refuse_other_shards(pool.namespace)
            never = float("inf")
            self._known[digest] = _Known(pool, expiry_of(token) or never, never)
            return _claiming(pool, claimed_pod_uid)
        if (refused := self._refused.get(digest)) is not None:
            until, error = refused
            if self._clock() < until:
                raise error
        if self._audience is None:
            raise Unauthenticated(WHO_ARE_YOU)
        if digest not in self._asking and len(self._asking) >= _REVIEWS_WAITING:
            raise NotReady("too many unknown tokens at once; repeat the call")
        # shielded, since others may wait for the same answer
        return await asyncio.shield(self._ask(digest, token))

    def observe_pod(self, kind: str, pod: Pod) -> None:
        """Observe a Pod: its token is invalid once the Pod is gone, or belongs to another pool."""
        if kind == "DELETED":
            _put(self._gone, pod.uid, None, at_most=_GONE_KEPT)
        pool = pod.labels.get(labels.POOL)
        for digest in list(self._of_pod.get(pod.uid, ())):
            if kind == "DELETED" or self._known[digest].caller.pool != pool:
                self._forget(digest)

    async def stop(self) -> None:
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    # --- Reviews

    def _ask(self, digest: bytes, token: str) -> asyncio.Task[Caller]:
        """Have a token reviewed, once, however many calls ask."""
        if (asking := self._asking.get(digest)) is not None:
            return asking
        task = self._asking[digest] = asyncio.get_running_loop().create_task(self._judge(digest, token))
        task.add_done_callback(lambda done: self._answered(digest, done))
        return task

    def _answered(self, digest: bytes, task: asyncio.Task[Caller]) -> None:
        self._asking.pop(digest, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Unauthenticated | NotPermitted):
            self._forget(digest)
            _put(self._refused, digest, (self._clock() + _REFUSED_SECONDS, error), at_most=_REFUSED_KEPT)
        elif error is not None and not isinstance(error, NotReady):
            log.error("token not judged", exc_info=error)  # no caller may be left to show it

    async def _judge(self, digest: bytes, token: str) -> Caller:
        async with self._reviews:
            try:
                async with asyncio.timeout(_REVIEW_SECONDS):
                    identity = await self._review(token)
                    caller = self._caller(identity, await self._pool_of(identity))
            except (Transient, TimeoutError) as error:
                raise NotReady("the API server could not be asked whose token this is; repeat the call") from error
            except ApiError as error:
                log.error("tokens can't be reviewed", extra={"error": error.message, "status": error.status})
                raise NotReady(
                    "the operator can't ask whose token this is; its role needs create on tokenreviews and get on pods"
                ) from error
        self._forget(digest)
        now = self._clock()
        for other in list(self._of_pod.get(identity.uid, ())):  # a Pod's token is renewed, the old one never used
            if now >= self._known[other].expires_at:
                self._forget(other)
        expires_at = min(expiry_of(token) or float("inf"), now + _LONGEST_SECONDS)
        self._known[digest] = _Known(caller, expires_at, now + _JUDGED_AGAIN_SECONDS)
        self._of_pod.setdefault(identity.uid, set()).add(digest)
        return caller

    async def _review(self, token: str) -> PodIdentity:
        assert self._audience is not None, "find() asks for a review only with an audience"
        verdict = await review_token(self._api, token, audience=self._audience)
        if verdict.user is None:
            log.info("token refused", extra={"error": verdict.error})
            raise Unauthenticated(f'{WHO_ARE_YOU} (expected audience "{self._audience}", not expired)')
        identity = read_pod_identity(verdict.user)
        if identity is None:
            raise NotPermitted(
                f"{verdict.user.get('username')} is not a Pod: tokens of service accounts are accepted from Pods only, "
                "as a projected volume; elsewhere use the token in the Secret <pool>-token"
            )
        if not self._scope.is_served(identity.namespace):
            raise NotPermitted(
                f"this operator serves {self._scope.shown} only, and Pod {identity.name} is in {identity.namespace}"
            )
        self.refuse_other_shards(identity.namespace)
        return identity

    def refuse_other_shards(self, namespace: str) -> None:
        """Refuse callers that another shard's leader serves: but not for good, as they may be told its address soon."""
        scope = self._scope
        if scope.is_served(namespace) and not scope.covers(namespace):
            right = shard_of(namespace, scope.shards)
            raise NotReady(
                f"namespace {namespace} is in shard {right}, and this is the address of shard {scope.shard}: connect "
                "to the address in the Secret <pool>-token"
            )

    async def _pool_of(self, identity: PodIdentity) -> str | None:
        pod = self._find_pod(identity.uid)
        if pod is None:  # newer than our watch, or not in a pool
            try:
                pod = read_pod(await self._api.get(PODS, identity.namespace, identity.name))
            except NotFound:
                pod = None
        if pod is None or pod.uid != identity.uid or identity.uid in self._gone:
            raise Unauthenticated(
                f"Pod {identity.namespace}/{identity.name} ({identity.uid}) is gone, and its token ends"
            )
        return pod.labels.get(labels.POOL)

    def _caller(self, identity: PodIdentity, pool: str | None) -> Caller:
        if not pool:
            raise NotPermitted(
                f"Pod {identity.namespace}/{identity.name} belongs to no pool: set the label {labels.POOL}: <name> in "
                "the pod template of its Deployment; the workflows that it registers are then of that pool"
            )
        return Caller(namespace=identity.namespace, pool=pool, pod_name=identity.name, pod_uid=identity.uid)

    def _forget(self, digest: bytes) -> None:
        known = self._known.pop(digest, None)
        if known is None or known.caller.pod_uid is None:
            return
        digests = self._of_pod.get(known.caller.pod_uid, set())
        digests.discard(digest)
        if not digests:
            self._of_pod.pop(known.caller.pod_uid, None)


def _claiming(caller: Caller, pod_uid: str | None) -> Caller:
    """Accept a caller's claim which Pod of its pool it is, unless its token proves that anyway."""
    return replace(caller, claimed_pod_uid=pod_uid) if pod_uid and caller.pod_uid is None else caller


def _digest(token: str) -> bytes:
    # not the token itself: a lookup must not reveal how much of it was right, and it must not be kept in memory
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _put(kept: "OrderedDict[_Key, _Value]", key: _Key, value: _Value, *, at_most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > at_most:
        kept.popitem(last=False)
