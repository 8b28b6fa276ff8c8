"""What a viewer may do in a namespace, in the API server's own words, asked again and again: it may change.

A watch that is open stays open when its right is taken away, or its token expires; so whoever shows what it says has to
ask. The list of all rules of a viewer is one request; only when it is another one are the questions asked that count.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import (
    OWN_ACCESS_REVIEWS,
    OWN_RULES_REVIEWS,
    POOLS,
    RATE_LIMITS,
    RUNS,
    WORKFLOWS,
    Resource,
)
from hatchet_operator.errors import ApiError, NotFound
from hatchet_operator.resources.base import GROUP, Json

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0
Attributes = Mapping[str, str]
ACTS: Final[Mapping[str, Attributes]] = {
    "start": {"verb": "create", "group": GROUP, "resource": "workflowruns"},
    "change": {"verb": "patch", "group": GROUP, "resource": "workflowruns"},
    "delete": {"verb": "delete", "group": GROUP, "resource": "workflowruns"},
    "changeWorkflows": {"verb": "patch", "group": GROUP, "resource": "workflows"},
    "pods": {"verb": "list", "group": "", "resource": "pods"},
    "logs": {"verb": "get", "group": "", "resource": "pods", "subresource": "log"},
}
"""What buttons need, as attributes of an access review."""
KINDS: Final[Mapping[str, Resource]] = {
    "workflows": WORKFLOWS,
    "pools": POOLS,
    "rateLimits": RATE_LIMITS,
    "runs": RUNS,
}
"""What rows are of, by the page's words."""
_READING = ("list", "watch")


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What a viewer may do in one namespace.

    Attributes:
        acts: For each of `ACTS`.
        kinds: For each of `KINDS`, whether it may be listed and watched.
    """

    acts: Mapping[str, bool]
    kinds: Mapping[str, bool]


async def watch_rights(api: Api, namespace: str, *, ask_seconds: float = ASK_SECONDS) -> AsyncIterator[Rights]:
    """Yield what the viewer may do, and again whenever that changes; end when the viewer is not known any more."""
    rules: Json | None = None
    told: Rights | None = None
    while True:
        found = told
        try:
            rules_now = await _read_rules(api, namespace)
            if rules_now is None or rules_now != rules:
                found, rules = await _ask(api, namespace), rules_now
        except ApiError as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                return
            log.warning("rights not known", extra={"namespace": namespace, "error": str(error)})
        if found is not None and found != told:
            told = found
            yield told
        await asyncio.sleep(ask_seconds)


async def may(api: Api, namespace: str | None, wanted: Attributes) -> bool:
    """Return whether the viewer may do something; in the namespace None: in all of them."""
    attributes = {**wanted, **({"namespace": namespace} if namespace else {})}
    try:
        answer = await api.create(OWN_ACCESS_REVIEWS, None, _review(OWN_ACCESS_REVIEWS, resourceAttributes=attributes))
    except NotFound:  # the embedded API server of "dev", where everybody may do everything
        return True
    allowed: bool = answer["status"]["allowed"]
    return allowed


async def _ask(api: Api, namespace: str) -> Rights:
    """Ask one after the other: for all of them together there would be a dozen connections for each viewer."""
    acts = {name: await may(api, namespace, wanted) for name, wanted in ACTS.items()}
    kinds: dict[str, bool] = {}
    for kind, resource in KINDS.items():
        wanted = {"group": resource.group, "resource": resource.plural}
        allowed = [await may(api, namespace, {"verb": verb, **wanted}) for verb in _READING]
        kinds[kind] = all(allowed)
    return Rights(acts=acts, kinds=kinds)


async def _read_rules(api: Api, namespace: str) -> Json | None:
    """Return all rules for the viewer there; None: the API server can't list all (of a webhook that decides, say)."""
    try:
        answer = await api.create(OWN_RULES_REVIEWS, None, _review(OWN_RULES_REVIEWS, namespace=namespace))
    except NotFound:
        return None
    status: Json = answer["status"]
    return None if status.get("incomplete") else status


def _review(resource: Resource, **spec: object) -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
