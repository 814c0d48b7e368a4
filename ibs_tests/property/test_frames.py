"""Frames under arbitrary cuts and damage: what goes in comes out, and rubbish is refused without taking memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from ibs.control.dataplane import FrameReader, Request
from ibs.errors import FormatError
from ibs.wire.frames import HEADER, PAYLOAD_BYTES_MAX, Op, pack_header, parse_header

FOREVER = 1e9


class Pieces:
    """A stream that arrives in given pieces."""

    def __init__(self, data: bytes, cuts: Sequence[int]) -> None:
        places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
        self._pieces = [data[a:b] for a, b in itertools.pairwise(places) if a < b]

    async def receive_into(self, view: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        size = min(len(piece), len(view))
        view[:size] = piece[:size]
        if piece[size:]:
            self._pieces.insert(0, piece[size:])
        return size


def read_all(data: bytes, cuts: Sequence[int], wanted: Op = Op.CHUNKS) -> list[Request]:
    """Every frame in `data`. Raises FormatError."""
    got = []

    async def main() -> None:
        reader = FrameReader(Pieces(data, cuts))
        while (request := await reader.frame(wanted, FOREVER)) is not None:
            got.append(request)

    trio.run(main)
    return got


@given(st.sampled_from(Op), st.integers(0, (1 << 32) - 1))
def test_a_header_is_itself_or_refused(op: Op, length: int) -> None:
    raw = pack_header(op, length)
    if length <= PAYLOAD_BYTES_MAX[op]:
        assert parse_header(raw) == (op, length)
    else:
        with pytest.raises(FormatError):
            parse_header(raw)


@given(st.binary(min_size=8, max_size=8))
def test_eight_bytes_are_a_header_in_one_way_or_none(raw: bytes) -> None:
    try:
        op, length = parse_header(raw)
    except FormatError:
        return
    assert pack_header(op, length) == raw
    assert length <= PAYLOAD_BYTES_MAX[op]


@given(st.lists(st.binary(max_size=200), max_size=8), st.lists(st.integers(0, 1 << 16), max_size=20))
def test_frames_survive_any_cuts(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pack_header(Op.CHUNKS, len(one)) + one for one in payloads)
    assert [bytes(one.payload) for one in read_all(data, cuts)] == payloads


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.data())
def test_a_stream_cut_short_is_told(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pack_header(Op.CHUNKS, len(one)) + one for one in payloads)
    ends = {0}
    at = 0
    for one in payloads:
        at += HEADER.size + len(one)
        ends.add(at)
    end = data.draw(st.integers(0, len(whole) - 1))
    if end in ends:
        assert len(read_all(whole[:end], [])) == sorted(ends).index(end)
    else:
        with pytest.raises(FormatError, match="ended inside a frame"):
            read_all(whole[:end], [])


@given(st.sampled_from(Op), st.sampled_from(Op), st.integers(0, (1 << 32) - 1))
def test_what_is_not_due_is_refused_by_its_header_alone(wanted: Op, op: Op, length: int) -> None:
    """The payload is never waited for, so none of it is made room for."""
    assume(op is not wanted or length > PAYLOAD_BYTES_MAX[op])
    with pytest.raises(FormatError, match="allowed"):
        read_all(HEADER.pack(op, length), [], wanted)
