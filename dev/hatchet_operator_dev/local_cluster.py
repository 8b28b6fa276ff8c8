"""API server, operator and node in this process, on free loopback ports.

They end in the reverse order of their start: first the node, so that workers can still hand in what they have; the
operator; the API server last. When one of them fails, the body is cancelled and its error raised.
"""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.engine.payloads.texts import Payloads, references_of
from hatchet_operator.operator import Operator
from hatchet_operator.resources.crds import load_crds
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.settings import Settings
from hatchet_operator_dev.apiserver.access import make_loopback_certificate, write_kubeconfig
from hatchet_operator_dev.apiserver.server import ApiServer
from hatchet_operator_dev.errors import DevError
from hatchet_operator_dev.localnode import LocalNode, OutputHandler
from hatchet_operator_dev.view import View
from hatchet_operator_dev.worker_pool import NAMESPACE
from hatchet_sdk.payloads.reference import owner_of_request
from hatchet_sdk.payloads.store import PayloadError

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

    async def input_to_keep(self, text: str) -> str:
        """Return what a run is to have as its input: the text, or what stands for it in the payload store."""
        payloads = self._payloads
        if payloads.root is None or len(text.encode()) <= payloads.inline_bytes:
            return text
        return await payloads.keep(NAMESPACE, owner_of_request(secrets.token_hex()), text, kind="input")

    async def texts_of(self, run: WorkflowRun) -> Mapping[str, str]:
        """Return what the references in a run mean.

        Raises:
            DevError: One can't be read.
        """
        try:
            return await self._payloads.texts(NAMESPACE, references_of(run))
        except PayloadError as error:
            raise DevError(str(error)) from error

    @property
    def payloads_root(self) -> str | None:
        """The payload store, for who reads and writes it; None: there is none."""
        return self._payloads.root_of(NAMESPACE)

    @property
    def _payloads(self) -> Payloads:
        assert self.operator.engine is not None, "it runs"
        return self.operator.engine.payloads


@asynccontextmanager
async def local_cluster(
    directory: Path,
    *,
    kubeconfig: Path,
    grpc_port: int,
    environment: dict[str, str],
    on_output: OutputHandler,
    install_signal_handlers: Callable[[], None],
    tracing: bool = False,
    worker_silent: timedelta | None = None,
    payloads: Path | None = None,
) -> AsyncIterator[LocalCluster]:
    """Start everything; end everything when the block is left.

    Args:
        directory: For the logs of pods.
        kubeconfig: Written here.
        grpc_port: For workers and clients; 0: a free one.
        environment: What pods inherit.
        on_output: Called with each line that a pod writes.
        install_signal_handlers: Called when kopf has put its own in their place.
        tracing: Whether the operator sends spans, to where OpenTelemetry's variables say.
        worker_silent: A worker without heartbeat for this long is dead; None: as in a cluster.
        payloads: Where large inputs and outputs go; None: they are refused.
    """
    # Pods are commands of this machine's user: only who holds the token may make some.
    token = secrets.token_urlsafe(32)
    certificate = make_loopback_certificate()
    server = ApiServer(token=token, kept_logs=directory / "logs")
    for crd in load_crds(light_runs=True):
        server.create(crd)
    async with AsyncExitStack() as stack:
        url = await server.start(ssl_context=certificate.context)
        stack.push_async_callback(server.stop)
        write_kubeconfig(kubeconfig, server=url, token=token, ca_pem=certificate.ca_pem)
        endpoint = Endpoint(
            server=url, token=token, ssl_context=ssl.create_default_context(cadata=certificate.ca_pem.decode())
        )
        api = await stack.enter_async_context(Api(endpoint, user_agent="hatchet-operator-dev", may_write=always))
        payload_store = payloads.as_uri() if payloads is not None else None
        # with a port for what programs of Hatchet's SDKs ask over REST; it is in their token
        settings = Settings(
            grpc_port=grpc_port, events_port=0, payload_store=payload_store, light_runs=True, tracing=tracing
        )
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
    """Run a task concurrently with the body, stop it when the stack unwinds, and cancel the body if it fails."""
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
