"""Frames of the data plane (ALPN `ibs-data/1`): how chunks travel in bulk. Described in contrib/docs/protocol.md §3.

Pure; shared by `control.dataplane` and `client.dataplane`. A frame is an 8-byte header and a payload:

    offset 0  1 byte   op
           1  3 bytes  0
           4  4 bytes  payload length, little endian

The client speaks first and may have several requests under way; answers come in the order of the requests.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from ibs.core import limits
from ibs.errors import FormatError
from ibs.wire.common import Wire

ALPN: Final = "ibs-data/1"
HEADER: Final = struct.Struct("<B3xI")
REQUESTS_AHEAD_MAX: Final = 8
HELLO_BYTES_MAX: Final = 16 * limits.KIB
ANSWER_BYTES_MAX: Final = limits.FETCH_IDS_MAX * (limits.CHUNK_BODY_BYTES_MAX + limits.KIB)


class Op(IntEnum):
    """Requests are even, answers odd."""

    HELLO = 0
    READY = 1
    CHUNKS = 2
    RECEIVED = 3
    FETCH = 4
    BLOBS = 5
    ERROR = 7
    """An ErrorBody instead of the answer that was due."""


PAYLOAD_BYTES_MAX: Final = {
    Op.HELLO: HELLO_BYTES_MAX,
    Op.READY: 0,
    Op.CHUNKS: limits.CHUNK_BODY_BYTES_MAX,
    Op.RECEIVED: 4,
    Op.FETCH: limits.FETCH_IDS_MAX * 32,
    Op.BLOBS: ANSWER_BYTES_MAX,
    Op.ERROR: 64 * limits.KIB,
}


class Hello(Wire, frozen=True, kw_only=True):
    """First frame: who speaks (`AUTH-ID:SECRET`), and the one session or reader this connection serves."""

    authorization: str
    session_id: str = ""
    reader_id: str = ""


def pack_header(op: Op, length: int) -> bytes:
    """The 8 bytes before a payload of `length` bytes."""
    return HEADER.pack(op, length)


def parse_header(raw: bytes | bytearray | memoryview) -> tuple[Op, int]:
    """Op and payload length. Raises FormatError on an unknown op or a length above that op's bound."""
    number, length = HEADER.unpack(raw)
    try:
        op = Op(number)
    except ValueError:
        raise FormatError(f"data plane: unknown frame {number}", hint="client and server versions do not fit") from None
    if bytes(raw[1:4]) != b"\0\0\0" or length > PAYLOAD_BYTES_MAX[op]:
        raise FormatError(f"data plane: frame {op.name} of {length} bytes is not allowed")
    return op, length
