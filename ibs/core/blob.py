"""The blob: one stored chunk with its header, compressed and perhaps encrypted (contrib/docs/formats.md §2).

Pure; used by `storage`, `engine` and `client`. Invariants:

* What `BlobDecoder.decode` returns has the wanted id, proven by recomputing it; nothing else ever comes out.
* Memory of a decode is bounded by the header's plain length, which is at most CHUNK_PLAIN_BYTES_MAX, whatever
  the payload claims.
* The outer digest finds bit rot without a key and is no protection against malice; tag and id are.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ibs.core import limits
from ibs.core.ids import PLAIN_DOMAIN, Address, Buffer, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import CorruptChunk, FingerprintMismatch, FormatError, UsageError

HEADER_BYTES: Final = 128
MAGIC: Final = b"IBSB"
VERSION: Final = 1
FLAG_ZSTD: Final = 1
FLAG_ENCRYPTED: Final = 2
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
BLOB_BYTES_MAX: Final = HEADER_BYTES + limits.CHUNK_PLAIN_BYTES_MAX + TAG_BYTES

_SEALED_BYTES: Final = 96
"""Bytes 0..95 are covered by the digest and, when encrypted, by the tag."""
_HEADER: Final = struct.Struct("<4sBBHII32s32s12sI")
_NO_NONCE: Final = bytes(NONCE_BYTES)


@dataclass(frozen=True, slots=True)
class BlobHeader:
    """A checked header. Lengths in bytes; `domain`, `id`, `digest` 32 bytes, `nonce` 12."""

    flags: int
    plain_length: int
    payload_length: int
    domain: bytes
    id: bytes
    nonce: bytes
    digest: bytes

    @property
    def total_bytes(self) -> int:
        """Header and payload."""
        return HEADER_BYTES + self.payload_length

    @property
    def encrypted(self) -> bool:
        return bool(self.flags & FLAG_ENCRYPTED)

    @property
    def address(self) -> Address:
        return Address(self.domain, self.id)


def parse_header(buf: Buffer) -> BlobHeader:
    """Read and check the header at the start of `buf` (which may go on with the payload).

    Raises FormatError on anything the format does not allow; neither payload nor digest is looked at.
    """
    if len(buf) < HEADER_BYTES:
        raise FormatError(f"a blob header has {HEADER_BYTES} bytes, only {len(buf)} are there")
    magic, version, flags, pad, plain_length, payload_length, domain, chunk, nonce, pad2 = _HEADER.unpack_from(buf)
    if magic != MAGIC:
        raise FormatError("not a blob: wrong magic bytes")
    if version != VERSION:
        raise FormatError(f"blob version {version} is not known", hint="a newer release wrote it: upgrade this one")
    if flags & ~(FLAG_ZSTD | FLAG_ENCRYPTED) or pad or pad2:
        raise FormatError("blob header has unknown flags or bytes that must be zero")
    if not 1 <= plain_length <= limits.CHUNK_PLAIN_BYTES_MAX:
        raise FormatError(f"blob plain length {plain_length} is not within 1..{limits.CHUNK_PLAIN_BYTES_MAX}")
    encrypted = bool(flags & FLAG_ENCRYPTED)
    if encrypted != (domain != PLAIN_DOMAIN):
        raise FormatError("blob domain and encrypted flag contradict each other")
    if not encrypted and nonce != _NO_NONCE:
        raise FormatError("a plain blob has no nonce")
    body = payload_length - (TAG_BYTES if encrypted else 0)
    # Compressed payloads are kept only when smaller, raw ones have exactly the plain length.
    if not (1 <= body < plain_length if flags & FLAG_ZSTD else body == plain_length):
        raise FormatError(f"blob payload length {payload_length} does not fit plain length {plain_length}")
    return BlobHeader(flags, plain_length, payload_length, domain, chunk, nonce, bytes(buf[_SEALED_BYTES:HEADER_BYTES]))


def check_blob(buf: Buffer) -> BlobHeader:
    """Check header, exact total length and digest of one whole blob; what anyone without the key can check.

    Raises FormatError when malformed or of another length; CorruptChunk when the digest differs.
    """
    header = parse_header(buf)
    if len(buf) != header.total_bytes:
        raise FormatError(f"blob has {len(buf)} bytes, its header says {header.total_bytes}")
    view = memoryview(buf)
    hasher = blake3(view[:_SEALED_BYTES])
    hasher.update(view[HEADER_BYTES:])
    if hasher.digest() != header.digest:
        raise CorruptChunk(header.id.hex(), "stored bytes do not match their digest")
    return header


def split_blobs(body: Buffer) -> list[tuple[BlobHeader, memoryview]]:
    """Cut concatenated blobs apart: for each its header and a view of the whole blob, header included.

    Digests are not checked. Raises FormatError when a header is malformed or the last blob is cut short.
    """
    blobs: list[tuple[BlobHeader, memoryview]] = []
    rest = memoryview(body)
    while rest:
        header = parse_header(rest)
        if header.total_bytes > len(rest):
            raise FormatError(f"blob number {len(blobs)} is cut short: {len(rest)} of {header.total_bytes} bytes")
        blobs.append((header, rest[: header.total_bytes]))
        rest = rest[header.total_bytes :]
    return blobs


class _Turn:
    """Turns concurrent use of a thread-confined object into a loud error: sharing it would write wrong bytes."""

    __slots__ = ("_lock", "_what")

    def __init__(self, what: str) -> None:
        self._lock = threading.Lock()
        self._what = what

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(f"a {self._what} was used by two threads at once")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    """Level 2, a backup's default, is not zstd's own but tuned for chunks of a mebibyte.

    One small hash table that stays in the processor's first caches, and matches of six bytes or more: measured half as
    fast again as zstd's level 3, with 5 % larger system files and smaller logs, and better than zstd's own 2 in both.
    """
    if level != 2:
        return zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1,
        source_size=limits.TREE_CHUNK_BYTES_AVG,
        strategy=zstandard.STRATEGY_FAST,
        window_log=20,
        hash_log=15,
        min_match=6,
        write_content_size=True,
        write_checksum=False,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


class BlobEncoder:
    """Makes blobs, plain without `keys`, else encrypted under them. Thread-confined: one per thread.

    `level` is zstd's (1 fast, 19 small), but for 2, see `_compressor`. `entropy(n)` returns n random bytes, for nonces.
    """

    def __init__(
        self, *, level: int = 3, keys: DataKeys | None = None, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._zstd = _compressor(level)
        self._keys = keys
        self._entropy = entropy
        self._domain = keys.fingerprint if keys else PLAIN_DOMAIN
        self._turn = _Turn("BlobEncoder")

    @property
    def domain(self) -> bytes:
        """Domain of every blob this encoder makes."""
        return self._domain

    def identify(self, data: Buffer) -> bytes:
        """The chunk id of `data`, keyed when this encoder has keys."""
        if self._keys is None:
            return blake3(data).digest()
        return blake3(data, key=self._keys.id_key).digest()

    def encode(self, data: Buffer, chunk_id: bytes) -> bytes | bytearray:
        """The whole blob of one chunk. `chunk_id` is what `identify` gave for `data`.

        `data` (1 to CHUNK_PLAIN_BYTES_MAX bytes, contiguous) is read in place and not kept.
        Raises UsageError on another size.
        """
        size = len(data)
        if not 1 <= size <= limits.CHUNK_PLAIN_BYTES_MAX:
            raise UsageError(f"a chunk has 1 to {limits.CHUNK_PLAIN_BYTES_MAX} bytes, not {size}")
        with self._turn:
            packed = self._zstd.compress(data)
        flags, body = (FLAG_ZSTD, packed) if len(packed) < size else (0, data)
        if self._keys is not None:
            return self._encrypt(flags, size, body, chunk_id, self._keys)
        sealed = _HEADER.pack(MAGIC, VERSION, flags, 0, size, len(body), self._domain, chunk_id, _NO_NONCE, 0)
        hasher = blake3(sealed)
        hasher.update(body)
        return b"".join((sealed, hasher.digest(), body))

    def _encrypt(self, flags: int, size: int, body: Buffer, chunk_id: bytes, keys: DataKeys) -> bytearray:
        payload_length = len(body) + TAG_BYTES
        nonce = self._entropy(NONCE_BYTES)
        sealed = _HEADER.pack(
            MAGIC, VERSION, flags | FLAG_ENCRYPTED, 0, size, payload_length, self._domain, chunk_id, nonce, 0
        )
        out = bytearray(HEADER_BYTES + payload_length)
        with memoryview(out) as view, view[HEADER_BYTES:] as payload:
            AESGCM(keys.chunk_key(chunk_id)).encrypt_into(nonce, body, sealed, payload)
            hasher = blake3(sealed)
            hasher.update(payload)
            view[:_SEALED_BYTES] = sealed
            view[_SEALED_BYTES:HEADER_BYTES] = hasher.digest()
        return out


class BlobDecoder:
    """Opens blobs: plain ones always, encrypted ones of `keys`. Thread-confined: one per thread."""

    def __init__(self, *, keys: DataKeys | None = None) -> None:
        # A frame that knows its content needs no window beyond it; a hostile one is refused.
        self._zstd = zstandard.ZstdDecompressor(max_window_size=limits.CHUNK_PLAIN_BYTES_MAX)
        self._keys = keys
        self._turn = _Turn("BlobDecoder")

    def decode(self, blob: Buffer, *, want: Address) -> bytes:
        """The plaintext of the chunk `want`, everything checked including its id.

        Raises FormatError when malformed; CorruptChunk when digest, tag or id fail, or when it is another chunk;
        FingerprintMismatch when the data wants a key this decoder does not have.
        """
        self._check_key(want.domain)
        header = check_blob(blob)
        self._check_key(header.domain)
        if header.id != want.id or header.domain != want.domain:
            raise CorruptChunk(want.id.hex(), f"the stored blob is chunk {header.id.hex()}")
        view = memoryview(blob)
        payload: Buffer = view[HEADER_BYTES:]
        if header.encrypted:
            payload = self._decrypt(header, view)
        plain = self._decompress(header, payload) if header.flags & FLAG_ZSTD else bytes(payload)
        keys = self._keys if header.encrypted else None
        actual = keys.chunk_id(plain) if keys is not None else blake3(plain).digest()
        if actual != want.id:
            raise CorruptChunk(want.id.hex(), "content does not match the chunk id")
        return plain

    def prove(self, blob: Buffer, header: BlobHeader) -> None:
        """Check that a plain blob, whole by `check_blob` with this header, holds the content its id stands for.

        As `decode`, but the content goes nowhere: a raw payload is hashed in place. Raises FormatError, CorruptChunk.
        """
        payload: Buffer = memoryview(blob)[HEADER_BYTES:]
        plain = self._decompress(header, payload) if header.flags & FLAG_ZSTD else payload
        if blake3(plain).digest() != header.id:
            raise CorruptChunk(header.id.hex(), "content does not match the chunk id")

    def _check_key(self, domain: bytes) -> None:
        if domain == PLAIN_DOMAIN:
            return
        offered = self._keys.fingerprint if self._keys else None
        if domain != offered:
            raise FingerprintMismatch(hex_fingerprint(domain), hex_fingerprint(offered) if offered else "none")

    def _decrypt(self, header: BlobHeader, view: memoryview) -> bytes:
        assert self._keys is not None  # noqa: S101 - `_check_key` refused this header otherwise
        cipher = AESGCM(self._keys.chunk_key(header.id))
        try:
            return cipher.decrypt(header.nonce, view[HEADER_BYTES:], view[:_SEALED_BYTES])
        except InvalidTag:
            raise CorruptChunk(header.id.hex(), "authentication of the encrypted data failed") from None

    def _decompress(self, header: BlobHeader, payload: Buffer) -> bytes:
        try:
            frame = zstandard.get_frame_parameters(payload)
            # Before a byte of output is allocated: a bomb announces its size, or hides it; both stop here.
            if frame.content_size != header.plain_length:
                raise FormatError(f"blob {header.id.hex()}: compressed content size is not the header's plain length")
            if frame.window_size > limits.CHUNK_PLAIN_BYTES_MAX:
                raise FormatError(f"blob {header.id.hex()}: compressed data asks for too much memory")
            with self._turn:
                plain = self._zstd.decompress(
                    payload, max_output_size=header.plain_length, read_across_frames=False, allow_extra_data=False
                )
        except zstandard.ZstdError as error:
            raise FormatError(f"blob {header.id.hex()}: not one valid zstd frame ({error})") from error
        if len(plain) != header.plain_length:
            raise FormatError(f"blob {header.id.hex()}: content is not as long as the header says")
        return plain
