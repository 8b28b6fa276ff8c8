"""What /livez and /readyz say while the API server is away, and when a watch hears nothing any more."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import kopf
import pytest

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.informer import Informer
from hatchet_operator.cluster.kinds import PODS, POOLS, RUNS, WORKFLOWS, Resource
from hatchet_operator.cluster.leases import monotonic
from hatchet_operator.operator import Operator
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.names import ObjectRef
from hatchet_operator.settings import Settings
from hatchet_operator_dev.apiserver import ApiServer
from tests.integration.commands import end, running
from tests.integration.harness import free_port
from tests.integration.inprocess import CRDS, KEY, NAMESPACE, operator_of, running_operator, running_server
from tests.kube.eventually import eventually

ALIVE = (200, "ok")
STUCK_SECONDS = 5.0  # of which bookmarks and new watches come every second
OFTEN = 1
PACE = Pace(grace=0, stuck=STUCK_SECONDS, kopf_watch=OFTEN)
NEVER = timedelta(hours=1)
TEMPLATE = {"spec": {"containers": [{"name": "worker", "image": "worker"}]}}


async def ask(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def until_answer(port: int, path: str, want: tuple[int, str]) -> None:
    async def holds() -> bool:
        try:
            return await ask(port, path) == want
        except aiohttp.ClientConnectionError:
            return False  # the process is only beginning

    await eventually(holds)


def write_kubeconfig(path: Path, url: str) -> Path:
    path.write_text(
        f"""
        kind: Config
        current-context: x
        clusters: [{{name: c, cluster: {{server: "{url}"}}}}]
        users: [{{name: u, user: {{}}}}]
        contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
        """
    )
    return path


async def test_an_operator_without_api_server_is_alive_and_ready_once_it_answers(tmp_path: Path) -> None:
    api_port, port = free_port(), free_port()
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{api_port}")
    options = ("--kubeconfig", kubeconfig, "--grpc-port", "0", "--metrics-port", str(port))
    async with running("hatchet_operator", "run", *options) as process:
        await until_answer(port, "/readyz", (503, "waiting for the API server"))
        assert await ask(port, "/livez") == ALIVE
        server = ApiServer()
        server.load_definitions(CRDS)
        await server.start(port=api_port)
        await until_answer(port, "/readyz", ALIVE)
        exit_code, log = await end(process)
        await server.stop()
    assert exit_code == 0, log
    assert "API server does not answer, trying again" in log


async def test_an_operator_is_alive_while_its_watches_hear_something() -> None:
    server = ApiServer(bookmark_seconds=OFTEN)
    server.load_definitions(CRDS)
    async with server as url, operator_of(server, url, pace=PACE, metrics_port=0, watch_silence=NEVER) as instance:
        port = instance.operator.probes_port
        assert port is not None
        await asyncio.sleep(STUCK_SECONDS * 1.5)  # nothing happens but bookmarks, and watches that are asked for
        assert await ask(port, "/livez") == ALIVE

        def fault(kind: Resource, **action: object) -> dict[str, object]:
            match = {"verb": "watch", "resource": kind.plural, "userAgent": ["hatchet-operator", "kopf*"]}
            return {"match": match, "times": 0, **action}

        of_ours = [fault(kind, action="silent") for kind in (RUNS, PODS)]
        of_kopf = [fault(kind, action="delay", seconds=600) for kind in (WORKFLOWS, POOLS)]  # it is seen to ask
        server.faults.install(of_ours + of_kopf)

        async def are_stuck() -> bool:
            status, text = await ask(port, "/livez")
            said = [line.partition(" silent for ")[0] for line in text.splitlines()]
            names = ("runs", "pods", "workflows", "workerpools")
            return status == 503 and sorted(said) == sorted(f"watch of {name}" for name in names)

        await eventually(are_stuck, within_seconds=STUCK_SECONDS * 6)
        assert await ask(port, "/readyz") == ALIVE, "workers are served all the same"


async def test_an_operator_that_does_not_look_at_its_lease_is_not_alive() -> None:
    async with running_operator(leader_election=True) as instance:
        assert instance.operator.health().stuck == ()
        elector = instance.operator.elector
        assert elector is not None
        instance.surroundings.ahead = timedelta(seconds=elector.last_look - monotonic() + 130)
        assert instance.operator.health().stuck == ("no look at the Lease for 130s",)


async def test_a_term_whose_watch_ends_while_it_begins_ends_instead_of_waiting_for_ever() -> None:
    async with running_server() as (_, url):
        operator = Operator(Settings(token_key=KEY), Endpoint(server=url))
        with mock.patch.object(Informer, "run", side_effect=ValueError("a fault of ours")):
            async with asyncio.timeout(60):
                with pytest.raises(ValueError, match="a fault of ours"):
                    await operator.run(asyncio.Event())


async def test_a_signal_that_comes_while_kopf_starts_ends_the_operator() -> None:
    """Kopf puts signal handlers of its own in place, which end it and not the operator."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    spawn_tasks = kopf.spawn_tasks

    async def spawn_and_be_told_to_end(**settings: Any) -> Collection[asyncio.Task[None]]:
        tasks = await spawn_tasks(**settings)
        signal.raise_signal(signal.SIGTERM)
        return tasks

    async with running_server() as (_, url):
        operator = Operator(
            Settings(token_key=KEY),
            Endpoint(server=url),
            install_signal_handlers=lambda: loop.add_signal_handler(signal.SIGTERM, stop.set),
        )
        with mock.patch.object(kopf, "spawn_tasks", spawn_and_be_told_to_end):
            async with asyncio.timeout(60):
                await operator.run(stop)


@pytest.mark.parametrize(
    ("kind", "name", "spec"),
    [
        pytest.param(WORKFLOWS, "Workflow", {}, id="the last workflow"),
        pytest.param(POOLS, "WorkerPool", {"template": TEMPLATE}, id="the last pool"),
    ],
)
async def test_what_is_deleted_while_kopf_can_not_watch_is_forgotten(kind: Resource, name: str, spec: Any) -> None:
    """kopf lists again, gets an empty list, and tells no handler."""
    last = ObjectRef(NAMESPACE, "last")
    watch = {"verb": "watch", "resource": kind.plural}
    async with running_operator() as world:
        faults = world.server.faults
        known = world.engine.pools.known if kind is POOLS else world.engine.workflows.known
        body = {"apiVersion": API_VERSION, "kind": name, "metadata": {"name": "last"}, "spec": spec}
        await world.api.create(kind, NAMESPACE, body)
        await world.until(lambda: last in known())
        refused = {"match": watch, "times": 0, "action": "status", "code": 503}
        faults.install([refused, {"match": watch, "action": "cut"}])
        await world.until(lambda: sum(rule["fired"] for rule in faults.report()) >= 2)
        await world.api.delete(kind, NAMESPACE, "last")
        world.server.store.forget_history()
        faults.clear()
        await world.until(lambda: last not in known())
