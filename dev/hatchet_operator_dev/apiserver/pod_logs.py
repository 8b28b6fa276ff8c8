"""``pods/log``: the text file that a local node wrote, whose path it put into an annotation of the pod.

``hatchet-operator.dev/log-path`` names the file of a pod with one container, and
``hatchet-operator.dev/log-path.<container>`` that of one container of several. A file next to it, of the same name and
``.times``, says when its bytes came: lines of ``offset seconds``, the seconds since 1970.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import bad_request

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


def kept_log(directory: Path | None, namespace: str, pod: str) -> Path | None:
    """Find the log of a pod that is gone, the newest of that name, where a local node keeps them."""
    if directory is None:
        return None
    found = directory.glob(f"{namespace}_{pod}_*.log")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


class Times:
    """Puts before each line of a log when it came."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times = path.with_name(f"{path.name}.times")
        self._read_to = 0
        self._offsets: list[int] = []
        self._texts: list[bytes] = []
        self._in_line = False

    def put_before(self, block: bytes, start: int) -> bytes:
        """Return a block with times; blocks come in order, this one from ``start`` of the file on."""
        self._read()
        written: list[bytes] = []
        for line in _lines(block):
            written += (line,) if self._in_line else (self._at(start), b" ", line)
            self._in_line = not line.endswith(b"\n")
            start += len(line)
        return b"".join(written)

    def _at(self, offset: int) -> bytes:
        index = bisect_right(self._offsets, offset)
        return self._texts[index - 1] if index else _rfc3339(self._path.stat().st_mtime)

    def _read(self) -> None:
        block, self._read_to = _read_whole_lines(self._times, self._read_to)
        for line in block.splitlines():
            offset, seconds = line.split()
            self._offsets.append(int(offset))
            self._texts.append(_rfc3339(float(seconds)))


def _lines(block: bytes) -> list[bytes]:
    """Split at newlines alone."""
    *lines, rest = block.split(b"\n")
    return [line + b"\n" for line in lines] + ([rest] if rest else [])


def _rfc3339(seconds: float) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()


def _read_whole_lines(path: Path, position: int) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            file.seek(position)
            block = file.read()
    except FileNotFoundError:
        return b"", position
    block = block[: block.rfind(b"\n") + 1]
    return block, position + len(block)


def read_tail(path: Path, lines: int | None) -> tuple[bytes, int]:
    """Read the last ``lines`` lines (``None``: all) and the position up to which was read."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return b"", 0
    if lines is None:
        return text, len(text)
    kept = _lines(text)[-lines:] if lines else []
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
