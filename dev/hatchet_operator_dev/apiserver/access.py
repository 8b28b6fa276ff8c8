"""How clients get in: a throw-away certificate for the loopback address, a kubeconfig, the tokens that TokenReview
knows, and what LocalSubjectAccessReview says of their owners.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.objects import Object

Authenticator = Callable[[str, list[str]], Mapping[str, Any] | None]
"""From a token and the audiences asked for to the user (``username``, ``uid``, ``groups``, ``extra``), or ``None``."""
Authorizer = Callable[[Mapping[str, Any]], bool]
"""Whether a user may perform an action, as the ``spec`` of an access review describes it."""


@dataclass(frozen=True, slots=True)
class LoopbackCertificate:
    """A server's TLS context and the PEM text of the authority that signed its certificate."""

    context: ssl.SSLContext
    ca_pem: bytes


def make_loopback_certificate(*names: str) -> LoopbackCertificate:
    """Make a certificate for ``names``, signed by an authority made for it.

    Without names it is for localhost and both loopback addresses.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return LoopbackCertificate(context=context, ca_pem=authority.cert_pem.bytes())


def write_kubeconfig(
    path: Path, *, server: str, namespace: str = "default", token: str | None = None, ca_pem: bytes | None = None
) -> None:
    """Write a kubeconfig, readable by its owner only, for kubectl, kopf and ourselves."""
    cluster: Object = {"server": server}
    if ca_pem is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca_pem).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "hatchet-dev",
        "clusters": [{"name": "hatchet-dev", "cluster": cluster}],
        "users": [{"name": "hatchet-dev", "user": {"token": token} if token else {}}],
        "contexts": [
            {
                "name": "hatchet-dev",
                "context": {"cluster": "hatchet-dev", "user": "hatchet-dev", "namespace": namespace},
            }
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def review_token(review: Object, authenticate: Authenticator | None) -> Object:
    """Answer a TokenReview: fill its status from what the authenticator says."""
    spec = review.get("spec") or {}
    audiences = list(spec.get("audiences") or ())
    user = authenticate(str(spec.get("token", "")), audiences) if authenticate is not None else None
    verdict: Object
    if user is None:
        verdict = {"user": {}, "error": "invalid bearer token"}
    else:
        verdict = {"authenticated": True, "user": dict(user)}
        if audiences:
            verdict["audiences"] = audiences
    return {**review, "metadata": {"creationTimestamp": None}, "status": verdict}


def review_access(review: Object, namespace: str, authorize: Authorizer | None) -> Object:
    """Answer a LocalSubjectAccessReview; without an authorizer everybody may do everything, as on this server."""
    spec = review.get("spec") or {}
    asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
    if asked != namespace:
        message = f"must match metadata.namespace: {namespace}"
        refused = status.invalid("spec.resourceAttributes.namespace", asked, message)
        raise status.unprocessable("authorization.k8s.io", "LocalSubjectAccessReview", "", [refused])
    allowed = authorize is None or authorize(spec)
    return {**review, "metadata": {"creationTimestamp": None}, "status": {"allowed": allowed}}
