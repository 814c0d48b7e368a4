"""The control plane's client: JSON and octets over HTTP/1.1 on TLS to one pinned server.

Used by `cli`, `client.transport` and `services`. Invariants: nothing is sent before the certificate was compared;
every error that leaves is one of `ibs.errors`, with the server's own words where it spoke; a request is repeated
after a broken connection only when repeating it is harmless, which callers say by `repeat`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import trio

from ibs.client.failures import error_from_body
from ibs.core import limits
from ibs.errors import BusyError, FormatError, IbsError, ServerUnreachable
from ibs.ports.clock import Clock
from ibs.runtime.clock import SystemClock
from ibs.runtime.retry import Backoff, Entropy, retry
from ibs.security.pinning import PINS_HEADER, PinnedTransport, Pins
from ibs.version import VERSION
from ibs.wire.common import ErrorBody

T = TypeVar("T")
Params = Mapping[str, str | int]

BASE_PATH = "/api/v1"
OCTETS = "application/octet-stream"
JSON = "application/json"
_PATH_SAFE = "/:@!$&'()*+,;=-._~"


class ApiClient:
    """One server, one identity. An async context manager; methods may be called from several tasks at once.

    `url` is `https://HOST:PORT`, `fingerprint` the pinned one of its certificate in colon form. `transport` replaces
    the network in tests. With `learned`, what the server tells of a coming certificate is pinned too, and handed to it
    to be kept; without, the pin is fixed. Paths are relative to `/api/v1` and not yet percent-encoded.
    """

    def __init__(
        self,
        url: str,
        *,
        fingerprint: str | Pins,
        auth_id: str,
        secret: str,
        learned: Callable[[str], None] | None = None,
        clock: Clock | None = None,
        entropy: Entropy = os.urandom,
        transport: httpx.AsyncBaseTransport | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Raises UsageError when the fingerprint is none; two, with a comma between, are the present and the next."""
        place = httpx.URL(url)
        self.host = place.host
        self.port = place.port or 443
        self.pins = fingerprint if isinstance(fingerprint, Pins) else Pins(fingerprint)
        self._learned = learned
        self.auth_id = auth_id
        self.clock = clock or SystemClock()
        self._secret = secret
        self._reached = False
        self._entropy = entropy
        self._backoff = backoff or Backoff(attempts=limits.HTTP_TRIES_MAX, seconds_min=0.25, seconds_max=8.0)
        self._client = httpx.AsyncClient(
            base_url=f"{url}{BASE_PATH}",
            transport=transport or PinnedTransport(self.pins, connections=limits.HTTP_CONNECTIONS),
            headers={"Authorization": f"Bearer {self.authorization}", "User-Agent": f"ironcore-backup/{VERSION}"},
            timeout=_timeout(limits.HTTP_ANSWER_SECONDS_MAX),
            follow_redirects=False,
            trust_env=False,
        )

    @property
    def authorization(self) -> str:
        """The bearer credential, `AUTH-ID:SECRET`. A secret: never to be shown."""
        return f"{self.auth_id}:{self._secret}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, also when cancelled: what is left open then would be open until the end."""
        with trio.move_on_after(limits.RESTORE_CLOSE_SECONDS, shield=True):
            await self._client.aclose()

    async def get(self, path: str, kind: type[T], *, params: Params | None = None) -> T:
        """GET and decode as `kind`. Raises the server's error, ServerUnreachable."""
        return self._decode(await self._request("GET", path, params=params, repeat=True), kind)

    async def post(
        self, path: str, kind: type[T], body: Any = None, *, params: Params | None = None, repeat: bool = False
    ) -> T:
        """POST a struct (or nothing) and decode the answer; `repeat` when doing it twice is doing it once."""
        content = b"" if body is None else msgspec.json.encode(body)
        answer = await self._request("POST", path, content=content, params=params, repeat=repeat)
        return self._decode(answer, kind)

    async def delete(self, path: str, *, params: Params | None = None) -> None:
        """DELETE. Raises the server's error, ServerUnreachable."""
        await self._request("DELETE", path, params=params, repeat=True)

    async def octets(
        self,
        method: str,
        path: str,
        *,
        content: bytes | bytearray | memoryview | None = None,
        params: Params | None = None,
        repeat: bool = True,
    ) -> bytes:
        """Send octets (or nothing) and return the answer's bytes. Raises the server's error, ServerUnreachable."""
        return await self._request(method, path, content=content, params=params, repeat=repeat, content_type=OCTETS)

    async def lines(self, path: str, kind: type[T], *, params: Params | None = None) -> AsyncIterator[T]:
        """GET a stream of JSON lines, each as it comes, for as long as the server has some.

        Raises the server's error, ServerUnreachable.
        """
        async with self._open("GET", path, params=params, read_seconds=None) as response:
            try:
                async for line in response.aiter_lines():
                    if line.strip():
                        yield self._decode(line.encode(), kind)
            except httpx.TransportError as error:
                raise self._unreachable(error) from error

    async def stream(self, path: str, *, params: Params | None = None) -> AsyncIterator[bytes]:
        """GET octets piece by piece. Raises the server's error, ServerUnreachable."""
        async with self._open("GET", path, params=params) as response:
            try:
                async for piece in response.aiter_bytes():
                    yield piece
            except httpx.TransportError as error:
                raise self._unreachable(error) from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | bytearray | memoryview | None = None,
        params: Params | None = None,
        repeat: bool,
        content_type: str = JSON,
    ) -> bytes:
        headers = {"Content-Type": content_type} if content is not None else {}
        body = bytes(content) if content is not None and not isinstance(content, bytes) else content

        async def once() -> bytes:
            try:
                response = await self._client.request(
                    method, _quoted(path), content=body, params=dict(params or {}), headers=headers
                )
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            self._reached = True
            self._learn(response)
            if response.status_code >= 400:
                raise self._told(response.status_code, response.content)
            return response.content

        return await self._repeated(once, everything=repeat)

    def _learn(self, response: httpx.Response) -> None:
        told = response.headers.get(PINS_HEADER, "")
        if self._learned is not None and told and self.pins.learn(told):
            self._learned(str(self.pins))

    async def _repeated(self, once: Callable[[], Awaitable[bytes]], *, everything: bool) -> bytes:
        """Try again what may be tried again.

        A request that never left is harmless to repeat, and worth it where the server has answered before; one that
        may have arrived is repeated only on the caller's word.
        """

        def when(error: Exception) -> bool:
            if isinstance(error, ServerUnreachable):
                never_left = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
                return self._reached if never_left else everything
            return everything and isinstance(error, BusyError)

        return await retry(once, clock=self.clock, entropy=self._entropy, backoff=self._backoff, when=when)

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        params: Params | None,
        read_seconds: float | None = limits.HTTP_ANSWER_SECONDS_MAX,
    ) -> AsyncIterator[httpx.Response]:
        request = self._client.build_request(
            method, _quoted(path), params=dict(params or {}), timeout=_timeout(read_seconds)
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        try:
            if response.status_code >= 400:
                try:
                    content = await response.aread()
                except httpx.TransportError as error:
                    raise self._unreachable(error) from error
                raise self._told(response.status_code, content)
            yield response
        finally:
            await response.aclose()

    @staticmethod
    def _decode(content: bytes, kind: type[T]) -> T:
        if kind is type(None):
            return None
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise FormatError(
                f"the server's answer is not understood: {error}", hint="client and server versions may not fit"
            ) from error

    @staticmethod
    def _told(status: int, content: bytes) -> IbsError:
        """The error that the server told, or one for an answer that is not ours."""
        try:
            body = msgspec.json.decode(content, type=ErrorBody)
        except msgspec.DecodeError:
            body = ErrorBody(
                code="", message=f"the server answered {status}", hint="is it an Ironcore Backup server, and its port?"
            )
        return error_from_body(body, status)

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        place = f"{self.host}:{self.port}"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            why = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or "refused"
            return ServerUnreachable(
                f"{place} cannot be reached: {why}", hint="is the server running, and the port open?"
            )
        why = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
        return ServerUnreachable(
            f"the connection to {place} broke: {why}",
            hint="start the command again; what the server already holds is not sent twice",
        )


def _timeout(read_seconds: float | None) -> httpx.Timeout:
    """`read_seconds` is the longest silence within an answer; None waits for ever."""
    return httpx.Timeout(
        connect=limits.CONNECT_SECONDS_MAX,
        read=read_seconds,
        write=limits.HTTP_WRITE_SECONDS_MAX,
        pool=limits.HTTP_ANSWER_SECONDS_MAX,
    )


def _quoted(path: str) -> str:
    return quote(path, safe=_PATH_SAFE)
