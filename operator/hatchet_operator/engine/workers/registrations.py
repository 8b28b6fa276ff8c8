"""Where a worker's registration is kept, so that the next operator knows which workers may have attempts.

It is kept on the worker's Pod, or for a worker outside of Pods in a Lease of its own: nobody renews it, it exists as
long as the worker is known, and ``kubectl get leases`` shows which workers are connected from elsewhere.
"""

import logging
from collections.abc import Mapping
from functools import partial

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import LEASES, PODS
from hatchet_operator.cluster.upkeep import create_unless_there
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.dispatch.worker import Registration
from hatchet_operator.errors import ApiError, NotFound, NotReady, Refused
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import worker_lease_name
from hatchet_operator.resources.pod import Pod, read_pod

log = logging.getLogger(__name__)


async def keep_on_pod(api: Api, pod: Pod, registration: Registration) -> Pod | None:
    """Write the registration on the Pod and return it as it is now; None: it is gone, or may not be written."""
    patch = {"metadata": {"uid": pod.uid, "annotations": {labels.REGISTRATION: _to_text(registration)}}}
    try:
        return read_pod(await api.until_answered(lambda: api.patch(PODS, pod.namespace, pod.name, patch)))
    except (NotFound, Refused) as error:
        log.warning("registration not kept", extra={"pod": pod.name, "error": str(error)})
        return None


async def keep_in_lease(api: Api, namespace: str, registration: Registration) -> None:
    """Write the registration of a worker outside of Pods.

    Raises:
        NotReady: It can't be kept. Another operator would not know the worker, and would reassign what it has.
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
        if await create_unless_there(api, LEASES, lease) is None:
            await api.until_answered(lambda: api.patch(LEASES, namespace, name, patch))
    except (NotFound, Refused) as error:
        log.warning("registration not kept", extra={"worker": registration.worker_id, "error": str(error)})
        raise NotReady(
            f'the registration of worker "{registration.name}" can\'t be kept in Lease {namespace}/{name}: {error}'
        ) from error


async def read_leases(api: Api, scope: Scope) -> list[tuple[str, Registration]]:
    """Return (namespace, registration) of the workers outside of Pods."""
    selector = f"{labels.MANAGED_BY}={labels.MANAGER},{labels.POOL}"
    leases: list[Json] = []
    for place in scope.places:
        items, _ = await api.until_answered(partial(api.list_all, LEASES, place, label_selector=selector))
        leases += [item["metadata"] for item in items if scope.covers(item["metadata"]["namespace"])]
    found = ((lease["namespace"], read_registration(lease["name"], lease.get("annotations", {}))) for lease in leases)
    return [(where, registration) for where, registration in found if registration is not None]


async def delete_lease(api: Api, namespace: str, worker_id: str) -> None:
    """Delete the Lease of a worker that is dead; if that is refused, the next leader waits for the worker in vain."""
    name = worker_lease_name(worker_id)
    try:
        await api.until_answered(lambda: api.delete(LEASES, namespace, name))
    except NotFound:
        return
    except ApiError as error:
        log.warning("lease of a dead worker not deleted", extra={"lease": f"{namespace}/{name}", "error": str(error)})


def read_registration(name: str, annotations: Mapping[str, str]) -> Registration | None:
    """Return the registration that an object of this name keeps."""
    text = annotations.get(labels.REGISTRATION)
    if text is None:
        return None
    try:
        return Registration.model_validate_json(text)
    except ValueError as error:
        log.warning("registration is not understood", extra={"object": name, "error": str(error)})
        return None


def _to_text(registration: Registration) -> str:
    return registration.model_dump_json(by_alias=True, exclude_none=True)
