"""How a status is written: whole, and only over the version of the object that it was decided for.

    decide ─► PUT ─► 200  what the object is now is observed
      ▲        ├─ 409  somebody wrote before us ─► pause ─► GET ─► observe ──────────────┐
      │        └─ 404  the object no longer exists                                      │
      └─────────────────────────────────────────────────────────────────────────────────┘

UID and resourceVersion are the fence: against concurrent writers, a deposed leader, and an object that was deleted and
created again.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from hatchet_operator.backoff import CONFLICT
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import Resource
from hatchet_operator.errors import Conflict
from hatchet_operator.resources.base import API_VERSION, Json, Named, ResourceModel
from hatchet_operator.resources.names import ObjectRef

Subject = TypeVar("Subject", bound=Named)
Status = TypeVar("Status", bound=ResourceModel)


async def put_status(
    api: Api, resource: Resource, ref: ObjectRef, status: ResourceModel, *, uid: str, over: str
) -> Json:
    """Write a status once, and return the object as it is now.

    Args:
        api: Where it is.
        resource: One of our kinds.
        ref: The object.
        status: All of it.
        uid: The object's.
        over: Its resourceVersion.

    Raises:
        Conflict: The object has changed.
        NotFound: It is gone.
        Refused: The server does not accept this.
    """
    body: Json = {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace, "uid": uid, "resourceVersion": over},
        "status": status.to_wire(),
    }
    return await api.until_answered(api.replace, resource, ref.namespace, ref.name, body, subresource="status")


async def write_status(
    api: Api,
    resource: Resource,
    ref: ObjectRef,
    *,
    decide: Callable[[], tuple[Subject, Status] | None],
    observe: Callable[[Json], None],
) -> tuple[Subject, Status] | None:
    """Write what is decided for the newest state of an object; after a conflict it is decided again.

    Args:
        api: Where it is.
        resource: One of our kinds.
        ref: The object.
        decide: Returns the object as it is known and its status as it should be; None: there is nothing to write.
        observe: Observes the object as it is now, so that `decide` knows it.

    Returns:
        What was finally decided, and is written; None: nothing had to be.

    Raises:
        NotFound: The object is gone.
        Refused: The server does not accept this.
    """
    conflicts = 0
    while (decided := decide()) is not None:
        subject, status = decided
        meta = subject.metadata
        try:
            observe(await put_status(api, resource, ref, status, uid=meta.uid, over=meta.resource_version))
        except Conflict:
            conflicts += 1
            await asyncio.sleep(CONFLICT.jittered_after(conflicts))
            observe(await api.until_answered(api.get, resource, ref.namespace, ref.name))
        else:
            return decided
    return None
