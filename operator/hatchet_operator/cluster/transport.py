"""Requests to the API server as they are sent: connections, the token, and how long each answer took.

Typed clients cost up to 1.5 ms of CPU per call, aiohttp 0.5, `HttpClient` half of that; endless responses, watches and
logs, go through aiohttp.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote, urlencode

import aiohttp

from hatchet_operator.cluster.api_errors import error_of
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.http_client import HttpClient
from hatchet_operator.errors import Transient

Params = Mapping[str, str]
OnAnswer = Callable[[str, str, int, float], None]
_ANSWER_SECONDS = 30.0


class Transport:
    """The connections of one process to the API server.

    Args:
        endpoint: Where it is.
        user_agent: How we identify ourselves.
        on_answer: See `Api`.
    """

    def __init__(self, endpoint: Endpoint, *, user_agent: str, on_answer: OnAnswer) -> None:
        self._endpoint = endpoint
        self._user_agent = user_agent
        self._on_answer = on_answer
        self._session: aiohttp.ClientSession | None = None
        self._http: HttpClient | None = None
        self._token = endpoint.token
        self._token_read_at = float("-inf")

    async def start(self) -> None:
        """Open the connections: pooled ones for short requests, and a session for watches."""
        ssl_context = self._endpoint.ssl_context
        headers = {"User-Agent": self._user_agent, "Accept": "application/json", "Accept-Encoding": "identity"}
        self._http = HttpClient(
            self._endpoint.server, ssl_context=ssl_context, headers=headers, answer_seconds=_ANSWER_SECONDS
        )
        self._session = aiohttp.ClientSession(
            base_url=self._endpoint.server.rstrip("/"),
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=60, ssl=ssl_context if ssl_context is not None else True
            ),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS, connect=5),
            trust_env=False,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections; requests in flight fail."""
        if self._http is not None:
            await self._http.close()
            self._http = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Send a request, and return the whole answer.

        Raises:
            Transient: There was none, or the file with our token can't be read.
            ApiError: It is not a success.
        """
        if self._http is None:
            raise RuntimeError("Api is used before start()")
        headers = {} if data is None else {"Content-Type": content_type}
        target = f"{quote(path)}?{urlencode(params)}" if params else quote(path)
        clock, status = asyncio.get_running_loop().time, 0
        began = clock()
        try:
            answer = await self._http.request(method, target, headers=headers | self._authorization(), body=data)
            status = answer.status
        except (TimeoutError, OSError) as error:
            raise Transient(f"{method} {self._endpoint.server}{path}: {error!r}") from error
        finally:
            self._on_answer(method, _kind_in(path), status, clock() - began)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(answer.status, answer.body, answer.retry_after)
        return answer.body

    def open(
        self, path: str, *, params: Params, timeout: aiohttp.ClientTimeout
    ) -> "aiohttp.client._RequestContextManager":
        """Begin an endless response, such as a watch."""
        if self._session is None:
            raise RuntimeError("Api is used before start()")
        return self._session.get(path, params=params, headers=self._authorization(), timeout=timeout)

    def _authorization(self) -> dict[str, str]:
        token = self._current_token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _current_token(self) -> str | None:
        if self._endpoint.token_file is None:
            return self._token
        now = asyncio.get_running_loop().time()
        if now - self._token_read_at > 60:
            self._token, self._token_read_at = self._endpoint.token_file.read_text().strip(), now
        return self._token


def _kind_in(path: str) -> str:
    """Return the kind of a path, with its subresource: "workflowruns/status"; "other": it has no kind."""
    parts = path.split("/")
    match parts[1]:
        case "apis":
            rest = parts[4:]
        case "api":
            rest = parts[3:]
        case _:
            rest = []
    if len(rest) > 2 and rest[0] == "namespaces":
        rest = rest[2:]
    if not rest:
        return "other"
    return f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]
