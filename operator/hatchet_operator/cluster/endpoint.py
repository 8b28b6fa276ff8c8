"""Where the API server is, and how to prove who we are."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from hatchet_operator.cluster.ownership import Owner


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the API server is, and how to prove who we are.

    Attributes:
        server: Base URL, as in "https://10.0.0.1:443".
        token: Bearer token.
        token_file: File with a bearer token that is rotated; read again once a minute.
        ssl_context: For https.
        namespace: The namespace that the kubeconfig or the Pod names.
        account: The ServiceAccount that we act as there, as the owner of objects; None: we are not a Pod.
    """

    server: str
    token: str | None = None
    token_file: Path | None = None
    ssl_context: ssl.SSLContext | None = None
    namespace: str = "default"
    account: Owner | None = None
