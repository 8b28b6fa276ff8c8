"""A payload store: objects under ``<root>/<owner>/<sha256 of the text>``, by obstore.

    s3://bucket/prefix    gs://bucket/prefix    az://account/container/prefix    file:///folder

Credentials, regions and endpoints are found as each store's own tools find them: in variables such as
``AWS_ACCESS_KEY_ID``, or in what the platform gives to a pod. Storing a text twice stores it once: same path.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hatchet_sdk.errors import NotConfigured, PayloadError, PayloadLost, StoreUnavailable
from hatchet_sdk.payloads.reference import MAX_PAYLOAD_BYTES, PayloadReference, is_owner
from hatchet_sdk.payloads.sealing import SEALING_BYTES, Keys

if TYPE_CHECKING:
    import obstore.store

__all__ = ["NotConfigured", "PayloadError", "PayloadLost", "PayloadStore", "StoreUnavailable", "url_problem"]

SCHEMES = ("s3", "gs", "az", "file")
TRANSFERS = 8
"""How many objects are transferred at a time: each is in memory as a whole."""

_CLAIM = "hatchet-operator-installation"
_IN_A_THREAD_BYTES = 256 * 1024  # what takes longer than a thread's hop would keep the loop waiting
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_LISTED_AT_A_TIME = 1000


class PayloadStore:
    """Payloads under one URL. May be used from one event loop at a time.

    Args:
        root: The URL; see above.
        keys: Payloads are encrypted with the first of them; None: they are not.
        environ: Says whether an endpoint without TLS is intended.

    Raises:
        NotConfigured: The URL is invalid, or the required library is not installed.
    """

    def __init__(self, root: str, keys: Keys | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self.root = root.rstrip("/")
        if (problem := url_problem(self.root)) is not None:
            raise NotConfigured(problem)
        self._keys = keys
        self._environ = environ
        # A folder may be on a volume that is unavailable for now: it is created on first use.
        self._opened_store = None if self.root.startswith("file:") else _open(self.root, environ)
        self._transfers = asyncio.Semaphore(TRANSFERS)

    def __str__(self) -> str:
        return self.root

    def path_of(self, reference: PayloadReference) -> str:
        """Return an object's path below the root.

        Raises:
            PayloadError: It is elsewhere, and is not read: anybody may have written a reference.
        """
        path = reference.url.removeprefix(f"{self.root}/")
        owner, _, name = path.partition("/")
        if path == reference.url or name != reference.sha256 or not is_owner(owner):
            raise PayloadError(
                f"{reference} is not in the store that is configured here, which has {self.root}/OWNER/SHA256"
            )
        return path

    async def put(self, owner: str, text: str) -> PayloadReference:
        """Store a text for the run, or request, that owns it.

        Raises:
            StoreUnavailable: The store does not respond; a retry may help.
            PayloadError: The store refuses it, or the text is too large.
        """
        data = text.encode()
        if len(data) > MAX_PAYLOAD_BYTES:
            raise PayloadError(
                f"{len(data)} bytes of JSON are more than a payload may have: {MAX_PAYLOAD_BYTES} (1 GiB)"
            )
        async with self._transfers:
            sha256, sealed = await _aside(len(data), self._sealed, data)
            path = f"{owner}/{sha256}"
            url = f"{self.root}/{path}"
            await self._ask(lambda: self._store.put_async(path, sealed), f"payload {url} can't be stored")
        key = self._keys.first if self._keys is not None else None
        return PayloadReference(url=url, sha256=sha256, size=len(data), key=key)

    def _sealed(self, data: bytes) -> tuple[str, bytes]:
        sha256 = hashlib.sha256(data).hexdigest()
        return sha256, data if self._keys is None else self._keys.seal(data, sha256=sha256)

    async def get(self, reference: PayloadReference) -> str:
        """Read what a reference stands for.

        Raises:
            StoreUnavailable: The store does not respond; a retry may help.
            PayloadLost: It is missing, or not what was put there.
            PayloadError: The store refuses, or it is not in this store.
        """
        path = self.path_of(reference)
        async with self._transfers:
            try:
                found = await self._ask(
                    lambda: self._store.get_async(path), f"{reference} can't be read", may_be_missing=True
                )
                size: int = found.meta["size"]
                want = reference.size + (SEALING_BYTES if reference.key is not None else 0)
                if size != want:  # before it is read: it may be anything
                    raise PayloadLost(f"{reference} has {size} bytes in the store, and not {want}: it was replaced")
                data = bytes(await self._ask(found.bytes_async, f"{reference} can't be read", may_be_missing=True))
            except FileNotFoundError:
                raise PayloadLost(
                    f"{reference} is no longer in the store: somebody removed it, or the run that it belonged to"
                ) from None
            text: str = await _aside(size, self._opened, data, reference)
            return text

    def _opened(self, data: bytes, reference: PayloadReference) -> str:
        if reference.key is not None:
            if self._keys is None:
                raise PayloadError(f"{reference} is encrypted, and no key is configured here")
            try:
                data = self._keys.open(data, sha256=reference.sha256, key=reference.key)
            except PayloadError as error:
                raise PayloadLost(f"{reference} can't be read: {error}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != reference.sha256:
            raise PayloadLost(f"{reference} is damaged: what is in the store has sha256 {found}")
        return data.decode()

    @property
    def _store(self) -> "obstore.store.ObjectStore":
        if self._opened_store is None:
            self._opened_store = _open(self.root, self._environ)
        return self._opened_store

    # --- Removal

    async def objects(self) -> AsyncIterator[tuple[str, datetime]]:
        """Yield each object's path below the root, and when it was stored.

        Raises:
            PayloadError: See `put`.
        """
        listing: Any = None

        async def next_chunk() -> Any:
            nonlocal listing
            listing = listing or self._store.list(chunk_size=_LISTED_AT_A_TIME)
            return await anext(listing, None)

        while (chunk := await self._ask(next_chunk, f"{self.root} can't be listed")) is not None:
            for meta in chunk:
                yield str(meta["path"]), meta["last_modified"]

    async def claim(self, name: str) -> str:
        """Record who owns the store, unless that was recorded before; return the owner.

        Raises:
            PayloadError: See `put`.
        """
        what = f"{self.root}/{_CLAIM}, which says whose the store is,"
        try:
            found = await self._ask(lambda: self._store.get_async(_CLAIM), f"{what} can't be read", may_be_missing=True)
        except FileNotFoundError:
            await self._ask(lambda: self._store.put_async(_CLAIM, name.encode()), f"{what} can't be written")
            return name
        return bytes(await self._ask(found.bytes_async, f"{what} can't be read")).decode(errors="replace")

    async def remove(self, folder: str) -> int:
        """Remove everything in a folder below the root, such as an owner's; return how many objects there were.

        Raises:
            PayloadError: See `put`.
        """
        assert folder, "not all there is"
        what = f"payloads {self.root}/{folder}/ can't be removed"
        try:
            found = await self._ask(lambda: self._store.list(prefix=folder).collect_async(), what, may_be_missing=True)
            paths = [str(meta["path"]) for meta in found]
            if paths:
                await self._ask(lambda: self._store.delete_async(paths), what, may_be_missing=True)
        except FileNotFoundError:  # somebody else removes it as well
            return 0
        return len(paths)

    async def _ask(self, ask: Callable[[], Awaitable[Any]], what: str, *, may_be_missing: bool = False) -> Any:
        """Ask the store, and turn its errors into ours; FileNotFoundError is passed on if an object may be missing."""
        from obstore import exceptions

        try:
            return await ask()
        except FileNotFoundError as error:
            if may_be_missing:
                raise
            raise PayloadError(f"{what}: {_first_line(error)}") from error  # there is no such bucket
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise PayloadError(f"{what}: the store denies access (credentials?): {_first_line(error)}") from error
        except (exceptions.NotSupportedError, exceptions.InvalidPathError, ValueError) as error:
            raise PayloadError(f"{what}: {_first_line(error)}") from error
        except (exceptions.BaseError, OSError) as error:
            raise StoreUnavailable(f"{what}: {_first_line(error)}") from error


def url_problem(url: str) -> str | None:
    """Say why a URL can't be that of a store, or None."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        schemes = ", ".join(f"{scheme}://…" for scheme in SCHEMES)
        return f'the payload store is "{url}"; expected one of {schemes}'
    if parts.username or parts.password or parts.query or parts.fragment:
        return (
            f'the payload store is "{parts.scheme}://…" with more than a place in it; credentials go into '
            "variables such as AWS_ACCESS_KEY_ID, since everybody sees the URL"
        )
    if parts.scheme == "file":
        return None if parts.path.startswith("/") and not parts.netloc else f'"{url}": expected file:///folder'
    if parts.scheme == "az" and not (parts.netloc and parts.path.strip("/")):
        return f'"{url}": expected az://account/container/prefix'
    return None if parts.netloc else f'"{url}" names no bucket; expected {parts.scheme}://bucket/prefix'


async def _aside(size: int, work: Any, *arguments: Any) -> Any:
    """Do what takes long in a thread."""
    if size < _IN_A_THREAD_BYTES:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def _open(root: str, environ: Mapping[str, str]) -> "obstore.store.ObjectStore":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url
    except ModuleNotFoundError as error:
        raise NotConfigured(
            f'payloads are kept at {root}, which needs {error.name}: pip install "hatchet-operator-sdk[payloads]"'
        ) from error
    try:
        if root.startswith("file:"):
            return LocalStore(urlsplit(root).path, mkdir=True, automatic_cleanup=True)
        parts = urlsplit(root)
        endpoint = next((environ[name] for name in _ENDPOINTS[parts.scheme] if environ.get(name)), "")
        options: obstore.store.ClientConfig = {
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=30),
            "timeout": timedelta(minutes=10),
            "allow_http": endpoint.startswith("http://"),
        }
        # The waiting caller retries, and reports meanwhile what is wrong; this is for a lost connection.
        retries: obstore.store.RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
        if parts.scheme == "az":  # the library's URLs have no place for the account, and its variables only one
            return from_url(
                f"az://{parts.path.strip('/')}",
                config={"account_name": parts.netloc},
                client_options=options,
                retry_config=retries,
            )
        return from_url(root, client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise NotConfigured(f"the payload store {root} can't be used: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """Return the first line of a library error; the rest of its text is for its developers."""
    text = str(error).strip()
    return text.partition("\n\nDebug source")[0].replace("\n", " ")[:500] or type(error).__name__
