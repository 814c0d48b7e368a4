"""Writing and reading in a folder: how fast its disk takes a stream, and gives one.

Imported by `client.benchmark.run`. Invariant: nothing is left behind, whatever happens: the file never has a name, or
loses it before the first byte is written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from blake3 import blake3

from ibs.client.benchmark.figures import Figure
from ibs.core import limits
from ibs.ports.clock import Clock
from ibs.ports.pool import Pool
from ibs.sources.notes import reason, shown

_PIECE_BYTES = 4 * limits.MIB
_TURN_PIECES = 8
_BYTES_MIN = 16 * limits.MIB
_SPARED_SHARE = 2
"""At most 1/2 of what is free is written."""


async def measure_disk(
    pool: Pool, clock: Clock, folder: str, size: int, seconds_max: float
) -> tuple[list[Figure], list[str]]:
    """Write `size` bytes into `folder` and read them again, each for at most about `seconds_max`.

    Returns figures, and notes on what was not measured or may mislead. *Cancellation*: between turns of 32 MiB.
    """
    try:
        free = await pool.disk(_free_bytes, folder)
        size = min(size, free // _SPARED_SHARE)
        if size < _BYTES_MIN:
            return [], [f"disk not measured: {shown(os.fsencode(folder))} has too little free space"]
        handle = await pool.disk(_nameless_file, folder)
    except OSError as error:
        return [], [f"disk not measured: {shown(os.fsencode(folder))}: {reason(error)}"]
    try:
        return await _measure(pool, clock, handle, size, seconds_max), []
    except OSError as error:
        return [], [f"disk not measured: {shown(os.fsencode(folder))}: {reason(error)}"]
    finally:
        os.close(handle)


async def _measure(pool: Pool, clock: Clock, handle: int, size: int, seconds_max: float) -> list[Figure]:
    piece = await pool.cpu(lambda: blake3(os.urandom(32)).digest(_PIECE_BYTES))
    began = clock.monotonic()
    written = 0
    while written < size and clock.monotonic() - began < seconds_max:
        written += await pool.disk(_write_turn, handle, piece, size - written)
    await pool.disk(os.fsync, handle)
    write = Figure.of("disk write", "with fsync", written, clock.monotonic() - began)
    with contextlib.suppress(OSError):  # advice only
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    await pool.disk(os.lseek, handle, 0, os.SEEK_SET)
    began = clock.monotonic()
    got = 0
    while got < written and clock.monotonic() - began < seconds_max:
        turn = await pool.disk(_read_turn, handle)
        if not turn:
            break
        got += turn
    read = Figure.of("disk read", "sequential", got, clock.monotonic() - began, note="after the page cache was dropped")
    return [write, read]


def _free_bytes(folder: str) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def _nameless_file(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # file systems without nameless files
        handle, path = tempfile.mkstemp(prefix=".ibs-benchmark-", dir=folder)
        os.unlink(path)
        return handle


def _write_turn(handle: int, piece: bytes, left: int) -> int:
    """Write some pieces; returns the bytes written."""
    total = 0
    for _ in range(_TURN_PIECES):
        if total >= left:
            break
        total += os.write(handle, memoryview(piece)[: left - total])
    return total


def _read_turn(handle: int) -> int:
    """Read some pieces; returns the bytes read, 0 at the end."""
    buffer = bytearray(_PIECE_BYTES)
    total = 0
    for _ in range(_TURN_PIECES):
        count = os.readv(handle, [buffer])
        if not count:
            break
        total += count
    return total
