"""What the processor does for a backup, each step alone in one thread: hash, cut, compress, encrypt, and back.

Imported by `client.benchmark.run`. The data is made, half like text and half like noise, so that two runs on one
machine can be compared; the work is done in pieces of the size that chunks have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ibs.client.benchmark.figures import Figure
from ibs.core import limits
from ibs.core.blob import NONCE_BYTES, TAG_BYTES
from ibs.core.chunker import Chunker

LEVELS = (1, 3, 6, 12, 19)
PIECE_BYTES = limits.TREE_CHUNK_BYTES_AVG
SAMPLE_BYTES = 16 * limits.MIB

Monotonic = Callable[[], float]
T = TypeVar("T", memoryview, bytes)


def sample(size: int = SAMPLE_BYTES) -> memoryview:
    """`size` bytes: pieces of log-like text and of noise by turns. The same in each run. Blocks."""
    text = _text(PIECE_BYTES)
    out = bytearray(size)
    for number, at in enumerate(range(0, size, PIECE_BYTES)):
        length = min(PIECE_BYTES, size - at)
        if number % 2:
            out[at : at + length] = blake3(b"noise%d" % number).digest(length)
        else:
            out[at : at + length] = (b"%08d" % number + text)[:length]
    return memoryview(out)


def _text(size: int) -> bytes:
    lines: list[bytes] = []
    total = number = 0
    while total < size:
        tag = blake3(b"%d" % number).hexdigest(12)
        line = f"2026-11-{number % 28 + 1:02} host{number % 17} request {tag} answered in {number % 997} ms\n".encode()
        lines.append(line)
        total += len(line)
        number += 1
    return b"".join(lines)[:size]


def pieces_of(data: memoryview) -> list[memoryview]:
    """`data` in the pieces that the steps work on."""
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def measure_hash(pieces: Sequence[memoryview], seconds: float, monotonic: Monotonic) -> Figure:
    """BLAKE3 in one thread, as chunk ids are made."""
    size, spent = _repeat(pieces, lambda piece: blake3(piece).digest(), seconds, monotonic)
    return Figure.of("hash", "BLAKE3", size, spent)


def measure_chunking(data: memoryview, seconds: float, monotonic: Monotonic) -> Figure:
    """FastCDC over the whole sample at once."""
    chunker = Chunker()
    size, spent = _repeat([data], lambda whole: chunker.cut(whole, final=True), seconds, monotonic)
    return Figure.of("chunking", "FastCDC", size, spent)


def measure_zstd(
    pieces: Sequence[memoryview], level: int, seconds: float, monotonic: Monotonic
) -> tuple[Figure, Figure, float]:
    """Compression and decompression at one level, in content bytes; and content by compressed size."""
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
    packed: list[bytes] = []
    size, spent = _repeat(
        pieces, lambda piece: packed.append(compressor.compress(piece)), seconds, monotonic, steps_min=2
    )
    done = packed[: min(len(packed) & ~1, len(pieces))]  # as much text as noise
    plain = sum(len(piece) for piece in pieces[: len(done)])
    ratio = plain / max(sum(map(len, done)), 1)
    compress = Figure.of("zstd compress", f"level {level}", size, spent, note=f"{ratio:.2f} to 1")
    decompressor = zstandard.ZstdDecompressor()
    moved, took = _repeat(done, decompressor.decompress, seconds, monotonic)
    decompress = Figure.of("zstd decompress", f"level {level}", int(moved * ratio), took)
    return compress, decompress, ratio


def measure_aes(pieces: Sequence[memoryview], seconds: float, monotonic: Monotonic) -> tuple[Figure, Figure]:
    """AES-256-GCM as chunks are encrypted with a client's key."""
    cipher = AESGCM(bytes(32))
    nonce = bytes(NONCE_BYTES)
    out = bytearray(PIECE_BYTES + TAG_BYTES)
    whole = [piece for piece in pieces if len(piece) == PIECE_BYTES] or [memoryview(bytes(PIECE_BYTES))]
    size, spent = _repeat(whole, lambda piece: cipher.encrypt_into(nonce, piece, None, out), seconds, monotonic)
    sealed = memoryview(cipher.encrypt(nonce, whole[0], None))
    moved, took = _repeat([sealed], lambda piece: cipher.decrypt(nonce, piece, None), seconds, monotonic)
    return Figure.of("aes encrypt", "AES-256-GCM", size, spent), Figure.of("aes decrypt", "AES-256-GCM", moved, took)


def _repeat(
    pieces: Sequence[T], work: Callable[[T], object], seconds: float, monotonic: Monotonic, steps_min: int = 1
) -> tuple[int, float]:
    """Do `work` on piece after piece, again and again, for about `seconds`: bytes worked on, and seconds spent."""
    began = monotonic()
    size = 0
    for step, piece in enumerate(itertools.cycle(pieces), 1):
        work(piece)
        size += len(piece)
        if step >= steps_min and monotonic() - began >= seconds:
            break
    return size, monotonic() - began
