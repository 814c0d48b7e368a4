"""A line to a server, as a program: `python -m ibs_tests.support.relay TARGET-FILE BYTES-PER-SECOND [BACK-PER-SECOND]`.

Prints its port. Where to is read from the file at each connection, so that a server may move. SIGSTOP makes it a line
that swallows everything, SIGKILL one that breaks.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import trio

PIECE = 16 << 10
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Pace:
    """What all connections of one direction carry together."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def carry(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        while data := await source.receive_some(PIECE):
            self._free_at = max(self._free_at, trio.current_time()) + len(data) / self._rate
            await trio.sleep_until(self._free_at)
            await target.send_all(data)
        await target.send_eof()


async def connection(near: trio.SocketStream, place: Path, there: Pace, back: Pace) -> None:
    host, _, port = place.read_text().strip().rpartition(":")
    try:
        far = await trio.open_tcp_stream(host, int(port))
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(there.carry, near, far)
            nursery.start_soon(back.carry, far, near)
    except* _GONE:
        pass  # one end broke, or the server is not there: the connection is over
    finally:
        await trio.aclose_forcefully(near)


async def main(place: Path, rate: float, back: float = 1e12) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(partial(connection, place=place, there=Pace(rate), back=Pace(back)), listeners)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), *map(float, sys.argv[2:]))
