"""Names of content: digests, chunk ids, addresses, and how keys' and certificates' fingerprints are written.

Pure; importable by everyone from `core` upwards. Bytes inside, text only where a person or a file sees it.
For streaming digests use `blake3.blake3` itself; `digest` is its one-shot form.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from blake3 import blake3

from ibs.errors import UsageError

ID_BYTES: Final = 32
PLAIN_DOMAIN: Final = bytes(ID_BYTES)
"""Domain of chunks that are not encrypted."""
SHORT_FINGERPRINT_BYTES: Final = 8

Buffer = bytes | bytearray | memoryview

_HEX_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){31}", re.ASCII)


class Address(NamedTuple):
    """`domain`: 32 zero bytes for plain chunks, else the full key fingerprint. `id`: 32 bytes."""

    domain: bytes
    id: bytes


def digest(data: Buffer) -> bytes:
    """BLAKE3-256 of `data`, unkeyed, on the calling thread (the GIL is released)."""
    return blake3(data).digest()


def chunk_id(data: Buffer) -> bytes:
    """The id of a plain chunk: BLAKE3-256 of its plaintext. Encrypted chunks have keyed ids: `DataKeys.chunk_id`."""
    return blake3(data).digest()


def parse_hex(text: str, what: str = "chunk id") -> bytes:
    """32 bytes written as 64 lower-case hex digits, such as an id or a digest. Raises UsageError naming `what`."""
    if not _HEX_ID.fullmatch(text):
        raise UsageError(f"{what} {_shown(text)} is not valid", hint="it has 64 lower-case hex digits")
    return bytes.fromhex(text)


def hex_fingerprint(raw: bytes) -> str:
    """Lower-case hex pairs joined by colons: `aa:bb:…`."""
    return raw.hex(":")


def short_fingerprint(raw: bytes) -> str:
    """The first 8 bytes in colon form, for tables and log lines; never to be compared."""
    return raw[:SHORT_FINGERPRINT_BYTES].hex(":")


def parse_fingerprint(text: str) -> bytes:
    """The 32 bytes of a full fingerprint in colon form, either case. Raises UsageError."""
    lowered = text.strip().lower()
    if not _FINGERPRINT.fullmatch(lowered):
        raise UsageError(
            f"fingerprint {_shown(text)} is not valid", hint="write all 32 hex pairs joined by colons: aa:bb:…"
        )
    return bytes.fromhex(lowered.replace(":", ""))


def _shown(text: str) -> str:
    """A bounded, quoted excerpt of what was given: error messages must not grow with hostile input."""
    return repr(text if len(text) <= 100 else text[:100] + "…")
