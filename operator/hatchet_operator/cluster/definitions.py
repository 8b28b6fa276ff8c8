"""Whether the API server knows our kinds as this operator needs them, in words for those who have to fix it.

Fields are looked up in the OpenAPI document, which every client may read, and not in the CRDs, which a right for one
namespace does not show. A field that a CRD lacks is silently dropped, so an older CRD loses what is written.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from functools import cache

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import POOLS, RATE_LIMITS, RUNS, WEBHOOK_SOURCES, WORKFLOWS, Resource
from hatchet_operator.errors import NotFound, Refused
from hatchet_operator.resources.base import GROUP, VERSION, Json
from hatchet_operator.resources.crds import load_crds

# Not with both: Helm 4 has field managers, and after a kubectl apply it refuses to upgrade the CRDs that it created.
HOW_TO_MEND = (
    'install them with "helm upgrade" where the chart installed them, '
    'else with "hatchet-operator crds | kubectl apply -f -"'
)

OUR_KINDS = (WORKFLOWS, RUNS, POOLS, WEBHOOK_SOURCES, RATE_LIMITS)

_DOCUMENT = f"/openapi/v3/apis/{GROUP}/{VERSION}"
_FIELDS_TOLD = 3


async def definition_problems(api: Api, namespaces: Collection[str]) -> tuple[str, ...]:
    """Say what is missing in our CRDs; an empty result: nothing is.

    Args:
        api: The API server.
        namespaces: Those that may be read, of which one will do; empty: all.
    """
    missing = [each for each in OUR_KINDS if not await _is_served(api, each, namespaces)]
    if missing:
        versions = await _served_versions(api)
        elsewhere = f" in {VERSION}, but in {', '.join(versions)}" if versions and VERSION not in versions else ""
        return tuple(f"the CRD {each.plural}.{GROUP} is not installed{elsewhere}" for each in missing)
    try:
        document = await api.document(_DOCUMENT)
    except (NotFound, Refused):
        return ()  # it exists a moment after the CRD, and we may have lost the right to read it
    schemas = document.get("components", {}).get("schemas", {})
    return tuple(lack for crd in _needed() if (lack := _lacks(crd, schemas)))


@cache
def _needed() -> tuple[Json, ...]:
    """Return our CRDs, which are not changed here; a standby compares them every ten seconds."""
    return tuple(load_crds())


async def readable_namespaces(api: Api, namespaces: Iterable[str]) -> tuple[str, ...]:
    """Return the namespaces in which we may read runs.

    Raises:
        Refused: There are namespaces, and we may in none.
    """
    readable: list[str] = []
    refused: Refused | None = None
    for namespace in namespaces:
        try:
            await _is_served(api, RUNS, (namespace,))
        except Refused as error:
            refused = error
        else:
            readable.append(namespace)
    if refused is not None and not readable:
        raise refused
    return tuple(readable)


async def until_readable(api: Api, namespaces: Collection[str], *, look_again_seconds: float) -> tuple[str, ...]:
    """Wait until we may read runs in some of these namespaces, and return in which."""
    while True:
        await asyncio.sleep(look_again_seconds)
        try:
            return await api.until_answered(readable_namespaces, api, namespaces)
        except Refused:
            continue


async def _is_served(api: Api, resource: Resource, namespaces: Collection[str]) -> bool:
    """Whether the server knows a kind, as the first of these namespaces shows that may be read."""
    refused: Refused | None = None
    for namespace in namespaces or (None,):
        try:
            await api.list_one(resource, namespace)
        except NotFound:
            return False
        except Refused as error:
            refused = error
        else:
            return True
    assert refused is not None, "at least one was asked"
    raise refused


async def _served_versions(api: Api) -> list[str]:
    try:
        return [version["version"] for version in (await api.document(f"/apis/{GROUP}"))["versions"]]
    except (NotFound, Refused):
        return []


def _lacks(crd: Json, schemas: Json) -> str:
    names = crd["spec"]["names"]
    served = schemas.get(".".join([*reversed(GROUP.split(".")), VERSION, names["kind"]]))
    fields = list(missing_fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], served)) if served else []
    if not fields:
        return ""
    more = f" and {len(fields) - _FIELDS_TOLD} more fields" if len(fields) > _FIELDS_TOLD else ""
    return (
        f"the CRD {names['plural']}.{GROUP} is of another version of this operator: it lacks "
        f"{', '.join(fields[:_FIELDS_TOLD])}{more}"
    )


def missing_fields(needed: Json, served: Json, path: str = "") -> Iterator[str]:
    """Yield the fields of one schema that another lacks and would drop, such as "status.steps.*.losses"."""
    if served.get("x-kubernetes-preserve-unknown-fields"):
        return
    known = served.get("properties", {})
    for name, schema in needed.get("properties", {}).items():
        if not path and name == "metadata":
            continue  # the API server's own
        where = f"{path}.{name}" if path else name
        if name in known:
            yield from missing_fields(schema, known[name], where)
        elif not isinstance(served.get("additionalProperties"), dict):
            yield where
    for keyword, place in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(needed.get(keyword), dict) and isinstance(served.get(keyword), dict):
            yield from missing_fields(needed[keyword], served[keyword], path + place)
