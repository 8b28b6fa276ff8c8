"""Finds who sends an event over HTTP: a pool, or a service account that may create runs.

    token ─► of a pool, or of its Pod, of this namespace? ─► caller         (`access.callers`)
              └─► TokenReview ─► whose? ─► LocalSubjectAccessReview: create workflowruns in this namespace?
                                            ├─► yes: a caller without a pool, kept for some seconds
                                            └─► no: refused, likewise

What an event starts are WorkflowRuns, so whoever may create these could start the same with kubectl.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hatchet_operator.access.callers import WHO_ARE_YOU, Callers
from hatchet_operator.access.identity import Caller
from hatchet_operator.cluster.access_review import may
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.cluster.token_review import review_token
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.errors import ApiError, NotPermitted, NotReady, Transient, Unauthenticated

log = logging.getLogger(__name__)

_KEPT_SECONDS = 10.0  # a right that is taken away, or a token that is revoked, counts for nothing after that
_KEPT = 10_000
_REVIEWS_AT_ONCE = 8
_REVIEW_SECONDS = 10.0

_Asked = tuple[bytes, str]
"""Hash of a token, and a namespace."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    until: float
    refusal: str | None


class Senders:
    """Whoever may push events.

    Args:
        api: Reviews tokens and rights.
        callers: Know the pools and their Pods.
        audience: The audience of service-account tokens; None: only pools' tokens are accepted.
        scope: The namespaces that are served.
        clock: Seconds, which only go up.
    """

    def __init__(
        self,
        api: Api,
        callers: Callers,
        *,
        audience: str | None,
        scope: Scope,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._callers = callers
        self._audience = audience
        self._scope = scope
        self._clock = clock
        self._verdicts: OrderedDict[_Asked, _Verdict] = OrderedDict()
        self._reviews = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def find(self, token: str, namespace: str) -> Caller:
        """Return on whose behalf an event is pushed in a namespace.

        Raises:
            Unauthenticated: The token is not valid.
            NotPermitted: It is, but its owner may not start runs there.
            NotReady: The API server did not answer, or another shard's leader serves this namespace.
        """
        self._callers.refuse_other_shards(namespace)
        asked = hashlib.sha256(token.encode("utf-8", "replace")).digest(), namespace
        if (known := self._verdicts.get(asked)) is not None and self._clock() < known.until:
            return _judged(known, namespace)
        try:
            caller = await self._callers.find(token)
        except NotPermitted:  # valid, but of no pool
            pass
        else:
            if caller.namespace == namespace:
                return caller
            if caller.pod_uid is None:  # a pool's token is known to nobody but us
                raise NotPermitted(f'{caller} is of namespace "{caller.namespace}" and starts nothing in "{namespace}"')
        if not self._scope.is_served(namespace):
            raise NotPermitted(f"this operator serves {self._scope.shown} only")
        verdict = self._verdicts[asked] = await self._review(token, namespace)
        self._verdicts.move_to_end(asked)
        if len(self._verdicts) > _KEPT:
            self._verdicts.popitem(last=False)
        return _judged(verdict, namespace)

    async def _review(self, token: str, namespace: str) -> _Verdict:
        assert self._audience is not None, "without one, callers know pools' tokens alone"
        try:
            async with self._reviews, asyncio.timeout(_REVIEW_SECONDS):
                verdict = await review_token(self._api, token, audience=self._audience)
                if verdict.user is None:
                    raise Unauthenticated(WHO_ARE_YOU)
                allowed = await may(self._api, verdict.user, "create", RUNS, namespace=namespace)
        except (Transient, TimeoutError) as error:
            raise NotReady("the API server could not be asked what this token may do; send it again") from error
        except ApiError as error:
            log.error("rights can't be reviewed", extra={"error": error.message, "status": error.status})
            raise NotReady(
                "the operator can't ask what this token may do; its role needs create on tokenreviews and on "
                "localsubjectaccessreviews"
            ) from error
        name = str(verdict.user.get("username") or "nobody")
        refusal = None
        if not allowed:
            refusal = (
                f'{name} may not start runs in namespace "{namespace}": it needs a role with create on workflowruns of '
                "hatchet-operator.dev there"
            )
        return _Verdict(self._clock() + _KEPT_SECONDS, refusal)


def _judged(verdict: _Verdict, namespace: str) -> Caller:
    if verdict.refusal is not None:
        raise NotPermitted(verdict.refusal)
    return Caller(namespace=namespace, pool="")
