"""TLS of an HTTP server, whose certificate is renewed while it serves."""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hatchet_operator.access.certificates import KeyPair


class ServerTls:
    """What a server listens with.

    Args:
        certificate: The one to begin with.
    """

    def __init__(self, certificate: KeyPair) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.show(certificate)

    def show(self, certificate: KeyPair) -> None:
        """Use another certificate for new connections; those that are open stay as they are."""
        with _readable(certificate.certificate + certificate.key) as path:
            self.context.load_cert_chain(path)


@contextmanager
def _readable(text: bytes) -> Iterator[str]:
    """Provide a text temporarily as a file, for a library that reads files; in memory if possible."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate")
        try:
            os.write(descriptor, text)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "certificate")
        path.touch(0o600)
        path.write_bytes(text)
        yield str(path)
