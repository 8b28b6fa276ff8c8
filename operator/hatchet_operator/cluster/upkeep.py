"""Creates the operator's small objects and keeps them as they should be: Secrets, Leases, revisions, ConfigMaps.

Several operators, or several tasks of one, may do so at the same time, and an answer may be lost: one that finds that
another was faster looks again. The objects that name the leader are written differently, in `election` and
`leader_endpoint`: one that is late there must not look again.
"""

from collections.abc import Callable

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import Resource
from hatchet_operator.errors import AlreadyExists, Conflict, NotFound
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef


async def create_unless_there(api: Api, resource: Resource, body: Json) -> Json | None:
    """Create an object; None: one with its name exists, created by us or by others."""
    try:
        return await api.until_answered(api.create, resource, body["metadata"]["namespace"], body)
    except AlreadyExists:
        return None


async def keep_as_wanted(
    api: Api, resource: Resource, ref: ObjectRef, wanted: Callable[[Json | None], Json | None]
) -> tuple[Json, bool]:
    """Bring an object to its desired state; return the result, and whether that took a write.

    Args:
        api: Where it is.
        resource: Its kind.
        ref: The object.
        wanted: Builds the whole object from the existing one, or from None; None: it is as it should be.
    """
    while True:
        try:
            there = await api.until_answered(api.get, resource, ref.namespace, ref.name)
        except NotFound:
            there = None
        body = wanted(there)
        try:
            if body is None:
                assert there is not None, "nothing at all is wanted by nobody"
                return there, False
            if there is None:
                return await api.until_answered(api.create, resource, ref.namespace, body), True
            body["metadata"] |= {name: there["metadata"][name] for name in ("uid", "resourceVersion")}
            return await api.until_answered(api.replace, resource, ref.namespace, ref.name, body), True
        except (AlreadyExists, Conflict, NotFound):
            continue  # another was faster, or it was deleted meanwhile


async def put_over(api: Api, resource: Resource, body: Json, *, over: str | None) -> Json:
    """Write an object over the version of it that is known, and return it as it is now.

    Args:
        api: Where it is.
        resource: Its kind.
        body: All of it.
        over: Its resourceVersion; None: there is none yet.

    Raises:
        AlreadyExists, Conflict, NotFound: It is another than is known; it may be ours, if an answer was lost.
    """
    metadata = body["metadata"]
    if over is None:
        return await api.until_answered(api.create, resource, metadata["namespace"], body)
    body = {**body, "metadata": {**metadata, "resourceVersion": over}}
    return await api.until_answered(api.replace, resource, metadata["namespace"], metadata["name"], body)
