"""The local node as a process of its own, for an API server without kubelets."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.kubeconfig import find_endpoint
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.logs import configure_logging
from hatchet_operator_dev.localnode.node import LocalNode


def main(
    state_dir: Annotated[Path, typer.Option(help="Directory for the containers' logs.")],
    kubeconfig: Annotated[Path | None, typer.Option(help="How to reach the API server; default: $KUBECONFIG.")] = None,
    name: Annotated[str, typer.Option(help="Name of the node.")] = "local",
    namespace: Annotated[str | None, typer.Option(help="Pods of one namespace; default: all.")] = None,
    bound_only: Annotated[bool, typer.Option(help="Leave alone pods that no scheduler bound to this node.")] = False,
) -> None:
    """Run pods as child processes of this machine until SIGTERM or Ctrl-C."""
    configure_logging("info", "text")

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Api(find_endpoint(kubeconfig), user_agent="hatchet-local-node", may_write=always) as api:
            node = LocalNode(
                api, state_directory=state_dir, name=name, namespace=namespace, takes_unbound=not bound_only
            )
            await node.run(stop)

    try:
        asyncio.run(run())
    except ConfigurationError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    typer.run(main)
