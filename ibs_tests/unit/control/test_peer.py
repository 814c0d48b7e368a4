"""A peer: probation ends with a credential, a send ends in any case, an ending listens for a moment."""

from __future__ import annotations

import hashlib
import math

import pytest
import trio
import trio.testing

from ibs.control.peer import Peer
from ibs.core import limits


class Stuck(trio.abc.Stream):
    """Takes `room` bytes and then nothing more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.room -= len(data)
        if self.room < 0:
            await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"x" * (max_bytes or 1)

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_admission_lifts_the_deadline_once() -> None:
    told: list[bool] = []
    with trio.CancelScope(deadline=trio.current_time() + 10) as probation:
        stream = Stuck(0)
        peer = Peer(stream, "1.2.3.4", probation=probation, on_admitted=lambda: told.append(True))
        assert not peer.admitted
        peer.admit()
        peer.admit()
        assert (peer.admitted, probation.deadline, told) == (True, math.inf, [True])
    Peer(stream, "x").admit()


async def test_a_peer_that_takes_nothing_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    stream = Stuck(limits.SEND_PIECE_BYTES)
    peer = Peer(stream, "1.2.3.4")
    begin = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await peer.send_all(bytes(3 * limits.SEND_PIECE_BYTES))
    assert trio.current_time() - begin == pytest.approx(limits.SEND_PIECE_SECONDS_MAX)
    assert stream.closed


async def test_a_slow_peer_is_served(autojump_clock: trio.testing.MockClock) -> None:
    """Slower than everything else here, but it moves."""
    left, right = trio.testing.memory_stream_pair()
    got = bytearray()

    async def hook() -> None:
        await trio.sleep(limits.SEND_PIECE_SECONDS_MAX * 0.9)
        trio.testing.memory_stream_pump(left.send_stream, right.receive_stream)  # type: ignore[arg-type]

    left.send_stream.send_all_hook = hook  # type: ignore[union-attr]
    data = bytes(range(256)) * (3 * limits.SEND_PIECE_BYTES // 256)
    await Peer(left, "x").send_all(memoryview(data))
    while len(got) < len(data):
        got += await right.receive_some(1 << 20)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_a_cancelled_send_is_a_cancellation() -> None:
    with trio.move_on_after(0.01) as scope:
        await Peer(Stuck(0), "x").send_all(b"x")
    assert scope.cancelled_caught


async def test_ending_is_told_and_the_rest_is_taken(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    peer = Peer(left, "x")
    await right.send_all(b"still sending")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.hear_out)
        assert await right.receive_some(10) == b""
        await right.send_all(b"more")
        await right.send_eof()


async def test_hearing_out_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    silent, _other = trio.testing.memory_stream_pair()
    begin = trio.current_time()
    await Peer(silent, "x").hear_out()
    assert trio.current_time() - begin == pytest.approx(limits.HTTP_LINGER_SECONDS_MAX)
    await Peer(Stuck(0), "x").hear_out()  # sends for ever


async def test_a_peer_that_has_gone_can_be_ended_and_dropped() -> None:
    left, _right = trio.testing.memory_stream_pair()
    peer = Peer(left, "x")
    await peer.drop()
    await peer.end_sending()
    await peer.hear_out()
    with pytest.raises(trio.ClosedResourceError):
        await peer.send_all(b"x")
