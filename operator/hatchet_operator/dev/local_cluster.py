"""API server, operator and node in this process, on free loopback ports.

They end in the reverse order of their start: first the node, so that workers can still hand in what they have; the
operator; the API server last. When one of them fails, the body is cancelled and its error raised.
"""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from hatchet_operator.apiserver.access import make_loopback_certificate, write_kubeconfig
from hatchet_operator.apiserver.server import ApiServer
from hatchet_operator.cluster.api import Api, Endpoint, always
from hatchet_operator.dev.view import View
from hatchet_operator.localnode import LocalNode, OutputHandler
from hatchet_operator.operator import Operator
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.settings import Settings

_STOP_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """What runs; objects go through `api`, `view` shows them."""

    api: Api
    view: View
    operator: Operator

    def let_run_longer(self, by: timedelta) -> None:
        """Move the deadlines of all attempts that are out."""
        if self.operator.engine is not None:
            self.operator.engine.runs.attempts.let_run_longer(by)


@asynccontextmanager
async def local_cluster(
    directory: Path,
    *,
    kubeconfig: Path,
    grpc_port: int,
    environment: dict[str, str],
    on_output: OutputHandler,
    install_signal_handlers: Callable[[], None],
    worker_silent: timedelta | None = None,
) -> AsyncIterator[LocalCluster]:
    """Start everything; end everything when the block is left.

    Args:
        directory: For the logs of pods.
        kubeconfig: Written here.
        grpc_port: For workers and clients; 0: a free one.
        environment: What pods inherit.
        on_output: Called with each line that a pod writes.
        install_signal_handlers: Called when kopf has put its own in their place.
        worker_silent: A worker without heartbeat for this long is dead; None: as in a cluster.
    """
    # Pods are commands of this machine's user: only who holds the token may make some.
    token = secrets.token_urlsafe(32)
    certificate = make_loopback_certificate()
    server = ApiServer(token=token, kept_logs=directory / "logs")
    for crd in load_crds():
        server.create(crd)
    async with AsyncExitStack() as stack:
        url = await server.start(ssl_context=certificate.context)
        stack.push_async_callback(server.stop)
        write_kubeconfig(kubeconfig, server=url, token=token, ca_pem=certificate.ca_pem)
        endpoint = Endpoint(
            server=url, token=token, ssl_context=ssl.create_default_context(cadata=certificate.ca_pem.decode())
        )
        api = await stack.enter_async_context(Api(endpoint, user_agent="hatchet-operator-dev", may_write=always))
        settings = Settings(grpc_port=grpc_port)
        if worker_silent is not None:
            settings = replace(settings, worker_silent=worker_silent)
        operator = Operator(settings, endpoint, install_signal_handlers=install_signal_handlers)
        _run_beside(stack, operator.run)
        node = LocalNode(
            api, state_directory=directory, inherited=environment, stop_seconds=_STOP_SECONDS, on_output=on_output
        )
        _run_beside(stack, node.run)
        view = View(api)
        _run_beside(stack, _until_stopped(view.run))
        yield LocalCluster(api=api, view=view, operator=operator)


def _run_beside(stack: AsyncExitStack, run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run something beside the body, stop it when the stack unwinds, and cancel the body when it fails."""
    body = asyncio.current_task()
    assert body is not None
    stop = asyncio.Event()
    task = asyncio.ensure_future(run(stop))
    task.add_done_callback(lambda _: None if stop.is_set() else body.cancel())

    async def end() -> None:
        stop.set()
        await task

    stack.push_async_callback(end)


def _until_stopped(run: Callable[[], Awaitable[None]]) -> Callable[[asyncio.Event], Awaitable[None]]:
    async def run_until(stop: asyncio.Event) -> None:
        running = asyncio.ensure_future(run())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    return run_until
