"""Encryption of payloads: AES-256-GCM, each object with a nonce of its own, bound to its text's digest.

    HOP1 | nonce, 12 bytes | ciphertext and tag

Keys are identified by an id, so that a new one may be put before an old one that still opens what it sealed.
"""

import base64
import binascii
import hashlib
import os
from typing import TYPE_CHECKING

from hatchet_sdk.errors import NotConfigured, PayloadError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC = b"HOP1"
_NONCE_BYTES = 12
_KEY_BYTES = 32
SEALING_BYTES = len(_MAGIC) + _NONCE_BYTES + 16
"""By how much an object is larger than its text."""


class Keys:
    """The keys of one store; the first one seals.

    Args:
        text: 32 bytes each in base64, with commas between them.

    Raises:
        NotConfigured: The text contains no valid keys.
    """

    def __init__(self, text: str) -> None:
        keys = [_read(part.strip()) for part in text.split(",")]
        self.first = key_id(keys[0])
        self._by_id = {key_id(key): _cipher(key) for key in keys}

    def seal(self, data: bytes, *, sha256: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _MAGIC + nonce + self._by_id[self.first].encrypt(nonce, data, sha256.encode())

    def open(self, sealed: bytes, *, sha256: str, key: str) -> bytes:
        """Return what was sealed.

        Raises:
            PayloadError: The key is not among these, or the object is not what was sealed.
        """
        from cryptography.exceptions import InvalidTag

        cipher = self._by_id.get(key)
        if cipher is None:
            known = ", ".join(self._by_id)
            raise PayloadError(f"it is encrypted with key {key}, and here are only: {known}; add that key after them")
        nonce = sealed[len(_MAGIC) : len(_MAGIC) + _NONCE_BYTES]
        if not sealed.startswith(_MAGIC) or len(nonce) < _NONCE_BYTES:
            raise PayloadError("the object is not encrypted, though its reference says so; it was replaced")
        try:
            return cipher.decrypt(nonce, memoryview(sealed)[len(_MAGIC) + _NONCE_BYTES :], sha256.encode())
        except InvalidTag:
            raise PayloadError("the object can't be decrypted; it was changed, or belongs to another text") from None


def key_id(key: bytes) -> str:
    """Return an id of a key, which does not reveal the key."""
    return hashlib.sha256(b"hatchet-operator payloads\0" + key).hexdigest()[:8]


def _read(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise NotConfigured(
            "the key for payloads is not 32 bytes in base64 (make one with: head -c 32 /dev/urandom | base64)"
        )
    return key


def _cipher(key: bytes) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        raise NotConfigured(
            f'payloads are to be encrypted, which needs {error.name}: pip install "hatchet-operator-sdk[payloads]"'
        ) from error
    return AESGCM(key)
