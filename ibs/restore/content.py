"""Bytes of files and images onto a descriptor: where each piece belongs, large writes, and zero runs left as holes.

Used by the tree writer, the image writers and the comparisons. Buffers are views of chunk plaintexts, never copies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ibs.core import limits
from ibs.core.ids import Buffer
from ibs.core.tree import Entry, Extent
from ibs.errors import FormatError, IbsError
from ibs.restore.tree.safe_path import shown

_IOV_MAX: Final = 1024
_RUN: Final = limits.SPARSE_RUN_BYTES

Chunks = Mapping[bytes, Buffer | IbsError]
"""Plaintexts by id, or why one could not be had."""


class Piece(NamedTuple):
    """`length` bytes at `at` in the file come from `offset` in the plaintext of the chunk `id`."""

    at: int
    id: bytes
    offset: int
    length: int


def layout(entry: Entry) -> list[Piece]:
    """Where the bytes of a file lie, in ascending order; what no piece covers is a hole.

    Raises FormatError when ranges and extents contradict each other or the size: nothing here trusts the reader.
    """
    if len(entry.extents) == 1 and not entry.ranges and entry.extents[0].length == entry.size:
        extent = entry.extents[0]
        return [Piece(0, extent.id, extent.offset, extent.length)]
    pieces: list[Piece] = []
    extents = iter(entry.extents)
    current: Extent | None = None
    used = end = 0
    for start, length in entry.data_ranges():
        if start < end or length <= 0 or start + length > entry.size:
            raise FormatError(f"{shown(entry.path)}: data ranges overlap or lie outside the file")
        at, end = start, start + length
        while at < end:
            if current is None or used == current.length:
                current, used = next(extents, None), 0
                if current is None or current.length <= 0 or current.offset < 0:
                    raise FormatError(f"{shown(entry.path)}: extents do not fill the data ranges")
            take = min(current.length - used, end - at)
            pieces.append(Piece(at, current.id, current.offset + used, take))
            at += take
            used += take
    if next(extents, None) is not None or (current is not None and used != current.length):
        raise FormatError(f"{shown(entry.path)}: extents hold more than the data ranges")
    return pieces


def resolve(pieces: Sequence[Piece], chunks: Chunks, path: bytes) -> list[tuple[int, memoryview]]:
    """The pieces as (offset in the file, bytes). Raises what befell a chunk, FormatError when one is too short."""
    found = []
    for at, chunk_id, offset, length in pieces:
        data = chunks[chunk_id]
        if isinstance(data, IbsError):
            raise data
        if offset + length > len(data):
            raise FormatError(
                f"{shown(path)}: wants bytes {offset}..{offset + length} of chunk {chunk_id.hex()}, it has {len(data)}"
            )
        found.append((at, memoryview(data)[offset : offset + length]))
    return found


def write_pieces(fd: int, parts: Iterable[tuple[int, memoryview]], *, sparse: bool) -> int:
    """Write (offset, bytes) in ascending order, neighbours in one call; return the bytes written.

    With `sparse`, zero runs of SPARSE_RUN_BYTES aligned to that are skipped: the descriptor must be of a file that
    has holes there. Raises OSError.
    """
    if sparse:
        parts = (run for at, data in parts for run in nonzero_runs(at, data))
    buffers: list[memoryview] = []
    start = end = written = 0
    for at, data in parts:
        if buffers and (at != end or len(buffers) == _IOV_MAX):
            written += _write_all(fd, buffers, start)
            buffers = []
        if not buffers:
            start = end = at
        buffers.append(data)
        end += len(data)
    if buffers:
        written += _write_all(fd, buffers, start)
    return written


def _write_all(fd: int, buffers: list[memoryview], at: int) -> int:
    total = 0
    while buffers:
        done = os.pwritev(fd, buffers, at) if len(buffers) > 1 else os.pwrite(fd, buffers[0], at)
        total += done
        at += done
        while buffers and done >= len(buffers[0]):
            done -= len(buffers.pop(0))
        if buffers and done:
            buffers[0] = buffers[0][done:]
    return total


def is_zero(data: bytes | memoryview) -> bool:
    """Whether all bytes are zero; looks at the first few before it looks at all."""
    if len(data) == 0:
        return True
    if data[0] or data[-1]:
        return False
    return not np.frombuffer(data, np.uint8).any()


def nonzero_runs(at: int, data: memoryview) -> list[tuple[int, memoryview]]:
    """`data` (which belongs at offset `at`) without the aligned runs of SPARSE_RUN_BYTES that are all zero."""
    head = min(-at % _RUN, len(data))
    whole = (len(data) - head) // _RUN
    if whole == 0:
        return [(at, data)]
    tail = head + whole * _RUN
    filled = np.frombuffer(data[head:tail], np.uint64).reshape(whole, -1).any(axis=1)
    if filled.all():
        return [(at, data)]
    # What is not a whole run (before the first, after the last) is written whatever it holds.
    bounds = [0, *range(head, tail + 1, _RUN), len(data)]
    keep = [True, *np.atleast_1d(filled).tolist(), True]
    kept: list[tuple[int, memoryview]] = []
    first = 0
    for number, wanted in enumerate(keep):
        if not wanted:
            if bounds[number] > first:
                kept.append((at + first, data[first : bounds[number]]))
            first = bounds[number + 1]
    if len(data) > first:
        kept.append((at + first, data[first:]))
    return kept
