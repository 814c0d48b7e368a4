"""The transports over the network: each call on its route, bulk on the data plane, HTTP where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import httpx
import msgspec
import pytest
import trio
import trio.testing

from ibs.client import transport as transports
from ibs.client.http import ApiClient
from ibs.client.transport import HttpBackupTransport, HttpRestoreTransport
from ibs.core import limits
from ibs.core.blob import BlobEncoder
from ibs.errors import FormatError, ServerUnreachable, SessionLost
from ibs.runtime.retry import Backoff
from ibs.wire.frames import Hello
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened
from ibs.wire.session import (
    ArchiveClose,
    ArchiveClosed,
    CommitRequest,
    CommitResult,
    SessionOpen,
    SessionOpened,
    StageReport,
)

OPENED = SessionOpened(
    session_id="s1",
    upid="UPID:x",
    datastore_uuid="u",
    snapshot="host/a/2026-11-22T19:00:00Z",
    sequence=1,
    previous_manifest_digest="",
    bases=[],
)
CLOSED = ArchiveClosed(archive="a.tree", index_bytes=296, index_digest="00")
RESULT = CommitResult(snapshot=OPENED.snapshot, manifest_digest="11", status="OK", new_chunks=1, new_bytes=2)
READER = ReaderOpened(reader_id="r1", upid="UPID:y", snapshot=OPENED.snapshot, manifest="{}", signature="", signer="")


class Server:
    """Answers by method and path; keeps what was asked."""

    def __init__(self, **answers: object) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.answers: dict[str, object] = {
            "/datastores/main/sessions": OPENED,
            "/sessions/s1/archives/a.tree/close": CLOSED,
            "/sessions/s1/commit": RESULT,
            "/sessions/s1/chunks": {"received": 2},
            "/datastores/main/readers": READER,
        }
        self.answers.update(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        target = request.url.raw_path.decode().removeprefix("/api/v1")
        self.asked.append((request.method, target, request.content))
        answer = self.answers.get(path, b"octets")
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else msgspec.json.encode(answer))

    def api(self) -> ApiClient:
        return ApiClient(
            "https://backup.example:8007",
            fingerprint=":".join(["ab"] * 32),
            auth_id="a@ibs",
            secret="s",
            transport=httpx.MockTransport(self),
            backoff=Backoff(attempts=2, seconds_min=0.001, seconds_max=0.001),
        )


class FakePlane:
    """Stands for the data plane; `failure` is raised by its calls."""

    made: ClassVar[list[FakePlane]] = []
    failure: ClassVar[Exception | None] = None

    def __init__(self, host: str, port: int, fingerprint: str, hello: Hello, *, connections: int) -> None:
        self.place = (host, port, fingerprint)
        self.hello = hello
        self.connections = connections
        self.sent: list[Any] = []
        self.open = True
        self.warmed = False
        self.made.append(self)

    async def send(self, blobs: Sequence[Any]) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(blobs)

    async def fetch(self, ids: Sequence[bytes]) -> list[bytes]:
        if self.failure is not None:
            raise self.failure
        return [b"blob of " + one for one in ids]

    async def warm(self) -> None:
        self.warmed = True

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.open = False


@pytest.fixture(autouse=True)
def plane(monkeypatch: pytest.MonkeyPatch) -> type[FakePlane]:
    monkeypatch.setattr(transports, "DataPlane", FakePlane)
    FakePlane.made = []
    FakePlane.failure = None
    return FakePlane


async def test_a_backup_uses_each_route_once() -> None:
    server = Server()
    async with server.api() as api, HttpBackupTransport(api) as transport:
        request = SessionOpen(store="main", group="host/a", archives=["a.tree"])
        assert await transport.open(request) == OPENED
        assert await transport.base_index("a.tree") == b"octets"
        assert await transport.base_available("a.tree") == b"octets"
        assert await transport.resumed_ids() == b"octets"
        assert await transport.base_chunk(b"\xab" * 32) == b"octets"
        await transport.suspect([b"\xab" * 32, b"\xcd" * 32])
        await transport.append("a.tree", 7, memoryview(b"records"))
        assert await transport.close_archive("a.tree", ArchiveClose(plain_bytes=1, records=1)) == CLOSED
        await transport.put_blob("client.log", b"log")
        await transport.report(StageReport(files=3))
        assert await transport.commit(CommitRequest(manifest="{}")) == RESULT
        await transport.abort("no & more")
        await transport.discard("only a measurement")
    assert [(method, path) for method, path, _ in server.asked] == [
        ("POST", "/datastores/main/sessions"),
        ("GET", "/sessions/s1/base/a.tree"),
        ("GET", "/sessions/s1/available/a.tree"),
        ("GET", "/sessions/s1/resumed"),
        ("GET", "/sessions/s1/chunks/" + "ab" * 32),
        ("POST", "/sessions/s1/suspects"),
        ("POST", "/sessions/s1/archives/a.tree/records?first=7"),
        ("POST", "/sessions/s1/archives/a.tree/close"),
        ("PUT", "/sessions/s1/blobs/client.log"),
        ("POST", "/sessions/s1/report"),
        ("POST", "/sessions/s1/commit"),
        ("DELETE", "/sessions/s1?reason=no+%26+more"),
        ("DELETE", "/sessions/s1?reason=only+a+measurement&discard=1"),
    ]
    assert msgspec.json.decode(server.asked[0][2], type=SessionOpen) == request
    assert server.asked[5][2] == b"\xab" * 32 + b"\xcd" * 32
    assert server.asked[6][2] == b"records"


async def test_chunks_take_the_data_plane(plane: type[FakePlane]) -> None:
    server = Server()
    async with server.api() as api, HttpBackupTransport(api) as transport:
        await transport.open(SessionOpen(store="main", group="host/a", archives=["a.tree"]))
        await transport.send([b"a", b"b"])
    (made,) = plane.made
    assert made.sent == [[b"a", b"b"]]
    assert made.hello == Hello(authorization="a@ibs:s", session_id="s1")
    assert made.connections == limits.BACKUP_SENDERS
    assert (*made.place[:2], str(made.place[2])) == ("backup.example", 8007, ":".join(["ab"] * 32))
    assert not made.open
    assert len(server.asked) == 1


@pytest.mark.parametrize(("seconds", "warmed"), [(0.01, False), (0.2, True)])
async def test_on_a_long_line_connections_are_made_ahead(
    plane: type[FakePlane], autojump_clock: trio.testing.MockClock, seconds: float, warmed: bool
) -> None:
    server = Server()
    api = server.api()
    ask = api.post

    async def slowly(*arguments: Any, **more: Any) -> Any:
        await trio.sleep(seconds)
        return await ask(*arguments, **more)

    api.post = slowly  # type: ignore[method-assign]
    async with api, HttpRestoreTransport(api) as transport:
        await transport.open("main", "host/a")
        await trio.testing.wait_all_tasks_blocked()
        assert plane.made[0].warmed == warmed
    assert not plane.made[0].open


async def test_without_a_data_plane_http_carries_chunks(plane: type[FakePlane]) -> None:
    plane.failure = ServerUnreachable("does not speak ibs-data/1")
    server = Server()
    async with server.api() as api, HttpBackupTransport(api) as transport:
        await transport.open(SessionOpen(store="main", group="host/a", archives=["a.tree"]))
        await transport.send([b"a", memoryview(b"b")])
        plane.failure = None
        await transport.send([b"c", b"d"])
        with pytest.raises(FormatError, match="received 2 chunks where 1"):
            await transport.send([b"e"])
    assert [content for _, _, content in server.asked[1:]] == [b"ab", b"cd", b"e"]


async def test_a_data_plane_that_worked_is_not_replaced_when_it_breaks(plane: type[FakePlane]) -> None:
    server = Server()
    async with server.api() as api, HttpBackupTransport(api) as transport:
        await transport.open(SessionOpen(store="main", group="host/a", archives=["a.tree"]))
        await transport.send([b"a"])
        plane.failure = ServerUnreachable("gone")
        with pytest.raises(ServerUnreachable):
            await transport.send([b"b"])
        plane.failure = SessionLost("expired")
        with pytest.raises(SessionLost):
            await transport.send([b"b"])


async def test_a_restore_reads_under_its_lease(plane: type[FakePlane]) -> None:
    server = Server()
    async with server.api() as api, HttpRestoreTransport(api) as transport:
        assert transport.line() is None
        assert await transport.open("main", "ns:a/b/host/x") == READER
        line = transport.line()
        assert line is not None
        assert (line.host, line.port, line.hello.reader_id) == ("backup.example", 8007, "r1")
        assert api.authorization not in repr(line)
        assert await transport.file("a.tree.idx") == b"octets"
        assert await transport.fetch([b"1", b"2"]) == [b"blob of 1", b"blob of 2"]
        await transport.close("WARNING", 2, "two")
    assert [(method, path) for method, path, _ in server.asked] == [
        ("POST", "/datastores/main/readers"),
        ("GET", "/readers/r1/files/a.tree.idx"),
        ("POST", "/readers/r1/close"),
    ]
    assert msgspec.json.decode(server.asked[0][2], type=ReaderOpen) == ReaderOpen(
        snapshot="ns:a/b/host/x", namespace="a/b"
    )
    assert msgspec.json.decode(server.asked[2][2], type=ReaderClose) == ReaderClose(
        status="WARNING", warnings=2, message="two"
    )
    assert plane.made[0].hello.reader_id == "r1"


async def test_blobs_over_http_are_cut_apart(plane: type[FakePlane]) -> None:
    encoder = BlobEncoder()
    blobs = [bytes(encoder.encode(data, encoder.identify(data))) for data in (b"one", b"two" * 999)]
    plane.failure = ServerUnreachable("no plane")
    server = Server(**{"/readers/r1/chunks": b"".join(blobs)})
    async with server.api() as api, HttpRestoreTransport(api) as transport:
        await transport.open("main", "host/x")
        assert await transport.fetch([b"i" * 32, b"j" * 32]) == blobs
        with pytest.raises(FormatError, match="2 chunks where 1"):
            await transport.fetch([b"i" * 32])
    assert server.asked[-1][1] == "/readers/r1/chunks"
    assert server.asked[-1][2] == b"i" * 32
