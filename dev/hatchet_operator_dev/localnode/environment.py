"""What a pod's command sees: the container's env, resolved as the kubelet does, over a small inherited environment."""

import base64
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import CONFIG_MAPS, SECRETS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import Json

INHERITED = (
    *("PATH", "HOME", "USER", "SHELL", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *("PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
LOOPBACK = "127.0.0.1"

_REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z][-._a-zA-Z0-9]*)\))")
_MAP_ENTRY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class BadEnvironment(Exception):
    """A variable refers to something that is not there; the message says which variable and what."""


def inherited_environment() -> dict[str, str]:
    """Return the part of this process's environment that commands inherit, unless the node is configured otherwise."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


async def resolve_environment(api: Api, pod: Json, container: Json, *, node: str) -> dict[str, str]:
    """Return the container's own variables.

    Raises:
        BadEnvironment: A Secret, ConfigMap, key or field is not there.
    """
    own: dict[str, str] = {}
    data = _reader(api, pod["metadata"]["namespace"])
    for source in container.get("envFrom") or ():
        for kind in ("secretRef", "configMapRef"):
            if reference := source.get(kind):
                for key, value in (await data(kind, reference) or {}).items():
                    own[source.get("prefix", "") + key] = value
    for variable in container.get("env") or ():
        name = variable["name"]
        try:
            resolved = await _resolve(variable, pod, own, data, node)
        except BadEnvironment as error:
            raise BadEnvironment(f"env {name}: {error}") from error
        if resolved is not None:
            own[name] = resolved
    return own


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value; $$ stands for $, and a reference to an undefined name is left unchanged."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


Reader = Callable[[str, Json], Awaitable[dict[str, str] | None]]


def _reader(api: Api, namespace: str) -> Reader:
    seen: dict[tuple[str, str], dict[str, str] | None] = {}

    async def read(kind: str, reference: Json) -> dict[str, str] | None:
        name = reference["name"]
        if (kind, name) not in seen:
            seen[kind, name] = await _read(kind, name)
        if seen[kind, name] is None and not reference.get("optional"):
            raise BadEnvironment(f'{"Secret" if "ecret" in kind else "ConfigMap"} "{name}" is not there')
        return seen[kind, name]

    async def _read(kind: str, name: str) -> dict[str, str] | None:
        is_secret = kind.startswith("secret")
        try:
            body = await api.get(SECRETS if is_secret else CONFIG_MAPS, namespace, name)
        except NotFound:
            return None
        data: dict[str, str] = body.get("data") or {}
        if is_secret:
            return {key: base64.b64decode(value).decode() for key, value in data.items()}
        return data

    return read


async def _resolve(variable: Json, pod: Json, own: Mapping[str, str], data: Reader, node: str) -> str | None:
    match variable.get("valueFrom"):
        case None:
            return expand(variable.get("value", ""), own)
        case {"fieldRef": {"fieldPath": path}}:
            return _field(pod, path, node)
        case {"secretKeyRef": reference}:
            return await _key(data, "secretRef", reference)
        case {"configMapKeyRef": reference}:
            return await _key(data, "configMapRef", reference)
        case source:
            raise BadEnvironment(f"a local node knows no {', '.join(source)}")


async def _key(data: Reader, kind: str, reference: Json) -> str | None:
    values = await data(kind, reference)
    if values is None or reference["key"] not in values:
        if reference.get("optional"):
            return None
        raise BadEnvironment(f'"{reference["name"]}" has no key "{reference["key"]}"')
    return values[reference["key"]]


def _field(pod: Json, path: str, node: str) -> str:
    metadata: dict[str, Any] = pod["metadata"]
    if match := _MAP_ENTRY.fullmatch(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            entries = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
        case "spec.nodeName":
            return node
        case "spec.serviceAccountName":
            return str(pod["spec"].get("serviceAccountName", ""))
        case "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs":
            return LOOPBACK
        case _:
            raise BadEnvironment(f'a local node knows no field "{path}"')
