"""The bench's slow line: delay and rate are what it says, it holds no more than a line does, nothing is lost."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

PLACE = Path(__file__).resolve().parents[2] / "contrib" / "bench" / "relay.py"
RATE = 25_000_000.0
DELAY = 0.075


def load() -> ModuleType:
    """The relay as a module; contrib is no package."""
    spec = importlib.util.spec_from_file_location("bench_relay", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_relay"] = module
    spec.loader.exec_module(module)
    return module


relay = load()


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    got = bytearray()
    while piece := await stream.receive_some(1 << 20):
        got += piece
    return bytes(got)


async def carry(line: object, data: bytes) -> tuple[bytes, float]:
    """Send `data` along `line`; what arrived, and after how many seconds the last of it."""
    sender, entrance = memory_stream_pair()
    exit_, receiver = memory_stream_pair()
    got = b""
    began = trio.current_time()

    async def send() -> None:
        await sender.send_all(data)
        await sender.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(line.carry, entrance, exit_)
        got = await receive_all(receiver)
    return got, trio.current_time() - began


async def test_a_byte_takes_the_delay(autojump_clock: MockClock) -> None:
    got, seconds = await carry(relay.Line(RATE, DELAY, 1 << 20), b"x")
    assert got == b"x"
    assert seconds == pytest.approx(DELAY, rel=0.01)


async def test_much_takes_the_rate_and_arrives_in_order(autojump_clock: MockClock) -> None:
    line = relay.Line(RATE, DELAY, int(RATE * 2 * DELAY))
    data = os.urandom(10_000_000)
    got, seconds = await carry(line, data)
    assert got == data
    assert seconds == pytest.approx(DELAY + len(data) / RATE, rel=0.02)
    assert line.held_bytes == 0


async def test_what_is_held_is_bounded_and_a_small_buffer_slows(autojump_clock: MockClock) -> None:
    line = relay.Line(RATE, DELAY, 500_000)
    data = bytes(5_000_000)
    _, seconds = await carry(line, data)
    assert line.held_bytes_peak <= 500_000
    assert seconds > 1.5 * (DELAY + len(data) / RATE), "a window below the line's own cannot fill it"


async def test_connections_share_the_line(autojump_clock: MockClock) -> None:
    line = relay.Line(RATE, DELAY, int(RATE * 2 * DELAY))
    done: list[float] = []

    async def one() -> None:
        got, seconds = await carry(line, bytes(5_000_000))
        assert len(got) == 5_000_000
        done.append(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert max(done) == pytest.approx(DELAY + 10_000_000 / RATE, rel=0.02)


async def test_a_cancelled_connection_gives_its_room_back(autojump_clock: MockClock) -> None:
    line = relay.Line(RATE, DELAY, 1 << 20)
    sender, entrance = memory_stream_pair()
    exit_, _receiver = memory_stream_pair()
    await sender.send_all(bytes(100_000))
    with trio.move_on_after(DELAY / 2):
        await line.carry(entrance, exit_)
    assert (line.held_bytes, line.held_bytes_peak) == (0, 100_000)


async def test_real_connections_pass_both_ways_and_end() -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async for piece in stream:
            await stream.send_all(piece)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio.serve_tcp, echo, 0)
        port = server[0].socket.getsockname()[1]
        slow = relay.Relay("127.0.0.1", port, round_trip_seconds=0.004, bytes_per_second=1e9)
        entrance = await nursery.start(trio.serve_tcp, slow.connection, 0)
        stream = await trio.open_tcp_stream("127.0.0.1", entrance[0].socket.getsockname()[1])
        data = os.urandom(1_000_000)
        async with stream:
            async with trio.open_nursery() as sending:
                sending.start_soon(stream.send_all, data)
                got = bytearray()
                while len(got) < len(data):
                    got += await stream.receive_some(1 << 16)
            await stream.send_eof()
            assert await stream.receive_some(1) == b""
        assert bytes(got) == data
        assert (slow.there.held_bytes, slow.back.held_bytes) == (0, 0)
        nursery.cancel_scope.cancel()
