"""The operator's small objects are made once and mended, whoever else does the same at the same moment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.kinds import SECRETS
from hatchet_operator.cluster.upkeep import create_unless_there, keep_as_wanted
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator_dev.apiserver import ApiServer
from tests.unit.operator.cluster.busy_api import BusyApi

REF = ObjectRef("default", "keys")


@pytest.fixture
async def api() -> AsyncIterator[BusyApi]:
    server = ApiServer()
    async with BusyApi(await server.start()) as api:
        yield api
    await server.stop()


@pytest.fixture
async def others(api: BusyApi) -> AsyncIterator[Api]:
    """What another operator, or a person, does."""
    async with Api(Endpoint(server=api.endpoint.server), may_write=always) as others:
        yield others


def secret(**labels: str) -> Json:
    metadata = {"name": REF.name, "namespace": REF.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def labelled_ours(there: Json | None) -> Json | None:
    """It has the label "ours", beside whatever labels others gave it."""
    if there is None:
        return secret(ours="yes")
    labels = there["metadata"].get("labels") or {}
    return (
        None if "ours" in labels else {**there, "metadata": {**there["metadata"], "labels": labels | {"ours": "yes"}}}
    )


async def kept(api: BusyApi) -> tuple[dict[str, str], bool]:
    obj, is_written = await keep_as_wanted(api, SECRETS, REF, labelled_ours)
    assert await api.get(SECRETS, REF.namespace, REF.name) == obj, "what is returned is what is there"
    return obj["metadata"]["labels"], is_written


async def test_what_is_missing_is_made(api: BusyApi) -> None:
    assert await kept(api) == ({"ours": "yes"}, True)


async def test_what_is_right_is_left_alone(api: BusyApi, others: Api) -> None:
    await others.create(SECRETS, REF.namespace, secret(ours="already"))
    assert await kept(api) == ({"ours": "already"}, False)
    assert api.tried == 0


async def test_what_is_wrong_is_mended_and_keeps_what_others_gave_it(api: BusyApi, others: Api) -> None:
    await others.create(SECRETS, REF.namespace, secret(theirs="yes"))
    assert await kept(api) == ({"theirs": "yes", "ours": "yes"}, True)


async def test_of_two_that_make_it_the_first_one_counts(api: BusyApi, others: Api) -> None:
    api.ahead = [lambda: others.create(SECRETS, REF.namespace, secret(ours="quicker"))]
    assert await kept(api) == ({"ours": "quicker"}, False)


async def test_what_others_write_meanwhile_is_not_written_over(api: BusyApi, others: Api) -> None:
    await others.create(SECRETS, REF.namespace, secret())
    patch = {"metadata": {"labels": {"theirs": "late"}}}
    api.ahead = [lambda: others.patch(SECRETS, REF.namespace, REF.name, patch)]
    assert await kept(api) == ({"theirs": "late", "ours": "yes"}, True)
    assert api.tried == 2, "the first one met a conflict"


async def test_what_is_deleted_and_made_anew_meanwhile_is_another(api: BusyApi, others: Api) -> None:
    await others.create(SECRETS, REF.namespace, secret(first="yes"))

    async def make_anew() -> None:
        await others.delete(SECRETS, REF.namespace, REF.name)
        await others.create(SECRETS, REF.namespace, secret(second="yes"))

    api.ahead = [make_anew]
    assert await kept(api) == ({"second": "yes", "ours": "yes"}, True)


async def test_what_is_deleted_meanwhile_is_made(api: BusyApi, others: Api) -> None:
    await others.create(SECRETS, REF.namespace, secret(first="yes"))
    api.ahead = [lambda: others.delete(SECRETS, REF.namespace, REF.name)]
    assert await kept(api) == ({"ours": "yes"}, True)


async def test_what_is_there_is_not_created(api: BusyApi, others: Api) -> None:
    created = await create_unless_there(api, SECRETS, secret(ours="yes"))
    assert created is not None
    assert created["metadata"]["labels"] == {"ours": "yes"}
    assert await create_unless_there(api, SECRETS, secret(ours="again")) is None
    assert (await others.get(SECRETS, REF.namespace, REF.name))["metadata"]["labels"] == {"ours": "yes"}
