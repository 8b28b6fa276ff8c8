"""What ``dev`` runs: the cluster, the program whose workers it has, and where to say what happens."""

import asyncio
import base64
import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from hatchet_cli.screen import Screen
from hatchet_operator.cluster.kinds import SECRETS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json
from hatchet_operator_dev.local_cluster import LocalCluster
from hatchet_operator_dev.output import WorkerOutput
from hatchet_operator_dev.program import Program
from hatchet_operator_dev.traces import Traces
from hatchet_operator_dev.worker_pool import NAMESPACE, POOL_NAME, no_proxy

_LOOK_SECONDS = 0.05
_VARIABLES = "HATCHET_CLIENT_TOKEN, …_HOST_PORT and …_TLS_STRATEGY"


@dataclass(frozen=True, kw_only=True)
class Local:
    """All of it.

    Attributes:
        cluster: API server, operator and node.
        program: What starts a worker; None: it is started elsewhere.
        workers: How many are kept here; 0: they come from outside.
        waits_for_debugger: The port where the worker waits for one before it begins.
        directory: For files that people use.
        kubeconfig: Where it was written.
        screen: Where it is said.
        output: What workers write.
        traces: Where they go; None: nowhere.
    """

    cluster: LocalCluster
    program: Program | None
    workers: int
    waits_for_debugger: int | None
    directory: Path
    kubeconfig: Path
    screen: Screen
    output: WorkerOutput
    traces: Traces | None

    @property
    def shown(self) -> str:
        """Who registers workflows, for a person."""
        return self.program.shown if self.program is not None else "a worker of yours"

    async def write_environment(self) -> Path:
        """Write shell lines that make a program a worker or client of this operator; return the file."""
        path = self.directory / "client.env"
        path.touch(mode=0o600)
        secret = await self._find_token()
        variables = {
            "HATCHET_CLIENT_TOKEN": base64.b64decode(secret["data"]["token"]).decode(),
            "HATCHET_CLIENT_HOST_PORT": self.cluster.operator.grpc_address,
            "HATCHET_CLIENT_TLS_STRATEGY": "none",
            **no_proxy(),
        }
        if self.traces is not None:
            variables |= self.traces.client_variables()
        if (payloads := self.cluster.payloads_root) is not None:
            variables["HATCHET_CLIENT_PAYLOADS"] = payloads
        path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
        return path

    async def _find_token(self) -> Json:
        while True:
            try:
                return await self.cluster.api.get(SECRETS, NAMESPACE, f"{POOL_NAME}-token")
            except NotFound:  # the operator makes it once it has seen the pool
                await asyncio.sleep(_LOOK_SECONDS)

    async def say_how_to_start_a_worker(self) -> None:
        """Print the lines that start one in another terminal, or in an editor's debugger."""
        environment = await self.write_environment()
        typed = self.program.typed if self.program is not None else "python worker.py"
        self.screen.print(
            "",
            Text.assemble(
                ("  Look at it with kubectl\n", "bold"),
                f"    export KUBECONFIG={shlex.quote(str(self.kubeconfig))}\n\n",
                ("  Start a worker", "bold"),
                (f"  (the file exports {_VARIABLES})\n", "dim"),
                f"    source {shlex.quote(str(environment))}\n",
                f"    {typed}",
            ),
            "",
        )
