"""The data plane's client: chunks over real TLS, errors as what they were, cuts survived, answers not believed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from ibs.client.dataplane import DataPlane
from ibs.control.dataplane import FrameReader, serve_plane
from ibs.control.peer import Peer
from ibs.core.blob import BlobEncoder
from ibs.errors import (
    BusyError,
    ChunkNotFound,
    CorruptChunk,
    FormatError,
    IbsError,
    NoSpace,
    NotAuthenticated,
    ServerUnreachable,
    SessionLost,
    TlsFingerprintMismatch,
)
from ibs.runtime.retry import Backoff
from ibs.wire import frames
from ibs.wire.common import ErrorBody
from ibs.wire.frames import Hello, Op
from ibs_tests.support.control import OWNER, READER, SESSION, Certificates, FakeContext, Served, serving

CREDENTIAL = f"{OWNER}:secret"
QUICK = Backoff(attempts=4, seconds_min=0.001, seconds_max=0.001)
Script = Callable[[Peer, FrameReader], Awaitable[None]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("tls"), frames.ALPN)


def blob(data: bytes) -> bytes:
    encoder = BlobEncoder()
    return bytes(encoder.encode(data, encoder.identify(data)))


async def no_http(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError


class Server:
    """A real data plane whose connections can be counted and cut."""

    def __init__(self) -> None:
        self.context = FakeContext()
        self.context.access.token(OWNER)
        self.peers: list[Peer] = []
        self.cut_before_answer = 0

    async def serve(self, peer: Peer) -> None:
        self.peers.append(peer)
        await serve_plane(self.context, peer)  # type: ignore[arg-type]

    async def cut_all(self) -> None:
        while self.peers:
            await self.peers.pop().drop()


@asynccontextmanager
async def plane(served: Served, hello: Hello, **options: Any) -> AsyncIterator[DataPlane]:
    made = DataPlane("127.0.0.1", served.port, served.fingerprint, hello, backoff=QUICK, **options)
    async with made:
        yield made


def session_hello() -> Hello:
    return Hello(authorization=CREDENTIAL, session_id=SESSION)


def reader_hello() -> Hello:
    return Hello(authorization=CREDENTIAL, reader_id=READER)


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[tuple[Server, Served]]:
    made = Server()
    async with serving(no_http, certificates, planes={frames.ALPN: made.serve}) as served:
        yield made, served


async def test_send_and_fetch(server: tuple[Server, Served]) -> None:
    real, served = server
    async with plane(served, session_hello()) as writer:
        await writer.send([b"one", memoryview(b"two")])
    assert real.context.asked == [("send_body", b"onetwo")]
    blobs = [blob(b"first"), blob(b"second" * 100_000)]
    real.context.reader.answers["fetch"] = blobs
    async with plane(served, reader_hello()) as reader:
        assert await reader.fetch([b"a" * 32, b"b" * 32]) == blobs


async def test_connections_are_few_and_used_again(server: tuple[Server, Served]) -> None:
    real, served = server
    async with plane(served, session_hello(), connections=2) as writer, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(writer.send, [b"one", b"two"])
    assert len(real.peers) == 2
    assert len(real.context.asked) == 10


async def test_connections_made_ahead_are_the_ones_used(server: tuple[Server, Served]) -> None:
    real, served = server
    async with plane(served, session_hello(), connections=3) as writer:
        await writer.warm()
        assert len(real.peers) == 3
        for _ in range(5):
            await writer.send([b"one", b"two"])
        assert len(real.peers) == 3


async def test_one_can_be_asked_for_at_once(server: tuple[Server, Served]) -> None:
    real, served = server
    async with plane(served, session_hello(), connections=2) as writer:
        await writer.connect()
        assert len(real.peers) == 1
        await writer.send([b"one", b"two"])
        assert len(real.peers) == 1


async def test_one_that_is_asked_for_and_cannot_be_had_is_told(tmp_path: Path) -> None:
    async with serving(no_http, Certificates.make(tmp_path)) as served, plane(served, session_hello()) as writer:
        with pytest.raises(ServerUnreachable):
            await writer.connect()


async def test_what_fails_ahead_is_told_by_the_first_request(tmp_path: Path) -> None:
    async with serving(no_http, Certificates.make(tmp_path)) as served, plane(served, session_hello()) as writer:
        await writer.warm()
        with pytest.raises(ServerUnreachable):
            await writer.send([b"x"])


@pytest.mark.parametrize(
    "error",
    [
        NoSpace("main", "bytes"),
        BusyError("full"),
        FormatError("blob number 0 is cut short"),
        SessionLost("it ended"),
        CorruptChunk("ab", "digest", snapshot="host/a"),
        ChunkNotFound("ab"),
    ],
)
async def test_errors_are_what_they_were_and_the_connection_stays(
    server: tuple[Server, Served], error: IbsError
) -> None:
    real, served = server
    async with plane(served, session_hello()) as writer:
        real.context.session.answers["send_body"] = error
        with pytest.raises(type(error)) as told:
            await writer.send([b"one", b"two"])
        assert (told.value.message, told.value.hint, told.value.details) == (error.message, error.hint, error.details)
        real.context.session.answers["send_body"] = 2
        await writer.send([b"one", b"two"])
    assert len(real.peers) == 1


async def test_a_refusal_at_hello_is_told(server: tuple[Server, Served]) -> None:
    _real, served = server
    async with plane(served, Hello(authorization="x@ibs!t:wrong", session_id=SESSION)) as writer:
        with pytest.raises(NotAuthenticated):
            await writer.send([b"one"])
    async with plane(served, Hello(authorization=CREDENTIAL, session_id="other")) as writer:
        with pytest.raises(SessionLost):
            await writer.send([b"one"])


async def test_a_cut_is_survived(server: tuple[Server, Served]) -> None:
    real, served = server
    async with plane(served, session_hello()) as writer:
        for _ in range(3):
            await writer.send([b"one", b"two"])
            await real.cut_all()
    assert len(real.context.asked) == 3


async def test_a_cut_in_the_middle_of_a_request_repeats_it(server: tuple[Server, Served]) -> None:
    real, served = server

    async def cut_first(body: bytes) -> int:
        if not real.cut_before_answer:
            real.cut_before_answer += 1
            await real.cut_all()
        return 2

    real.context.session.answers["send_body"] = cut_first
    async with plane(served, session_hello()) as writer:
        await writer.send([b"one", b"two"])
    assert [asked[1] for asked in real.context.asked] == [b"onetwo", b"onetwo"]


async def test_tries_come_to_an_end(server: tuple[Server, Served]) -> None:
    real, served = server

    async def always_cut(_body: bytes) -> int:
        await real.cut_all()
        return 2

    real.context.session.answers["send_body"] = always_cut
    async with plane(served, session_hello()) as writer:
        with pytest.raises(ServerUnreachable, match="broke") as told:
            await writer.send([b"one", b"two"])
    assert "not sent twice" in told.value.hint
    assert len(real.context.asked) == QUICK.attempts


async def test_where_there_is_no_data_plane_it_is_told_at_once(tmp_path: Path) -> None:
    """So that the caller can use HTTP: no pauses, no tries."""
    certificates = Certificates.make(tmp_path)
    slow = Backoff(attempts=5, seconds_min=1000, seconds_max=1000)
    async with serving(no_http, certificates) as served:
        made = DataPlane("127.0.0.1", served.port, served.fingerprint, session_hello(), backoff=slow)
        with trio.fail_after(30), pytest.raises(ServerUnreachable):
            await made.send([b"one"])
        served.stop.set()
        await served.ended.wait()
        with trio.fail_after(30), pytest.raises(ServerUnreachable):
            await made.send([b"one"])


async def test_another_certificate_is_refused(server: tuple[Server, Served]) -> None:
    real, served = server
    wrong = ":".join(["ab"] * 32)
    made = DataPlane("127.0.0.1", served.port, wrong, session_hello(), backoff=QUICK)
    with pytest.raises(TlsFingerprintMismatch):
        await made.send([b"one"])
    assert real.context.access.asked == []


async def test_after_closing_nothing_is_sent(server: tuple[Server, Served]) -> None:
    real, served = server
    made = DataPlane("127.0.0.1", served.port, served.fingerprint, session_hello())
    await made.send([b"one", b"two"])
    await made.aclose()
    with trio.fail_after(30), pytest.raises(ServerUnreachable):
        await made.send([b"one", b"two"])
    assert len(real.context.asked) == 1


async def test_a_cancelled_request_takes_its_connection_with_it(server: tuple[Server, Served]) -> None:
    """The next request must not get the answer of this one."""
    real, served = server
    entered = trio.Event()

    async def stuck(_body: bytes) -> int:
        entered.set()
        await trio.sleep_forever()
        raise AssertionError

    async with plane(served, session_hello(), connections=1) as writer:
        real.context.session.answers["send_body"] = stuck
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.send, [b"one", b"two"])
            await entered.wait()
            nursery.cancel_scope.cancel()
        real.context.session.answers["send_body"] = 2
        with trio.fail_after(30):
            await writer.send([b"three", b"four"])
    assert len(real.peers) == 2


@asynccontextmanager
async def scripted(certificates: Certificates, script: Script) -> AsyncIterator[Served]:
    """A server that answers HELLO well and then does what the script says."""

    async def serve(peer: Peer) -> None:
        peer.admit()
        reader = FrameReader(peer)
        await reader.frame(Op.HELLO, 30)
        await script(peer, reader)

    async with serving(no_http, certificates, planes={frames.ALPN: serve}) as served:
        yield served


def answering(op: Op | int, payload: bytes, wanted: Op = Op.CHUNKS) -> Script:
    async def script(peer: Peer, reader: FrameReader) -> None:
        await peer.send_all(frames.pack_header(Op.READY, 0))
        while await reader.frame(wanted, 30) is not None:
            await peer.send_all(frames.HEADER.pack(op, len(payload)) + payload)

    return script


@pytest.mark.parametrize(
    ("op", "payload"),
    [
        (Op.RECEIVED, (1).to_bytes(4, "little")),
        (Op.RECEIVED, (3).to_bytes(4, "little")),
        (Op.RECEIVED, b""),
        (Op.BLOBS, b""),
        (Op.READY, b""),
        (99, b""),
        (Op.ERROR, b"{"),
        (Op.ERROR, b"{}"),
        (Op.ERROR, b'{"code": "\xff"}'),
    ],
)
async def test_a_wrong_answer_to_a_delivery_is_no_success(
    certificates: Certificates, op: Op | int, payload: bytes
) -> None:
    async with scripted(certificates, answering(op, payload)) as served, plane(served, session_hello()) as writer:
        with trio.fail_after(30), pytest.raises(FormatError, match="data plane"):
            await writer.send([b"one", b"two"])


@pytest.mark.parametrize(
    "payload", [b"", blob(b"one"), blob(b"one") * 3, (blob(b"one") * 2)[:-1], b"x" * 300, blob(b"one") * 2 + b"x"]
)
async def test_a_wrong_answer_to_a_fetch_is_no_success(certificates: Certificates, payload: bytes) -> None:
    script = answering(Op.BLOBS, payload, Op.FETCH)
    async with scripted(certificates, script) as served, plane(served, reader_hello()) as reader:
        with trio.fail_after(30), pytest.raises(FormatError):
            await reader.fetch([b"a" * 32, b"b" * 32])


@pytest.mark.parametrize("op", [Op.RECEIVED, Op.BLOBS, 42])
async def test_a_wrong_answer_to_hello(certificates: Certificates, op: int) -> None:
    async def script(peer: Peer, _reader: FrameReader) -> None:
        await peer.send_all(frames.HEADER.pack(op, 0))
        await peer.hear_out()

    async with scripted(certificates, script) as served, plane(served, session_hello()) as writer:
        with trio.fail_after(30), pytest.raises(FormatError, match="data plane"):
            await writer.send([b"one"])


async def test_an_unknown_error_is_an_error_all_the_same(certificates: Certificates) -> None:
    payload = msgspec.json.encode(ErrorBody(code="from-the-future", message="something new", hint="look"))
    script = answering(Op.ERROR, payload)
    async with scripted(certificates, script) as served, plane(served, session_hello()) as writer:
        with pytest.raises(IbsError, match="something new"):
            await writer.send([b"one"])


async def test_a_server_that_says_nothing_is_given_up(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibs.core.limits.HTTP_ANSWER_SECONDS_MAX", 0.05)

    async def script(peer: Peer, _reader: FrameReader) -> None:
        await peer.send_all(frames.pack_header(Op.READY, 0))
        await trio.sleep_forever()

    async with scripted(certificates, script) as served, plane(served, session_hello()) as writer:
        with trio.fail_after(30), pytest.raises(ServerUnreachable, match="no answer in time"):
            await writer.send([b"one"])
