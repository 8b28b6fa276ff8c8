"""Turns what workers would register into the objects that a person keeps in a repository. Pure.

They contain only what a person sets, and not what a registration or the operator writes (status, defaults). So they
can be applied before or after a worker registers, any number of times, and neither undoes what the other did.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from pydantic import ValidationError

from hatchet_operator.decisions.graph import InvalidDefinitionError, check_definition
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.manifests.program import WorkerDescription
from hatchet_operator.resources.base import API_VERSION, Json
from hatchet_operator.resources.names import MAX_NAME, workflow_object_name
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow, WorkflowDefinition

# What a namespace with the Pod Security Standard "restricted" requires.
_POD_SECURITY: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY: Json = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

_OBJECT_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_REPLICAS = re.compile(r"(\d+)(?::(\d+))?")
_PLAIN = re.compile(r"[A-Za-z/][-A-Za-z0-9_./:]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Replicas:
    """How many pods a pool has: at least, and under load at most (None: no more)."""

    least: int
    most: int | None


def parse_replicas(text: str) -> Replicas:
    """Read ``MIN`` or ``MIN:MAX``.

    Raises:
        ConfigurationError: It is neither, or MAX is less than MIN.
    """
    if (match := _REPLICAS.fullmatch(text)) is None:
        raise ConfigurationError(f'--replicas is "{text}"; expected MIN or MIN:MAX, as in 2 or 0:10')
    replicas = Replicas(least=int(match[1]), most=int(match[2]) if match[2] else None)
    if replicas.most is not None and replicas.most < replicas.least:
        raise ConfigurationError(f'--replicas is "{text}", the most below the least; expected MIN:MAX, as in 0:10')
    return replicas


def pool_name(workers: Sequence[WorkerDescription], asked: str | None) -> str:
    """Return the pool's name: as requested, or the worker's.

    Raises:
        ConfigurationError: The name can't be an object's, or there are several workers to name it after.
    """
    if asked is not None:
        if len(asked) > MAX_NAME or not _OBJECT_NAME.fullmatch(asked):
            raise ConfigurationError(
                f'--pool is "{asked}"; expected at most {MAX_NAME} of the characters a-z, 0-9 and "-", as in "workers"'
            )
        return asked
    names = sorted({worker.name for worker in workers})
    if len(names) > 1:
        listed = ", ".join(f'"{name}"' for name in names)
        raise ConfigurationError(
            f"the program starts {len(names)} workers, {listed}, which are one pool; name it with --pool"
        )
    try:
        return workflow_object_name(names[0])
    except ValueError as error:
        raise ConfigurationError(
            f'the worker\'s name "{names[0]}" has no letter a-z or digit to name a pool after; give --pool'
        ) from error


def make_workflows(workers: Sequence[WorkerDescription], *, pool: str, namespace: str | None) -> list[Json]:
    """Build the Workflow objects, in the order of registration.

    Raises:
        ConfigurationError: The operator would refuse a registration; the message is the one it would give.
    """
    exact_names: dict[str, str] = {}
    for definition in (definition for worker in workers for definition in worker.workflows):
        name = _checked_name(definition)
        if (other := exact_names.setdefault(name, definition.name)) != definition.name:
            raise ConfigurationError(
                f'workflows "{other}" and "{definition.name}" would both be the Workflow object "{name}"; '
                "rename one of them"
            )
    return [
        _checked(
            Workflow,
            {
                "apiVersion": API_VERSION,
                "kind": "Workflow",
                "metadata": _metadata(name, namespace),
                "spec": ({} if exact == name else {"name": exact}) | {"pool": pool},
            },
        )
        for name, exact in exact_names.items()
    ]


def make_pool(
    workers: Sequence[WorkerDescription],
    *,
    pool: str,
    namespace: str | None,
    image: str,
    program: str,
    replicas: Replicas | None,
) -> Json:
    """Build the WorkerPool; what was not requested is left to the defaults, and to whatever scales it.

    Args:
        workers: The program's; a single one's slots become the pool's, so that it can be scaled from zero pods.
        pool: Its name.
        namespace: The object's; None: the one that it is applied to.
        image: An image with the program in its working directory.
        program: The file's name there.
        replicas: None: the default.

    Raises:
        ConfigurationError: The API server would refuse it.
    """
    container = {
        "name": "worker",
        "image": image,
        "command": ["python", program],
        "securityContext": _CONTAINER_SECURITY,
    }
    spec: Json = {}
    if replicas is not None:
        spec["minReplicas"] = replicas.least
        if replicas.most is not None:
            spec["maxReplicas"] = replicas.most
    if len(workers) == 1 and workers[0].slots is not None:
        spec["slots"] = workers[0].slots
    spec["template"] = {"spec": {"securityContext": _POD_SECURITY, "containers": [container]}}
    metadata = _metadata(pool, namespace)
    return _checked(WorkerPool, {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": metadata, "spec": spec})


def render(objects: Sequence[Json]) -> str:
    """Write objects as YAML that every parser reads in the same way."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _checked_name(definition: WorkflowDefinition) -> str:
    try:
        check_definition(definition)
        return workflow_object_name(definition.name)
    except (InvalidDefinitionError, ValueError) as error:
        raise ConfigurationError(str(error)) from error


def _checked(model: type[Workflow | WorkerPool], obj: Json) -> Json:
    try:
        model.model_validate(obj)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError(f'{obj["kind"]} "{obj["metadata"]["name"]}" would be refused: {problems}') from error
    return obj


def _metadata(name: str, namespace: str | None) -> Json:
    return {"name": name} | ({"namespace": namespace} if namespace else {})


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 in Go, unlike in Python, does not read as text: ``Y``, ``1e3``."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_Dumper.add_representer(str, _represent_text)
