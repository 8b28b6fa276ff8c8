"""Runs ``manifests``: from its options to YAML on stdout and an exit code."""

import sys
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator.errors import OperatorError
from hatchet_operator.manifests.objects import make_pool, make_workflows, parse_replicas, pool_name, render
from hatchet_operator.manifests.program import describe_workers


@dataclass(frozen=True, kw_only=True)
class ManifestOptions:
    """The options of the command.

    Attributes:
        program: The Python file that starts a worker.
        pool: Name of the WorkerPool; None: the worker's.
        image: The image of its pods; None: the pool's name.
        namespace: The objects' namespace; None: the one that they are applied to.
        replicas: ``MIN`` or ``MIN:MAX``; None: the default.
    """

    program: Path
    pool: str | None = None
    image: str | None = None
    namespace: str | None = None
    replicas: str | None = None


def print_manifests(options: ManifestOptions) -> int:
    """Run the command and return its exit code."""
    try:
        text = _manifests(options)
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(text)
    return 0


def _manifests(options: ManifestOptions) -> str:
    replicas = parse_replicas(options.replicas) if options.replicas is not None else None
    workers = describe_workers(options.program)
    pool = pool_name(workers, options.pool)
    workflows = make_workflows(workers, pool=pool, namespace=options.namespace)
    worker_pool = make_pool(
        workers,
        pool=pool,
        namespace=options.namespace,
        image=options.image or pool,
        program=options.program.name,
        replicas=replicas,
    )
    return render([*workflows, worker_pool])
