"""Both planes on the server's port; the port is kept over a restart of the role; a taken port is told in a sentence."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
import trio

from ibs.control.listener import Address
from ibs.control.server import serve
from ibs.errors import UnavailableError
from ibs.wire import frames
from ibs.wire.frames import Hello, Op
from ibs_tests.support.control import OWNER, SESSION, Certificates, FakeContext


@pytest.fixture
def context(certificates: Certificates) -> FakeContext:
    made = FakeContext(tls=certificates.server)
    made.access.token(OWNER)
    return made


async def start(nursery: trio.Nursery, context: Any) -> Address:
    bound: Address = await nursery.start(lambda task_status: serve(context, task_status=task_status))
    return bound


async def ping(port: int) -> Any:
    async with httpx.AsyncClient(verify=Certificates.client(), trust_env=False) as http:
        return (await http.get(f"https://127.0.0.1:{port}/api/v1/ping")).json()


async def test_http_and_data_plane_on_one_port(context: FakeContext) -> None:
    async with trio.open_nursery() as nursery:
        bound = await start(nursery, context)
        assert (await ping(bound.port))["api"] == "v1"
        alpn = Certificates.client(frames.ALPN)
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", bound.port, ssl_context=alpn)
        hello = msgspec.json.encode(Hello(authorization=f"{OWNER}:secret", session_id=SESSION))
        await stream.send_all(frames.pack_header(Op.HELLO, len(hello)) + hello)
        assert await stream.receive_some(8) == frames.pack_header(Op.READY, 0)
        await trio.aclose_forcefully(stream)
        context.api_stopping.set()


async def test_stopping_ends_it(context: FakeContext) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            bound = await start(nursery, context)
            context.api_stopping.set()
    with pytest.raises(httpx.TransportError):
        await ping(bound.port)


async def test_a_restart_takes_the_port_that_clients_know(context: FakeContext) -> None:
    async with trio.open_nursery() as nursery:
        bound = await start(nursery, context)
        nursery.cancel_scope.cancel()
    context.endpoint.host, context.endpoint.port = bound.host, bound.port
    async with trio.open_nursery() as nursery:
        again = await start(nursery, context)
        assert again == bound
        assert (await ping(bound.port))["api"] == "v1"
        with pytest.raises(UnavailableError, match=f"cannot listen on 127.0.0.1:{bound.port}"):
            await serve(context)  # type: ignore[arg-type]
        context.api_stopping.set()
