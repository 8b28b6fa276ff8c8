"""The image of the container that holds a pod's namespaces: busybox asleep, as a docker-archive written by hand."""

import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path

from tests.e2e.cluster.errors import ClusterError

PAUSE_IMAGE = "localhost/pause:1"


def write_pause_image(archive: Path) -> None:
    """Write the image to a file that containerd can import."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise ClusterError("busybox is missing: apt-get install busybox-static")
    layer = _tar({"bin/busybox": Path(busybox).read_bytes()}, mode=0o755)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox", "sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    archive.write_bytes(_tar(files))


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
