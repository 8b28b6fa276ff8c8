"""The pool whose pods run the worker's file, with the interpreter and in the environment of whoever started ``dev``."""

import os
import sys
from pathlib import Path

from hatchet_operator.cluster.api import Json
from hatchet_operator.resources.base import API_VERSION

POOL_NAME = "dev"
NAMESPACE = "default"
_GRACE_SECONDS = 10


def make_pool(worker: Path, *, replicas: int) -> Json:
    """Return the WorkerPool; its pods run the file in the file's own folder, as `python worker.py` there would."""
    container = {
        "name": "worker",
        "image": "local",
        "command": [sys.executable, "-u", str(worker)],  # -u: output is shown as it comes
        "workingDir": str(worker.parent),
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": _GRACE_SECONDS}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL_NAME},
        "spec": {"minReplicas": replicas, "template": {"spec": spec}},
    }


def worker_environment() -> dict[str, str]:
    """Return what the worker inherits: all of ours, but for settings that would lead it to another operator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HATCHET_CLIENT_")}
