"""Ask the API server whether somebody may do something."""

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import ACCESS_REVIEWS, Resource
from hatchet_operator.resources.base import Json


async def may(api: Api, user: Json, verb: str, resource: Resource, *, namespace: str) -> bool:
    """Return whether a user may do something in a namespace.

    Args:
        api: Whom to ask.
        user: The ``status.user`` of a TokenReview.
        verb: As in RBAC.
        resource: The kind that it would be done to.
        namespace: Where.

    Raises:
        ApiError: There was no answer.
    """
    review: Json = {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "metadata": {"namespace": namespace},
        "spec": {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "resourceAttributes": {
                "namespace": namespace,
                "verb": verb,
                "group": resource.group,
                "version": resource.version,
                "resource": resource.plural,
            },
        },
    }
    answer = await api.create(ACCESS_REVIEWS, namespace, review)
    return bool((answer.get("status") or {}).get("allowed"))
