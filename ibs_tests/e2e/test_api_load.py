"""The API beside heavy and hostile connections: it answers, nobody keeps a place for ever, a stop is not held up."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from ibs.core import limits
from ibs.security.pinning import pinned_context
from ibs_tests.support.programs import ServerProcess, running_server, start_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("load")
    with running_server(folder) as running:
        running.admin("datastore", "create", "main", "--path", str(folder / "store"))
        yield running


def http(server: ServerProcess) -> httpx.Client:
    headers = {"Authorization": f"Bearer {server.token}"}
    context = pinned_context(server.facts["fingerprint"])
    return httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, verify=context, trust_env=False, timeout=30)


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the server takes."""
    return int(psutil.Process(server.process.pid).memory_info().rss)


def raw(server: ServerProcess) -> ssl.SSLSocket:
    host, _, port = server.facts["address"].rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=30)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    return pinned_context(server.facts["fingerprint"]).wrap_socket(plain, server_hostname=host)


def test_questions_are_answered_while_uploads_run(server: ServerProcess, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"".join(bytes([n]) * 4096 + n.to_bytes(4, "big") * 1024 for n in range(256)) * 64)
    backup = server.start_client("main", "backup", f"disk.img:{disk}", "--backup-id", "busy", "--level", "9")
    answered, during = 0, set()
    try:
        with http(server) as client:
            while backup.poll() is None:
                assert client.get("/status").status_code == 200
                during |= {task["state"] for task in client.get("/tasks?state=running").json()}
                answered += 1
        assert backup.wait(60) == 0
    finally:
        backup.kill()
    assert answered > 3
    assert during & {"Starting", "running"}


def test_who_does_not_read_a_download_holds_up_nobody(tmp_path: Path) -> None:
    """Not other requests, not the server's memory, and not its end."""
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        for _ in range(16):
            file.write(os.urandom(4 << 20))
    server = start_server(tmp_path / "server")
    try:
        server.admin("datastore", "create", "main", "--path", str(tmp_path / "store"))
        server.client("main", "backup", f"disk.img:{disk}", "--backup-id", "big", "--level", "1")
        with http(server) as client, ExitStack() as stack:
            reader = client.post("/datastores/main/readers", json={"snapshot": "host/big"}).json()["reader_id"]
            index = client.get(f"/readers/{reader}/files/disk.img.idx").content
            ids = [index[at : at + 32] for at in range(256, len(index), 32)]
            body = b"".join(ids * (limits.FETCH_IDS_MAX // len(ids)))
            before = resident(server)
            for _ in range(6):
                stream = stack.enter_context(raw(server))
                head = f"POST /api/v1/readers/{reader}/chunks HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                stream.sendall(f"{head}Authorization: Bearer {server.token}\r\n\r\n".encode() + body)
                assert stream.recv(12) == b"HTTP/1.1 200"  # of 256 MiB
            for _ in range(20):
                assert client.get("/status").status_code == 200
                assert client.post(f"/readers/{reader}/chunks", content=ids[0]).status_code == 200
            assert resident(server) - before < 6 * 4 * limits.FETCH_HELD_BYTES
            assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.slow
def test_slow_heads_take_no_place_for_ever(server: ServerProcess) -> None:
    """As many as one address may have, each a byte at a time: known callers go on, and soon everybody can come in."""
    stop = threading.Event()
    ended: list[float] = []
    begin = time.monotonic()

    def creep(stream: ssl.SSLSocket) -> None:
        try:
            while not stop.wait(0.5):
                stream.sendall(b"x")
        except OSError:
            ended.append(time.monotonic() - begin)

    with http(server) as known, ExitStack() as stack:
        assert known.get("/status").status_code == 200
        streams = [stack.enter_context(raw(server)) for _ in range(limits.UNAUTHENTICATED_PER_PEER_MAX)]
        threads = [threading.Thread(target=creep, args=(stream,)) for stream in streams]
        for stream, thread in zip(streams, threads, strict=True):
            stream.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nLong: ")
            thread.start()
        try:
            assert known.get("/status").status_code == 200
            with pytest.raises(httpx.TransportError), http(server) as newcomer:
                newcomer.get("/status")
            for thread in threads:
                thread.join(limits.UNAUTHENTICATED_SECONDS_MAX * 3)
            assert known.get("/status").status_code == 200
        finally:
            stop.set()
        assert len(ended) == len(streams)
    with http(server) as newcomer:
        assert newcomer.get("/status").status_code == 200
    log = (server.folder / "log" / "api.log").read_text()
    assert log.count("connection refused") <= 3
