"""The data plane: who may, what comes back, in which order; nothing a peer does is more than its own trouble."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from ibs.control.dataplane import FrameReader, serve_plane
from ibs.control.peer import Peer
from ibs.core import limits
from ibs.errors import BusyError, CorruptChunk, FormatError, NoSpace
from ibs.wire import frames
from ibs.wire.common import ErrorBody
from ibs.wire.frames import Hello, Op
from ibs_tests.support.control import OWNER, READER, SESSION, Certificates, FakeContext, logged, serving
from ibs_tests.unit.control.test_auditing import Kept

FOREVER = 1e9


class Client:
    """Speaks frames."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def send(self, op: Op | int, payload: bytes = b"", *, length: int | None = None) -> None:
        await self.stream.send_all(frames.HEADER.pack(op, len(payload) if length is None else length) + payload)

    async def hello(self, authorization: str, *, session: str = "", reader: str = "") -> None:
        hello = Hello(authorization=authorization, session_id=session, reader_id=reader)
        await self.send(Op.HELLO, msgspec.json.encode(hello))

    async def receive(self, wanted: Op) -> bytes:
        """The payload of the next frame, which must be `wanted`."""
        head = await self._exactly(frames.HEADER.size)
        op, length = frames.parse_header(head)
        payload = await self._exactly(length)
        assert op is wanted, (op, bytes(payload[:200]))
        return bytes(payload)

    async def error(self, code: str) -> ErrorBody:
        """The next frame is an error with this code."""
        body = msgspec.json.decode(await self.receive(Op.ERROR), type=ErrorBody)
        assert body.code == code, body
        return body

    async def ended(self) -> None:
        """The server has said all."""
        assert await self.stream.receive_some() == b""

    async def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = await self.stream.receive_some(size - len(got))
            assert piece, "the server ended"
            got += piece
        return bytes(got)


@asynccontextmanager
async def plane(context: FakeContext, pair: Any = None) -> AsyncIterator[Client]:
    """A connection to the data plane, in memory."""
    client, server = (pair or trio.testing.memory_stream_pair)()

    async def serve() -> None:
        await serve_plane(context, Peer(server, "1.2.3.4"))  # type: ignore[arg-type]
        await trio.aclose_forcefully(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield Client(client)
        await trio.aclose_forcefully(client)


@pytest.fixture
def context() -> FakeContext:
    made = FakeContext()
    made.access.token(OWNER)
    made.access.token("other@ibs!t")
    return made


CREDENTIAL = f"{OWNER}:secret"


async def test_a_session_takes_chunks(context: FakeContext) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        assert await client.receive(Op.READY) == b""
        for _ in range(3):
            await client.send(Op.CHUNKS, b"blobs")
            assert await client.receive(Op.RECEIVED) == (2).to_bytes(4, "little")
    assert context.asked == [("send_body", b"blobs")] * 3
    assert context.session.peers_lost == 1


async def test_a_reader_gives_blobs(context: FakeContext) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, reader=READER)
        await client.receive(Op.READY)
        await client.send(Op.FETCH, b"a" * 32 + b"b" * 32)
        assert await client.receive(Op.BLOBS) == b"onetwo"
    assert context.asked == [("fetch", [b"a" * 32, b"b" * 32])]


@pytest.mark.parametrize(
    ("authorization", "session", "reader", "code"),
    [
        ("", SESSION, "", "not-authenticated"),
        (f"{OWNER}:wrong", SESSION, "", "not-authenticated"),
        ("other@ibs!t:secret", SESSION, "", "session-lost"),
        ("other@ibs!t:secret", "", READER, "session-lost"),
        (CREDENTIAL, "unknown", "", "session-lost"),
        (CREDENTIAL, "", "unknown", "session-lost"),
        (CREDENTIAL, READER, "", "session-lost"),
        (CREDENTIAL, "", SESSION, "session-lost"),
        (CREDENTIAL, SESSION, READER, "usage"),
        (CREDENTIAL, "", "", "usage"),
    ],
)
async def test_hello_is_authorised_like_http(
    context: FakeContext, authorization: str, session: str, reader: str, code: str
) -> None:
    context.audit = kept = Kept()  # type: ignore[assignment]
    async with plane(context) as client:
        await client.hello(authorization, session=session, reader=reader)
        assert (await client.error(code)).message
        await client.ended()
    assert context.asked == []
    assert [row["action"] for row in kept.rows] == ["data_plane"] * (code == "not-authenticated")


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b'{"session_id": "x"}', b'{"authorization": 1}', b'{"authorization": "\xff"}']
)
async def test_a_hello_that_is_none(context: FakeContext, payload: bytes) -> None:
    async with plane(context) as client:
        await client.send(Op.HELLO, payload)
        await client.error("format")
        await client.ended()


@pytest.mark.parametrize("op", [op for op in Op if op is not Op.HELLO])
async def test_nothing_comes_before_hello(context: FakeContext, op: Op) -> None:
    """Refused by its header: no memory is taken for what a stranger announces."""
    async with plane(context) as client:
        await client.send(op, length=frames.PAYLOAD_BYTES_MAX[op])
        await client.error("format")
        await client.ended()
    assert context.access.asked == []


@pytest.mark.parametrize(
    "header",
    [
        frames.HEADER.pack(99, 0),
        frames.HEADER.pack(Op.HELLO, frames.HELLO_BYTES_MAX + 1),
        b"\0\1\0\0\0\0\0\0",
        b"GET / HT",
        b"\xff" * 8,
    ],
)
async def test_what_is_no_frame(context: FakeContext, header: bytes) -> None:
    async with plane(context) as client:
        await client.stream.send_all(header)
        await client.error("format")
        await client.ended()


@pytest.mark.parametrize(
    ("ids", "op", "length"),
    [
        ({"session": SESSION}, Op.CHUNKS, limits.CHUNK_BODY_BYTES_MAX + 1),
        ({"session": SESSION}, Op.FETCH, 32),
        ({"session": SESSION}, Op.BLOBS, frames.ANSWER_BYTES_MAX),
        ({"session": SESSION}, Op.HELLO, 10),
        ({"session": SESSION}, 77, 0),
        ({"reader": READER}, Op.CHUNKS, 10),
        ({"reader": READER}, Op.FETCH, limits.FETCH_IDS_MAX * 32 + 1),
    ],
)
async def test_a_frame_that_is_not_due_ends_the_connection(
    context: FakeContext, ids: dict[str, str], op: Op | int, length: int
) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, **ids)
        await client.receive(Op.READY)
        await client.send(op, length=length)
        await client.error("format")
        await client.ended()


async def test_errors_come_in_the_place_of_answers_and_the_connection_goes_on(context: FakeContext) -> None:
    failures: list[Any] = [NoSpace("main", "bytes"), FormatError("blob number 0 is cut short"), BusyError("full"), 2]

    async def send_body(_body: bytes) -> int:
        failure = failures.pop(0)
        if isinstance(failure, Exception):
            raise failure
        return int(failure)

    context.session.answers["send_body"] = send_body
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)
        for code in ("no-space", "format", "busy"):
            await client.send(Op.CHUNKS, b"blobs")
            body = await client.error(code)
        assert (body.message, body.retry) == ("full", "later")
        await client.send(Op.CHUNKS, b"blobs")
        await client.receive(Op.RECEIVED)


@pytest.mark.parametrize("payload", [b"", b"x" * 31, b"x" * 33])
async def test_a_list_of_ids_that_is_none(context: FakeContext, payload: bytes) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, reader=READER)
        await client.receive(Op.READY)
        await client.send(Op.FETCH, payload)
        await client.error("usage")
        await client.send(Op.FETCH, b"x" * 32)
        await client.receive(Op.BLOBS)


async def test_an_answer_that_would_take_too_much_memory_is_refused(context: FakeContext) -> None:
    count = limits.FETCH_ANSWER_BYTES_MAX >> 20
    async with plane(context) as client:
        await client.hello(CREDENTIAL, reader=READER)
        await client.receive(Op.READY)
        context.reader.answers["fetch"] = [bytes(1 << 20)] * count
        await client.send(Op.FETCH, b"x" * 32)
        assert len(await client.receive(Op.BLOBS)) == limits.FETCH_ANSWER_BYTES_MAX
        context.reader.answers["fetch"] = [bytes(1 << 20)] * (count + 1)
        await client.send(Op.FETCH, b"x" * 32)
        assert "fewer" in (await client.error("usage")).hint


async def test_a_defect_is_one_sentence_and_a_line_in_the_log(
    context: FakeContext, caplog: pytest.LogCaptureFixture
) -> None:
    context.session.answers["send_body"] = ZeroDivisionError("hush")
    with caplog.at_level(logging.INFO, "ibs.api"):
        async with plane(context) as client:
            await client.hello(CREDENTIAL, session=SESSION)
            await client.receive(Op.READY)
            await client.send(Op.CHUNKS, b"blobs")
            assert "hush" not in (await client.error("error")).message
            context.session.answers["send_body"] = 1
            await client.send(Op.CHUNKS, b"blobs")
            await client.receive(Op.RECEIVED)
    assert "hush" in logged(caplog.records)


async def test_an_error_with_too_many_details_still_fits(context: FakeContext) -> None:
    context.reader.answers["fetch"] = CorruptChunk("ab", "bad", snapshots=["x" * 100] * 10_000)
    async with plane(context) as client:
        await client.hello(CREDENTIAL, reader=READER)
        await client.receive(Op.READY)
        await client.send(Op.FETCH, b"x" * 32)
        assert (await client.error("corrupt")).details == {}


async def test_a_credential_that_no_longer_holds_ends_here_too(context: FakeContext) -> None:
    context.audit = rows = Kept()  # type: ignore[assignment]
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)
        context.access.tokens.clear()
        await client.send(Op.CHUNKS, b"blobs")
        await client.error("not-authenticated")
    (row,) = rows.rows
    assert (row["auth_id"], row["action"], str(row["outcome"])) == (OWNER, "data_plane", "refused")
    assert context.asked == []


async def test_a_session_that_has_ended_is_told(context: FakeContext) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)
        context.sessions.lost = True
        await client.send(Op.CHUNKS, b"blobs")
        assert (await client.error("session-lost")).retry == "now"


@pytest.mark.parametrize("sent", [b"", b"\2", frames.HEADER.pack(Op.CHUNKS, 100), frames.HEADER.pack(2, 100) + b"x"])
@pytest.mark.parametrize("hard", [False, True], ids=["end", "reset"])
async def test_a_connection_cut_anywhere_is_quiet(
    context: FakeContext, sent: bytes, hard: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ibs.api"):
        async with plane(context) as client:
            await client.hello(CREDENTIAL, session=SESSION)
            await client.receive(Op.READY)
            if sent:
                await client.stream.send_all(sent)
            if not hard:
                await client.stream.send_eof()  # type: ignore[attr-defined]
                await trio.testing.wait_all_tasks_blocked()
    assert caplog.text == ""
    assert context.asked == []


async def test_what_came_whole_is_stored_although_the_peer_has_gone(context: FakeContext) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)
        await client.send(Op.CHUNKS, b"one")
        await client.send(Op.CHUNKS, b"two")
        await trio.aclose_forcefully(client.stream)
    assert context.asked[:1] == [("send_body", b"one")]


async def test_one_request_ahead_and_no_more(context: FakeContext) -> None:
    """While one is being stored the next is received; the third waits in the sender."""
    go_on = trio.Semaphore(0)
    begun: list[bytes] = []

    async def send_body(body: bytes) -> int:
        begun.append(bytes(body[:1]))
        await go_on.acquire()
        return 1

    context.session.answers["send_body"] = send_body
    sent: list[int] = []
    async with plane(context, trio.testing.lockstep_stream_pair) as client, trio.open_nursery() as nursery:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)

        async def send_all() -> None:
            for number in range(5):
                await client.send(Op.CHUNKS, b"%d" % number * 1000)
                sent.append(number)

        nursery.start_soon(send_all)
        for number in range(5):
            await trio.testing.wait_all_tasks_blocked()
            assert (begun[-1], len(sent)) == (b"%d" % number, min(number + 2, 5))
            go_on.release()
            await client.receive(Op.RECEIVED)


async def test_answers_keep_the_order_of_requests(context: FakeContext) -> None:
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)
        counts = iter(range(20))

        async def send_body(body: bytes) -> int:
            assert int(body) == next(counts)
            return int(body)

        context.session.answers["send_body"] = send_body
        async with trio.open_nursery() as nursery:

            async def send_all() -> None:
                for number in range(20):
                    await client.send(Op.CHUNKS, b"%d" % number)

            nursery.start_soon(send_all)
            for number in range(20):
                assert await client.receive(Op.RECEIVED) == number.to_bytes(4, "little")


async def test_a_peer_that_says_nothing_is_closed(context: FakeContext, autojump_clock: trio.testing.MockClock) -> None:
    async with plane(context) as client:
        begin = trio.current_time()
        await client.ended()
        assert trio.current_time() - begin == pytest.approx(10)


async def test_a_silent_peer_is_closed_without_an_answer_that_nobody_asked_for(
    context: FakeContext, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ibs.api"):
        async with plane(context) as client:
            await client.hello(CREDENTIAL, session=SESSION)
            await client.receive(Op.READY)
            await trio.sleep(limits.PLANE_IDLE_SECONDS_MAX * 0.9)
            await client.send(Op.CHUNKS, b"blobs")
            await client.receive(Op.RECEIVED)
            begin = trio.current_time()
            await client.ended()
            assert trio.current_time() - begin == pytest.approx(limits.PLANE_IDLE_SECONDS_MAX)
    assert caplog.text == ""


async def test_a_frame_may_be_slow_but_not_stand_still(
    context: FakeContext, autojump_clock: trio.testing.MockClock
) -> None:
    body = bytes(1 << 20)
    async with plane(context) as client:
        await client.hello(CREDENTIAL, session=SESSION)
        await client.receive(Op.READY)
        await client.send(Op.CHUNKS, length=len(body))
        for at in range(0, len(body), 1 << 14):
            await client.stream.send_all(body[at : at + (1 << 14)])
            await trio.sleep(3)
        await client.receive(Op.RECEIVED)
        await client.send(Op.CHUNKS, b"only this", length=1000)
        begin = trio.current_time()
        await client.ended()
        assert trio.current_time() - begin <= limits.BODY_STALL_SECONDS_MAX + 1
    assert len(context.asked) == 1


async def test_a_peer_that_takes_no_answer_is_cut_off(
    context: FakeContext, autojump_clock: trio.testing.MockClock
) -> None:
    context.reader.answers["fetch"] = [bytes(1 << 20)] * 3
    async with plane(context, trio.testing.lockstep_stream_pair) as client:
        await client.hello(CREDENTIAL, reader=READER)
        await client.receive(Op.READY)
        await client.send(Op.FETCH, b"x" * 32)
        await trio.sleep(limits.SEND_PIECE_SECONDS_MAX + 1)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            await client.receive(Op.BLOBS)


async def test_a_reset_in_the_middle_leaves_the_listener_alone(
    context: FakeContext, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Over real TLS: a data connection that is cut in a frame ends neither HTTP nor other data connections."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def serve(peer: Peer) -> None:
        await serve_plane(context, peer)  # type: ignore[arg-type]

    with caplog.at_level(logging.WARNING, "ibs.api"):
        async with serving(app, certificates, planes={frames.ALPN: serve}) as served, served.raw(frames.ALPN) as other:
            lasting = Client(other)
            await lasting.hello(CREDENTIAL, session=SESSION)
            await lasting.receive(Op.READY)
            for sent in (b"", b"\2", frames.HEADER.pack(Op.CHUNKS, 1000) + b"x"):
                async with served.raw(frames.ALPN) as stream:
                    client = Client(stream)
                    await client.hello(CREDENTIAL, session=SESSION)
                    await client.receive(Op.READY)
                    await stream.send_all(sent)
            await lasting.send(Op.CHUNKS, b"blobs")
            await lasting.receive(Op.RECEIVED)
            async with served.http() as http:
                assert (await http.get("/x")).status_code == 204
    assert caplog.text == ""


async def test_the_reader_cuts_frames_out_of_any_pieces() -> None:
    stream = (
        frames.HEADER.pack(Op.CHUNKS, 5)
        + b"hello"
        + frames.HEADER.pack(Op.CHUNKS, 0)
        + frames.HEADER.pack(2, 3)
        + b"abc"
    )

    class Pieces:
        def __init__(self, size: int) -> None:
            self.rest, self.size = stream, size

        async def receive_into(self, view: memoryview) -> int:
            await trio.lowlevel.checkpoint()
            size = min(self.size, len(view), len(self.rest))
            view[:size], self.rest = self.rest[:size], self.rest[size:]
            return size

    for size in (1, 2, 3, 7, 8, 9, 100):
        reader = FrameReader(Pieces(size))
        got = []
        while (request := await reader.frame(Op.CHUNKS, FOREVER)) is not None:
            got.append(bytes(request.payload))
        assert got == [b"hello", b"", b"abc"]
