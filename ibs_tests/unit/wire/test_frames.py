"""Frames of the data plane: exact bytes, and nothing taken on trust."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.errors import FormatError
from ibs.wire import frames
from ibs.wire.frames import HEADER, PAYLOAD_BYTES_MAX, Op, pack_header, parse_header


def test_the_bytes_of_a_header() -> None:
    """A promise of protocol version 1."""
    assert HEADER.size == 8
    assert frames.ALPN == "ibs-data/1"
    assert pack_header(Op.CHUNKS, 0x01020304) == b"\x02\0\0\0\x04\x03\x02\x01"
    assert {op.name: op.value for op in Op} == {
        "HELLO": 0,
        "READY": 1,
        "CHUNKS": 2,
        "RECEIVED": 3,
        "FETCH": 4,
        "BLOBS": 5,
        "ERROR": 7,
    }


@pytest.mark.parametrize("op", Op)
def test_each_op_has_its_bound(op: Op) -> None:
    bound = PAYLOAD_BYTES_MAX[op]
    assert parse_header(pack_header(op, bound)) == (op, bound)
    with pytest.raises(FormatError, match=op.name):
        parse_header(pack_header(op, bound + 1))


def test_the_largest_bodies_fit() -> None:
    assert PAYLOAD_BYTES_MAX[Op.CHUNKS] == limits.CHUNK_BODY_BYTES_MAX
    assert PAYLOAD_BYTES_MAX[Op.FETCH] == limits.FETCH_IDS_MAX * 32
    assert PAYLOAD_BYTES_MAX[Op.BLOBS] >= limits.FETCH_IDS_MAX * limits.CHUNK_BODY_BYTES_MAX
    assert max(PAYLOAD_BYTES_MAX.values()) < 1 << 32


@pytest.mark.parametrize("raw", [b"\x06" + bytes(7), b"\xff" * 8, b"\0\0\0\1" + bytes(4), b"\2\1\0\0\1\0\0\0"])
def test_headers_that_are_none(raw: bytes) -> None:
    with pytest.raises(FormatError, match="data plane"):
        parse_header(raw)


def test_any_buffer_will_do() -> None:
    for kind in (bytes, bytearray, memoryview):
        assert parse_header(kind(pack_header(Op.READY, 0))) == (Op.READY, 0)
