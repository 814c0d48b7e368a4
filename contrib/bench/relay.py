"""A slow, long line between two programs on one machine: adds delay, caps the rate, holds no more than a line does.

    relay.py --to 127.0.0.1:8007 [--round-trip-ms 150] [--mbit 200]

Prints the port it listens on, and relays every connection there. All connections share one line in each direction.
What a direction holds (on its way, and waiting at its entrance) is bounded by one round trip at full rate, as in a
router with a buffer of that size; beyond that the sender is made to wait. Not imitated: loss, and the slow start of
TCP over a long line, which takes a real connection about a second more.
"""

from __future__ import annotations

import argparse
import math
import socket
from contextlib import suppress

import trio

PIECE_BYTES = 64 * 1024
SOCKET_BYTES = 128 * 1024
"""Kernel buffers of the relay's own sockets: small beside the line, so that they are no hidden line of their own."""

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Line:
    """One direction. `held_bytes` is what is on it now, `held_bytes_peak` the most there ever was."""

    def __init__(self, bytes_per_second: float, delay_seconds: float, held_bytes_max: int) -> None:
        self._rate = bytes_per_second
        self._delay = delay_seconds
        self._max = held_bytes_max
        self._free_at = 0.0
        self._room = trio.lowlevel.ParkingLot()
        self.held_bytes = 0
        self.held_bytes_peak = 0

    async def carry(self, source: trio.abc.ReceiveStream, target: trio.abc.HalfCloseableStream) -> None:
        """Carry bytes from `source` to `target` until the end of `source`, and the end after them."""
        put, get = trio.open_memory_channel[tuple[float, bytes]](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, get, target)
            with put:
                while data := await source.receive_some(PIECE_BYTES):
                    put.send_nowait((await self._enter(len(data)), bytes(data)))

    async def _enter(self, size: int) -> float:
        """Take a place on the line; when the last byte will have arrived."""
        while self.held_bytes and self.held_bytes + size > self._max:
            await self._room.park()
        self.held_bytes += size
        self.held_bytes_peak = max(self.held_bytes_peak, self.held_bytes)
        self._free_at = max(self._free_at, trio.current_time()) + size / self._rate
        return self._free_at + self._delay

    async def _deliver(
        self, pieces: trio.MemoryReceiveChannel[tuple[float, bytes]], target: trio.abc.HalfCloseableStream
    ) -> None:
        try:
            async for moment, data in pieces:
                try:
                    await trio.sleep_until(moment)
                    await target.send_all(data)
                finally:
                    self._leave(len(data))
            await target.send_eof()
        finally:
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                while True:
                    self._leave(len(pieces.receive_nowait()[1]))

    def _leave(self, size: int) -> None:
        self.held_bytes -= size
        self._room.unpark_all()


class Relay:
    """Both directions of one line, for any number of connections to one place."""

    def __init__(self, host: str, port: int, *, round_trip_seconds: float, bytes_per_second: float) -> None:
        self._place = (host, port)
        self._round_trip = round_trip_seconds
        room = max(int(bytes_per_second * round_trip_seconds), 4 * PIECE_BYTES)
        self.there = Line(bytes_per_second, round_trip_seconds / 2, room)
        self.back = Line(bytes_per_second, round_trip_seconds / 2, room)

    async def connection(self, near: trio.SocketStream) -> None:
        """Relay one connection until both of its ends are done."""
        _small_buffers(near)
        with suppress(*_GONE):
            await trio.sleep(self._round_trip)  # what a connection takes to be made
            far = await trio.open_tcp_stream(*self._place)
            _small_buffers(far)
            async with near, far:
                await self._both(near, far)

    async def _both(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.there.carry, near, far)
                nursery.start_soon(self.back.carry, far, near)
        except* _GONE:
            pass  # one end broke: the connection is over


def _small_buffers(stream: trio.SocketStream) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        stream.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)


async def main() -> None:
    """Relay until ended by a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", required=True, help="HOST:PORT")
    parser.add_argument("--round-trip-ms", type=float, default=150.0)
    parser.add_argument("--mbit", type=float, default=200.0, help="a second, in each direction")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    relay = Relay(
        host,
        int(port),
        round_trip_seconds=options.round_trip_ms / 1000,
        bytes_per_second=options.mbit * 1e6 / 8,
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(relay.connection, listeners)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(main)
