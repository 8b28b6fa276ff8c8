"""Where a worker's registration is kept, so that the next operator knows who may hold attempts.

On the worker's Pod, or for a worker outside of Pods in a Lease of its own: nobody renews it, it is there as long as
the worker is known, and ``kubectl get leases`` shows who is connected from elsewhere.
"""

import logging

from hatchet_operator.cluster.api import Api, Json
from hatchet_operator.cluster.kinds import LEASES, PODS
from hatchet_operator.engine.workers import Registration
from hatchet_operator.errors import AlreadyExists, NotFound, NotReady, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.names import worker_lease_name

log = logging.getLogger(__name__)


async def keep_on_pod(api: Api, pod: Json, registration: Registration) -> Json | None:
    """Write the registration on the Pod and return it as it is now; None: it is gone, or may not be written."""
    metadata = pod["metadata"]
    patch = {"metadata": {"uid": metadata["uid"], "annotations": {labels.REGISTRATION: _to_text(registration)}}}
    try:
        return await api.until_answered(lambda: api.patch(PODS, metadata["namespace"], metadata["name"], patch))
    except (NotFound, Refused) as error:
        log.warning("registration not kept", extra={"pod": metadata["name"], "error": str(error)})
        return None


async def keep_in_lease(api: Api, namespace: str, registration: Registration) -> None:
    """Write the registration of a worker outside of Pods.

    Raises:
        NotReady: It can't be kept. Another operator would know nothing of the worker, and give out anew what it has.
    """
    name = worker_lease_name(registration.worker_id)
    annotations = {labels.REGISTRATION: _to_text(registration)}
    lease: Json = {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {labels.POOL: registration.pool, labels.MANAGED_BY: labels.MANAGER},
            "annotations": annotations,
        },
        "spec": {"holderIdentity": registration.name},
    }
    patch: Json = {"metadata": {"annotations": annotations}}
    try:
        try:
            await api.until_answered(lambda: api.create(LEASES, namespace, lease))
        except AlreadyExists:
            await api.until_answered(lambda: api.patch(LEASES, namespace, name, patch))
    except (NotFound, Refused) as error:
        log.warning("registration not kept", extra={"worker": registration.worker_id, "error": str(error)})
        raise NotReady(
            f'the registration of worker "{registration.name}" can\'t be kept in Lease {namespace}/{name}: {error}'
        ) from error


async def read_leases(api: Api, namespace: str | None) -> list[tuple[str, Registration]]:
    """Return (namespace, registration) of the workers outside of Pods."""
    selector = f"{labels.MANAGED_BY}={labels.MANAGER},{labels.POOL}"
    items, _ = await api.until_answered(lambda: api.list_all(LEASES, namespace, label_selector=selector))
    found = ((item["metadata"]["namespace"], read_registration(item)) for item in items)
    return [(where, registration) for where, registration in found if registration is not None]


async def delete_lease(api: Api, namespace: str, worker_id: str) -> None:
    try:
        await api.until_answered(lambda: api.delete(LEASES, namespace, worker_lease_name(worker_id)))
    except NotFound:
        return


def read_registration(obj: Json) -> Registration | None:
    """Return the registration that an object keeps."""
    text = obj["metadata"].get("annotations", {}).get(labels.REGISTRATION)
    if text is None:
        return None
    try:
        return Registration.model_validate_json(text)
    except ValueError as error:
        log.warning("registration is not understood", extra={"object": obj["metadata"]["name"], "error": str(error)})
        return None


def _to_text(registration: Registration) -> str:
    return registration.model_dump_json(by_alias=True, exclude_none=True)
