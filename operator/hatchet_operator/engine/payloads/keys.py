"""Keys for payloads: each namespace has its own, derived from the operator's, so that its pods can't read others'."""

import base64

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_BYTES = 32
_PURPOSE = b"hatchet-operator payloads of namespace "


def namespace_keys(keys: str, namespace: str) -> str:
    """Derive the keys of a namespace, in the order and form of the operator's (RFC 5869).

    Args:
        keys: 32 bytes each in base64, with commas between them.
        namespace: Whose keys.
    """
    return ",".join(_derived(base64.b64decode(key.strip()), namespace) for key in keys.split(","))


def _derived(key: bytes, namespace: str) -> str:
    derivation = HKDF(algorithm=SHA256(), length=_BYTES, salt=None, info=_PURPOSE + namespace.encode())
    return base64.b64encode(derivation.derive(key)).decode()
