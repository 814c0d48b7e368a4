"""One TLS port: HTTP by hypercorn, other planes by ALPN, bounded, orderly stop."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from ibs.control.listener import Address, Listener
from ibs.core import limits
from ibs.security import tls


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    folder: Path = tmp_path_factory.mktemp("tls")
    made = tls.ensure_certificate(folder, "testnode")
    server = tls.server_context(made, ["http/1.1", "test-plane"])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


def app_with(gate: trio.Event, entered: trio.Event) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any, *_rest: Any) -> None:
        if scope["path"] == "/slow":
            entered.set()
            await gate.wait()
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


async def test_http_and_another_plane_share_the_port(certificate: Any, nursery: trio.Nursery) -> None:
    server, client = certificate

    async def plane(stream: Any) -> None:
        await stream.send_all(b"plane:" + await stream.receive_some(10))

    stop = trio.Event()
    listener = Listener(app_with(trio.Event(), trio.Event()), server, planes={"test-plane": plane})
    bound = await nursery.start(partial(listener.serve, Address("127.0.0.1", 0), stop=stop))
    async with httpx.AsyncClient(verify=client) as http:
        assert (await http.get(f"https://127.0.0.1:{bound.port}/hello")).text == "/hello"
    by_alpn = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    by_alpn.check_hostname = False
    by_alpn.verify_mode = ssl.CERT_NONE
    by_alpn.set_alpn_protocols(["test-plane"])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", bound.port, ssl_context=by_alpn)
    await stream.send_all(b"x")
    assert await stream.receive_some(100) == b"plane:x"
    await trio.aclose_forcefully(stream)
    stop.set()


async def test_stop_waits_for_running_requests_and_refuses_new_ones(certificate: Any, nursery: trio.Nursery) -> None:
    server, client = certificate
    gate, entered, stop, served = trio.Event(), trio.Event(), trio.Event(), trio.Event()
    listener = Listener(app_with(gate, entered), server)
    answers: list[str] = []

    async def run(task_status: Any) -> None:
        await listener.serve(Address("127.0.0.1", 0), stop=stop, task_status=task_status)
        served.set()

    bound = await nursery.start(run)
    url = f"https://127.0.0.1:{bound.port}"

    async def slow() -> None:
        async with httpx.AsyncClient(verify=client) as http:
            answers.append((await http.get(url + "/slow", timeout=30)).text)

    async with httpx.AsyncClient(verify=client) as kept:
        assert (await kept.get(url + "/first")).status_code == 200
        nursery.start_soon(slow)
        await entered.wait()
        stop.set()
        await trio.testing.wait_all_tasks_blocked()
        late = await kept.get(url + "/late")
        assert (late.status_code, late.json()["code"]) == (503, "unavailable")
        assert not served.is_set()
        gate.set()
    with trio.fail_after(10):
        await served.wait()
    assert answers == ["/slow"]


async def test_a_flood_of_silent_connections_is_capped(
    certificate: Any, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = certificate
    monkeypatch.setattr(limits, "UNAUTHENTICATED_CONNECTIONS_MAX", 3)
    refused: list[str] = []
    listener = Listener(app_with(trio.Event(), trio.Event()), server, on_refused=refused.append)
    stop = trio.Event()
    bound = await nursery.start(partial(listener.serve, Address("127.0.0.1", 0), stop=stop))
    silent = [await trio.open_tcp_stream("127.0.0.1", bound.port) for _ in range(3)]
    with trio.fail_after(10):
        while listener._handshaking < 3:
            await trio.testing.wait_all_tasks_blocked()
        async with httpx.AsyncClient(verify=client) as http:
            with pytest.raises(httpx.TransportError):
                await http.get(f"https://127.0.0.1:{bound.port}/x")
    assert refused == ["too many connections"]
    for stream in silent:
        await stream.aclose()
    stop.set()


async def test_tls_below_1_3_is_refused(certificate: Any, nursery: trio.Nursery) -> None:
    server, _client = certificate
    stop = trio.Event()
    listener = Listener(app_with(trio.Event(), trio.Event()), server)
    bound = await nursery.start(partial(listener.serve, Address("127.0.0.1", 0), stop=stop))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", bound.port, ssl_context=old)
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
    await trio.aclose_forcefully(stream)
    stop.set()
