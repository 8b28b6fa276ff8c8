"""What Google Cloud Storage is to the store's library: the S3 server, which speaks its XML API, behind a door.

Google's XML API is S3's, but for who may come in: each request carries a JWT that a service account has signed. The
door checks that, and signs the request with the S3 server's own key; nothing else is changed. What Google does beyond
this is not tested. fake-gcs-server 1.56 answers the library's uploads with 400: it knows only those of the JSON API.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from functools import reduce
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from tests.integration.s3_server import BUCKET, KEY_ID, REGION, SECRET, S3Server

__all__ = ["BUCKET", "GcsServer", "service_account"]

ACCOUNT = "payloads@project.iam.gserviceaccount.com"
_FOR_THE_STORE = "https://www.googleapis.com/auth/cloud-platform"
_NOT_PASSED_ON = {"host", "authorization", "transfer-encoding", "connection", "content-encoding"}
_LARGEST = 64 * 2**20


def service_account() -> tuple[str, rsa.RSAPublicKey]:
    """Make a service account; return its key file, as Google hands it out, and its public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    told = {"type": "service_account", "client_email": ACCOUNT, "private_key": pem, "private_key_id": "1"}
    return json.dumps(told), key.public_key()


class GcsServer:
    """The server, with one empty bucket."""

    def __init__(self, program: str, directory: Path) -> None:
        self._behind = S3Server(program, directory)
        self._key_file, self._public_key = service_account()
        self._http: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.requests: list[str] = []
        """What was let in: methods, with the names of their parameters."""

    @property
    def environment(self) -> dict[str, str]:
        """What clients need."""
        return {
            "GOOGLE_SERVICE_ACCOUNT_KEY": self._key_file,
            "GOOGLE_BASE_URL": f"http://127.0.0.1:{self.port}",
        }

    async def start(self) -> None:
        await self._behind.start()
        self._http = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application(client_max_size=_LARGEST)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._http is not None:
            await self._http.close()
        self._behind.kill()

    async def _serve(self, request: web.Request) -> web.Response:
        assert self._http is not None
        try:
            self._check(request.headers.get("Authorization", ""))
        except jwt.InvalidTokenError as error:
            return web.Response(
                status=401, text=f"<Error><Code>AuthenticationRequired</Code><Details>{error}</Details></Error>"
            )
        self.requests.append(f"{request.method} {','.join(sorted(request.query))}".strip())
        passed_on = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        url = URL(f"http://127.0.0.1:{self._behind.port}{request.raw_path}", encoded=True)
        signed = passed_on | _signature(request.method, url)
        async with self._http.request(
            request.method, url, headers=signed, data=BytesIO(await request.read())
        ) as answer:
            said = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON}
            return web.Response(status=answer.status, headers=said, body=await answer.read())

    def _check(self, authorization: str) -> None:
        kind, _, token = authorization.partition(" ")
        if kind != "Bearer":
            raise jwt.InvalidTokenError("no token")
        said = jwt.decode(token, self._public_key, algorithms=["RS256"], options={"verify_aud": False})
        if said["iss"] != ACCOUNT or said.get("scope") != _FOR_THE_STORE:
            raise jwt.InvalidTokenError(f"not for the store: {said}")


def _signature(method: str, url: URL) -> dict[str, str]:
    """Sign a request as S3 wants it (Signature Version 4), whatever its body."""
    now = datetime.now(UTC)
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": f"{url.host}:{url.port}", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": moment}
    names = ";".join(headers)
    query = urlencode(sorted(url.query.items()), quote_via=quote, safe="-_.~")
    lines = [
        method,
        quote(url.path, safe="/-_.~"),
        query,
        *(f"{name}:{value}" for name, value in headers.items()),
        "",
        names,
    ]
    canonical = "\n".join([*lines, headers["x-amz-content-sha256"]])
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    steps = [*scope.split("/"), text]
    key = reduce(lambda key, step: hmac.digest(key, step.encode(), "sha256"), steps, f"AWS4{SECRET}".encode())
    said = f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return headers | {"Authorization": said}
