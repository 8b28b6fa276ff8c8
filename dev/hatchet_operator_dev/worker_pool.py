"""The pool whose pods run the worker's program, with the interpreter and environment that ``dev`` was started with."""

import os
from collections.abc import Sequence
from pathlib import Path

from hatchet_operator.lean_start import environment_of_others
from hatchet_operator.resources.base import API_VERSION, Json

POOL_NAME = "dev"
NAMESPACE = "default"
_GRACE_SECONDS = 10


def make_pool(command: Sequence[str], *, replicas: int) -> Json:
    """Return the WorkerPool; its pods run the command in the folder that we are in, as if it was typed there.

    Args:
        command: Program and arguments.
        replicas: How many there are; with 0 none is ever made, and the pool is what workers from outside belong to.
    """
    container = {
        "name": "worker",
        "image": "local",
        "command": list(command),
        "workingDir": str(Path.cwd()),
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": _GRACE_SECONDS}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL_NAME},
        "spec": {"minReplicas": replicas, "template": {"spec": spec}},
    }


def worker_environment() -> dict[str, str]:
    """Return what the worker inherits: all of ours, but for what would lead it to another operator, or not to ours."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HATCHET_CLIENT_")}
    return environment_of_others(ours) | no_proxy()


def no_proxy() -> dict[str, str]:
    """Return the variable that keeps gRPC of any SDK from asking a proxy for this machine's own address."""
    name = "no_grpc_proxy"  # gRPC reads it before no_proxy, and in lower case only
    given = os.environ.get(name) or os.environ.get("no_proxy", "")
    return {name: ",".join(filter(None, (given, "127.0.0.1,localhost")))}
