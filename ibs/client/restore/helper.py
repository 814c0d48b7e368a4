"""A second process that receives, decrypts and proves chunks for a restore, into memory it shares with the first.

Started by `client.restore.offload` as `python -P -m ibs.client.restore.helper FD BYTES`; nothing else imports its
`main`. One interpreter runs one step of Python at a time, and a restore has more of them than one can run: this half of
the work is divided off where it is simple to divide. The helper decides nothing and touches no file.

The two speak over the helper's standard input and output: frames of a length (4 bytes, little endian) and a msgpack
body. First `Setup`, answered by `Ready` when a data connection stands; then any number of `Request`s, answered in any
order. What is secret travels there only, never in arguments or the environment. When its input ends, the helper ends.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
from typing import Any, Final, TypeVar

import msgspec
import trio

from ibs.client.dataplane import DataPlane
from ibs.client.restore.opener import FetchFigures, LocalOpener
from ibs.core import limits, limits_restore
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, IbsError
from ibs.runtime.allocator import keep_freed_memory
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs.wire.common import ErrorBody, body_of
from ibs.wire.frames import Hello

M = TypeVar("M")

LENGTH: Final = struct.Struct("<I")
_RECEIVE_BYTES: Final = 1 << 16


class Setup(msgspec.Struct, frozen=True):
    """Where the chunks are and what opens them. `root`: the secret of the data keys, empty for plain snapshots."""

    host: str
    port: int
    fingerprint: str
    hello: Hello
    domain: bytes
    root: bytes


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A chunk, its plain length, and the offset in the shared memory where its plaintext is wanted."""

    id: bytes
    length: int
    at: int


class Request(msgspec.Struct, frozen=True, array_like=True):
    """Chunks that are wanted together."""

    number: int
    places: list[Place]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """To the request of that number; number 0 says that the helper is ready.

    `errors`: chunks that could not be had, by their place in the request. `fatal`: what ends the restore.
    `figures`: what this took, as (fetch seconds, decode seconds, stored bytes).
    """

    number: int
    errors: dict[int, ErrorBody] = {}
    fatal: ErrorBody | None = None
    figures: tuple[float, float, int] = (0.0, 0.0, 0)


class Frames:
    """Whole bodies out of a byte stream. Raises FormatError on what cannot be one."""

    def __init__(self, stream: trio.abc.ReceiveStream, kind: type[M]) -> None:
        self._stream = stream
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._held = bytearray()

    async def next(self) -> Any:
        """The next body; None at the end of the stream."""
        while True:
            if len(self._held) >= LENGTH.size:
                (size,) = LENGTH.unpack_from(self._held)
                if size > limits_restore.HELPER_FRAME_BYTES_MAX:
                    raise FormatError(f"a message of {size} bytes between the processes of a restore")
                if len(self._held) >= LENGTH.size + size:
                    body = bytes(self._held[LENGTH.size : LENGTH.size + size])
                    del self._held[: LENGTH.size + size]
                    return self._body(body)
            data = await self._stream.receive_some(_RECEIVE_BYTES)
            if not data:
                return None
            self._held += data

    def _body(self, body: bytes) -> Any:
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise FormatError(f"a message between the processes of a restore: {error}") from error


def frame(body: msgspec.Struct) -> bytes:
    """`body` as it travels."""
    raw = msgspec.msgpack.encode(body)
    return LENGTH.pack(len(raw)) + raw


class Helper:
    """Serves one restore."""

    def __init__(self, setup: Setup, plane: DataPlane, memory: memoryview, out: trio.abc.SendStream) -> None:
        self._setup = setup
        self._plane = plane
        self._memory = memory
        self._out = out
        self._sending = trio.Lock()
        self._keys = DataKeys.from_root(setup.root) if setup.root else None
        self._pool = ThreadPool()

    async def answer(self, request: Request) -> None:
        """Open what is asked for, put it where it is wanted, and say so."""
        opener = LocalOpener(
            self._plane,
            self._pool,
            SystemClock(),
            domain=self._setup.domain,
            keys=self._keys,
            entropy=os.urandom,
        )
        try:
            places = [self._memory[place.at : place.at + place.length] for place in request.places]
            opened = await opener.open_into([(place.id, place.length) for place in request.places], places)
            errors = {at: body_of(one) for at, one in enumerate(opened) if isinstance(one, IbsError)}
            answer = Answer(request.number, errors, None, _told(opener.figures))
        except IbsError as error:
            answer = Answer(request.number, {}, body_of(error), _told(opener.figures))
        await self.say(answer)

    async def say(self, answer: Answer) -> None:
        """Send one answer whole."""
        async with self._sending:
            await self._out.send_all(frame(answer))


def _told(figures: FetchFigures) -> tuple[float, float, int]:
    return figures.fetch_seconds, figures.decode_seconds, figures.stored_bytes


async def serve(memory: memoryview, source: trio.abc.ReceiveStream, out: trio.abc.SendStream) -> None:
    """Until `source` ends. Raises IbsError when no data connection can be made."""
    setup = await Frames(source, Setup).next()
    if setup is None:
        return
    async with DataPlane(
        setup.host, setup.port, setup.fingerprint, setup.hello, connections=limits.RESTORE_FETCHES
    ) as plane:
        await plane.connect()
        helper = Helper(setup, plane, memory, out)
        await helper.say(Answer(0))
        requests = Frames(source, Request)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of the requests
            while (request := await requests.next()) is not None:
                nursery.start_soon(helper.answer, request)
            nursery.cancel_scope.cancel()


async def _main(fd: int, size: int) -> None:
    memory = memoryview(mmap.mmap(fd, size))
    source, out = trio.lowlevel.FdStream(os.dup(0)), trio.lowlevel.FdStream(os.dup(1))
    async with source, out:
        await serve(memory, source, out)


def main() -> None:
    """The program. Whoever started it handles interrupts, and ends it by ending its input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    try:
        trio.run(_main, int(sys.argv[1]), int(sys.argv[2]))
    except (IbsError, OSError, trio.BrokenResourceError, ExceptionGroup):
        sys.exit(1)  # the first process goes on alone; nobody reads what this one would print


if __name__ == "__main__":
    main()
