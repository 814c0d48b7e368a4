"""The processor's part: the sample is what it says, and each step does the work that it is timed for."""

from __future__ import annotations

import itertools

import zstandard
from blake3 import blake3

from ibs.client.benchmark import compute


class Ticks:
    """A clock that goes on by one second each time it is read."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def __call__(self) -> float:
        return float(next(self.count))


def test_the_sample_is_the_same_each_time_half_text_half_noise() -> None:
    data = compute.sample(4 * compute.PIECE_BYTES)
    assert bytes(data) == bytes(compute.sample(4 * compute.PIECE_BYTES))
    text, noise, *_ = compute.pieces_of(data)
    assert len({blake3(piece).digest() for piece in compute.pieces_of(data)}) == 4
    assert len(zstandard.compress(text)) < len(text) // 2
    assert len(zstandard.compress(noise)) >= len(noise)
    assert len(compute.sample(compute.PIECE_BYTES + 5)) == compute.PIECE_BYTES + 5


def test_steps_go_on_until_the_time_is_over() -> None:
    data = compute.sample(4 * compute.PIECE_BYTES)
    pieces = compute.pieces_of(data)
    hashed = compute.measure_hash(pieces, 3.0, Ticks())
    assert (hashed.bytes, hashed.seconds) == (3 * compute.PIECE_BYTES, 4.0)
    again = compute.measure_hash(pieces[:1], 3.0, Ticks())
    assert again.bytes == 3 * compute.PIECE_BYTES
    assert compute.measure_chunking(data, 0.0, Ticks()).bytes == len(data)


def test_compression_counts_content_and_tells_its_ratio() -> None:
    pieces = compute.pieces_of(compute.sample(4 * compute.PIECE_BYTES))
    compress, decompress, ratio = compute.measure_zstd(pieces, 3, 0.0, Ticks())
    assert compress.bytes == 2 * compute.PIECE_BYTES, "as much text as noise, however slow the level is"
    assert 1.2 < ratio < 2
    assert compress.note == f"{ratio:.2f} to 1"
    assert (compress.variant, decompress.variant) == ("level 3", "level 3")
    assert decompress.bytes > 0


def test_encryption_and_decryption() -> None:
    pieces = compute.pieces_of(compute.sample(2 * compute.PIECE_BYTES + 7))
    encrypt, decrypt = compute.measure_aes(pieces, 2.0, Ticks())
    assert encrypt.bytes == 2 * compute.PIECE_BYTES
    assert decrypt.bytes > 0
    assert (encrypt.part, decrypt.part) == ("aes encrypt", "aes decrypt")
