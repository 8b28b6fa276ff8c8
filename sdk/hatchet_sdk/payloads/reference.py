"""What a run has instead of an input or output that is kept in a store: where it is, and what it is.

    {"hatchet-operator.dev/payload":{"url":"s3://bucket/runs/team-a/<owner>/<sha256>","sha256":"…","bytes":1048576}}

It is JSON like any input or output, so that code that only passes it on needs to know nothing of stores. A text is read
as a reference if it contains nothing else.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

MARK = "hatchet-operator.dev/payload"
"""The only key of a reference."""

MAX_PAYLOAD_BYTES = 1024**3
"""The largest input or output that is kept in a store, as JSON text."""

_LONGEST = 4096
_DIGEST = re.compile("[0-9a-f]{64}")
_OWNER = re.compile("[0-9a-z][0-9a-z-]{7,62}")


class BadReference(ValueError):
    """A text has the key of a reference, but is not a valid one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PayloadReference:
    """An object in a store.

    Attributes:
        url: The object's, without credentials.
        sha256: The digest of the text that it stands for, in hex digits.
        size: The size of that text, in bytes.
        key: Identifies the key that it is encrypted with; None: it is not.
    """

    url: str
    sha256: str
    size: int
    key: str | None = None

    def __str__(self) -> str:
        return f"payload {self.url} ({self.size} bytes)"  # its last part is the digest

    @property
    def owner(self) -> str | None:
        """The folder that it is in: the UID of a run, or the name of a request for one; None: in no such folder."""
        folder, _, name = self.url.rpartition("/")
        owner = folder.rpartition("/")[2]
        return owner if name == self.sha256 and is_owner(owner) else None

    def to_text(self) -> str:
        said: dict[str, Any] = {"url": self.url, "sha256": self.sha256, "bytes": self.size}
        if self.key is not None:
            said["key"] = self.key
        return json.dumps({MARK: said}, separators=(",", ":"))


def reference_in(text: str | None) -> PayloadReference | None:
    """Read a reference; None: the text is something else, as most are.

    Raises:
        BadReference: It looks like one, but is not valid.
    """
    if text is None or len(text) > _LONGEST or MARK not in text[: 2 * len(MARK)]:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.keys() != {MARK}:
        return None
    return _read(value[MARK])


def _read(said: Any) -> PayloadReference:
    fields = said if isinstance(said, dict) else {}
    url, sha256, size, key = (fields.get(name) for name in ("url", "sha256", "bytes", "key"))
    is_one = (
        isinstance(url, str)
        and isinstance(sha256, str)
        and _DIGEST.fullmatch(sha256)
        and isinstance(size, int)
        and 0 <= size <= MAX_PAYLOAD_BYTES
        and (key is None or isinstance(key, str))
    )
    if not is_one:
        raise BadReference(
            f'an object whose only key is "{MARK}" refers to a payload in a store; expected its url, sha256 (64 hex '
            f"digits) and bytes (0 to {MAX_PAYLOAD_BYTES}) there: copy it as it is, or use another key"
        )
    return PayloadReference(url=url, sha256=sha256, size=size, key=key)  # type: ignore[arg-type]  # checked above


def is_owner(name: str) -> bool:
    """Whether a folder of this name may be an owner's: it is a single, non-empty name."""
    return _OWNER.fullmatch(name) is not None


def is_digest(name: str) -> bool:
    return _DIGEST.fullmatch(name) is not None


def owner_of_request(request_id: str) -> str:
    """Return the folder for the input of a run that has no UID yet: that of the request for it."""
    return f"request-{hashlib.sha256(request_id.encode()).hexdigest()[:32]}"


def digest_of(text: str) -> str:
    """Return the digest of a text, or of the text that a reference stands for."""
    reference = reference_in(text)
    return reference.sha256 if reference is not None else hashlib.sha256(text.encode()).hexdigest()
