"""``pods/log``: the text file that a local node wrote, whose path it put into an annotation of the pod.

``hatchet-operator.dev/log-path`` names the file of a pod with one container, and
``hatchet-operator.dev/log-path.<container>`` that of one container of several.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from hatchet_operator.apiserver.status import bad_request

Object = dict[str, Any]

LOG_PATH = "hatchet-operator.dev/log-path"
_BLOCK = 64 * 1024
_FOLLOW_SECONDS = 0.1


def log_path(pod: Object, container: str) -> Path:
    """Find the file; 400, as from the real server, while there is none."""
    metadata = pod["metadata"]
    names = [one["name"] for one in pod.get("spec", {}).get("containers") or ()]
    if container and container not in names:
        raise bad_request(f"container {container} is not valid for pod {metadata['name']}")
    annotations = metadata.get("annotations") or {}
    container = container or (names[0] if names else "")
    found = annotations.get(f"{LOG_PATH}.{container}") or annotations.get(LOG_PATH)
    if not found:
        raise bad_request(f'container "{container}" in pod "{metadata["name"]}" is waiting to start: ContainerCreating')
    return Path(found)


def read_tail(path: Path, lines: int | None) -> tuple[bytes, int]:
    """Read the last ``lines`` lines (``None``: all) and the position up to which was read."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return b"", 0
    if lines is None:
        return text, len(text)
    kept = text.splitlines(keepends=True)[-lines:] if lines else []
    return b"".join(kept), len(text)


async def follow(path: Path, position: int, is_running: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield what is appended, until the pod has ended and nothing is left; a truncated file starts over."""
    while True:
        running = is_running()  # asked before reading, so that the last words are not missed
        block, position = await asyncio.to_thread(_read_from, path, position)
        if block:
            yield block
        elif not running:
            return
        else:
            await asyncio.sleep(_FOLLOW_SECONDS)


def _read_from(path: Path, position: int) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) < position:
                position = 0
            file.seek(position)
            block = file.read(_BLOCK)
    except FileNotFoundError:
        return b"", 0
    return block, position + len(block)
