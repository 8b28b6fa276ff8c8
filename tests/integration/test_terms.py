"""An operator loses its Lease and gets it again: of the term that ended nothing is left that could act."""

from __future__ import annotations

import asyncio
import gc
import weakref
from datetime import timedelta
from typing import Any

import pytest

from hatchet_operator.cluster.kinds import ENDPOINT_SLICES, LEASES, RUNS
from hatchet_operator.errors import Transient
from tests.integration.inprocess import NAMESPACE, Instance, running_operator
from tests.kube.eventually import eventually

SERVICE = "hatchet"
SETTINGS: dict[str, Any] = {"leader_election": True, "rejoin": 1.0}


async def give_the_lease_to(operator: Instance, holder: str) -> None:
    """Take the Lease as another operator does, whatever the leader writes meanwhile."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 3600}
    await operator.api.patch(LEASES, NAMESPACE, "hatchet-operator", {"spec": spec})


async def depose(operator: Instance) -> None:
    await give_the_lease_to(operator, "another")

    async def is_standby() -> bool:
        return operator.operator.term is None

    await eventually(is_standby)


def tasks_of_a_term() -> list[str]:
    """Name the tasks that only a leader has: all but the test's, the server's and the elector's."""
    found = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        file = code.co_filename if code else ""
        if any(part in file for part in ("kopf", "/engine/", "/dispatcher/", "/term.py", "informer.py", "leader_end")):
            found.append(f"{task.get_name()}: {task.get_coro()}")
    return found


async def test_nothing_of_a_term_is_left_when_it_is_over() -> None:
    async with running_operator(**SETTINGS, running_after=60.0) as operator:  # so timers would be left, too
        worker = await operator.scripted()
        await worker.put_workflow("flow")
        await worker.start()
        for number in range(3):
            await operator.create_run(f"run-{number}", "flow")
        await worker.complete(await worker.next())
        await worker.next()
        engine, api = weakref.ref(operator.engine), weakref.ref(operator.surroundings.session)
        assert tasks_of_a_term()

        await depose(operator)

        async def nothing_is_left() -> bool:
            gc.collect()
            return not tasks_of_a_term() and engine() is None and api() is None

        try:
            # gRPC itself may keep hold of a server's last call until its keepalive, which is after 30 s
            await eventually(nothing_is_left)
        except TimeoutError:
            held_by = [type(each) for each in gc.get_referrers(engine())] if engine() else []
            pytest.fail(f"left: {tasks_of_a_term()}, engine held by {held_by}")
        assert operator.operator.health().state == "standby"
        assert operator.operator.health().ready
        assert operator.operator.metrics.registry.get_sample_value("hatchet_operator_is_leader") == 0
        assert operator.operator.metrics.registry.get_sample_value("hatchet_operator_workers_connected") == 0


async def test_a_deposed_leader_can_write_nothing() -> None:
    async with running_operator(**SETTINGS) as operator:
        run = await operator.create_run("run", "flow")
        api = operator.surroundings.session
        assert operator.operator.elector is not None
        await give_the_lease_to(operator, "another")

        async def knows() -> bool:
            return not operator.operator.elector.is_leading()  # type: ignore[union-attr]  # checked above

        await eventually(knows)
        with pytest.raises((Transient, RuntimeError), match=r"no longer the leader|before start"):
            await api.replace(RUNS, NAMESPACE, "run", run, subresource="status")


async def test_a_leader_that_was_paused_gives_out_and_writes_nothing() -> None:
    """Its clock says that the Lease is over before any of its tasks has noticed."""
    async with running_operator(**SETTINGS) as operator:
        worker = await operator.scripted()
        await worker.put_workflow("flow")
        await worker.start()
        term, writes = operator.operator.term, operator.surroundings.session.writes
        await give_the_lease_to(operator, "another")
        operator.surroundings.ahead = timedelta(hours=1)  # also for the answer to a renewal that is under way
        before = writes.copy()
        await operator.create_run("run", "flow")

        async def is_over() -> bool:
            return operator.operator.term is not term

        await eventually(is_over)
        assert worker.has_nothing_new
        assert writes == before


async def test_it_leads_again_and_finds_everything() -> None:
    async with running_operator(**SETTINGS) as operator:
        await depose(operator)
        await operator.create_run("meanwhile", "flow")
        await give_the_lease_to(operator, "")
        await asyncio.wait_for(operator.operator.ready.wait(), 60)
        assert operator.operator.health().state == "ok"
        worker = await operator.scripted()
        await worker.put_workflow("flow")
        await worker.start()
        await worker.complete(await worker.next())
        assert (await operator.finished("meanwhile"))["phase"] == "Succeeded"


async def test_the_service_leads_to_the_leader() -> None:
    settings = SETTINGS | {"grpc_service": SERVICE, "pod_ip": "10.1.2.3", "pod_name": "operator-0", "pod_uid": "1-2-3"}
    async with running_operator(**settings) as operator:

        async def leads_here() -> bool:
            slices, _ = await operator.api.list_all(
                ENDPOINT_SLICES, NAMESPACE, label_selector=f"kubernetes.io/service-name={SERVICE}"
            )
            return [endpoint["addresses"] for each in slices for endpoint in each["endpoints"]] == [["10.1.2.3"]]

        await eventually(leads_here)
        found = await operator.api.get(ENDPOINT_SLICES, NAMESPACE, f"{SERVICE}-leader")
        assert found["addressType"] == "IPv4"
        assert found["endpoints"][0]["targetRef"]["name"] == "operator-0"
        assert found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "hatchet-operator"
        port = found["ports"][0]
        assert (port["name"], port["protocol"]) == ("grpc", "TCP")
        assert operator.operator.grpc_address == f"{SERVICE}.{NAMESPACE}.svc:{port['port']}"

        another = {**found, "endpoints": [{"addresses": ["10.9.9.9"]}]}
        await operator.api.replace(ENDPOINT_SLICES, NAMESPACE, f"{SERVICE}-leader", another)
        await depose(operator)
        await give_the_lease_to(operator, "")
        await eventually(leads_here)


async def test_a_term_that_ends_while_it_begins_lets_nobody_in() -> None:
    async with running_operator(**SETTINGS) as operator:
        await depose(operator)
        slow = {"match": {"verb": "list", "resource": "workflowruns"}, "action": "delay", "seconds": 600}
        operator.server.faults.install(slow)
        await give_the_lease_to(operator, "")

        async def is_reading() -> bool:
            return operator.server.faults.rules[0].fired == 1

        await eventually(is_reading)
        assert operator.operator.health().state == "reading what is there"
        assert not operator.operator.health().ready
        await depose(operator)
        assert operator.operator.health().state == "standby"
        assert not operator.operator.ready.is_set()
        assert not tasks_of_a_term()


async def test_a_standby_without_rights_for_the_lease_is_not_ready_and_says_why() -> None:
    async with running_operator(**SETTINGS) as operator:
        await depose(operator)
        health = operator.operator.health
        assert (health().state, health().ready) == ("standby", True)
        operator.server.faults.install(
            {"match": {"resource": "leases", "verb": "get"}, "action": "status", "code": 403, "times": 0}
        )
        await operator.until(lambda: not health().ready)
        assert health().state == "kept from the election: injected fault: 403"
        operator.server.faults.clear()
        await operator.until(lambda: health().ready)
