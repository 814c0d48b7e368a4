"""Blobs: what is written can be read, and what was tampered with cannot."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from typing import cast

import pytest
import zstandard
from blake3 import blake3

from ibs.core import blob, limits
from ibs.core.blob import BlobDecoder, BlobEncoder, check_blob, parse_header, split_blobs
from ibs.core.ids import PLAIN_DOMAIN, Address, hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import CorruptChunk, FingerprintMismatch, FormatError, UsageError

KEYS = DataKeys.from_root(bytes(range(32)))
OTHER = DataKeys.from_root(b"\x07" * 32)
TEXT = b"the quick brown fox jumps over the lazy dog. " * 200
NOISE = blake3(b"noise").digest(length=5000)

BOTH = pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "encrypted"])


def make(data: bytes, keys: DataKeys | None = None) -> tuple[bytearray, Address]:
    encoder = BlobEncoder(keys=keys)
    chunk = encoder.identify(data)
    return bytearray(encoder.encode(data, chunk)), Address(encoder.domain, chunk)


def reseal(raw: bytearray) -> bytearray:
    """Make the outer digest right again, as anybody without a key can."""
    raw[96:128] = blake3(bytes(raw[:96]) + bytes(raw[128:])).digest()
    return raw


def forge(payload: bytes, plain_length: int, *, flags: int = blob.FLAG_ZSTD, chunk: bytes = b"\x01" * 32) -> bytearray:
    """A plain blob with any payload, its digest in order."""
    header = blob._HEADER.pack(
        b"IBSB", 1, flags, 0, plain_length, len(payload), PLAIN_DOMAIN, chunk, bytes(12), 0
    ) + bytes(32)
    return reseal(bytearray(header + payload))


@BOTH
@pytest.mark.parametrize("data", [b"x", TEXT, NOISE, bytes(limits.CHUNK_PLAIN_BYTES_MAX)], ids=len)
def test_round_trip(keys: DataKeys | None, data: bytes) -> None:
    raw, address = make(data, keys)
    header = check_blob(raw)
    assert header.address == address
    assert header.total_bytes == len(raw)
    assert header.plain_length == len(data)
    assert header.encrypted == (keys is not None)
    for given in (bytes(raw), raw, memoryview(raw)):
        assert BlobDecoder(keys=keys).decode(given, want=address) == data


@BOTH
def test_only_what_shrinks_is_stored_compressed(keys: DataKeys | None) -> None:
    tag = blob.TAG_BYTES if keys else 0
    squeezed, _ = make(TEXT, keys)
    assert parse_header(squeezed).flags & blob.FLAG_ZSTD
    assert len(squeezed) < 400
    kept, _ = make(NOISE, keys)
    assert not parse_header(kept).flags & blob.FLAG_ZSTD
    assert len(kept) == blob.HEADER_BYTES + len(NOISE) + tag


@BOTH
def test_the_input_may_be_a_view_and_stays_as_it_was(keys: DataKeys | None) -> None:
    buffer = bytearray(b"--" + NOISE + b"--")
    encoder = BlobEncoder(keys=keys)
    with memoryview(buffer) as view:
        data = view[2:-2]
        raw = encoder.encode(data, encoder.identify(data))
        data.release()
    buffer.append(0)  # would raise BufferError if a view of it were kept
    assert buffer[2:-3] == NOISE
    assert BlobDecoder(keys=keys).decode(raw, want=parse_header(raw).address) == NOISE


def test_ids_are_keyed_only_with_keys() -> None:
    assert BlobEncoder().identify(TEXT) == blake3(TEXT).digest()
    assert BlobEncoder(keys=KEYS).identify(TEXT) == blake3(TEXT, key=KEYS.id_key).digest()
    assert BlobEncoder(keys=OTHER).identify(TEXT) != BlobEncoder(keys=KEYS).identify(TEXT)
    assert BlobEncoder().domain == PLAIN_DOMAIN
    assert BlobEncoder(keys=KEYS).domain == KEYS.fingerprint


def test_every_encryption_takes_a_fresh_nonce() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return hashlib.sha256(str(len(asked)).encode()).digest()[:count]

    encoder = BlobEncoder(keys=KEYS, entropy=entropy)
    first, second = (encoder.encode(NOISE, encoder.identify(NOISE)) for _ in range(2))
    assert asked == [12, 12]
    assert parse_header(first).nonce != parse_header(second).nonce
    assert first[128:] != second[128:]


def test_nothing_of_the_plaintext_shows() -> None:
    raw, _ = make(NOISE, KEYS)
    assert NOISE[:64] not in raw
    assert KEYS.root not in raw


@pytest.mark.parametrize("size", [0, limits.CHUNK_PLAIN_BYTES_MAX + 1])
def test_impossible_sizes_are_not_encoded(size: int) -> None:
    with pytest.raises(UsageError, match="a chunk has 1 to"):
        BlobEncoder().encode(bytes(size), bytes(32))


@BOTH
@pytest.mark.parametrize("level", [1, 2, 3, 9])
def test_levels(keys: DataKeys | None, level: int) -> None:
    encoder = BlobEncoder(level=level, keys=keys)
    raw = encoder.encode(TEXT, encoder.identify(TEXT))
    assert BlobDecoder(keys=keys).decode(raw, want=parse_header(raw).address) == TEXT


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (0, b"JUNK", "magic"),
        (4, b"\x02", "version 2"),
        (5, b"\x04", "unknown flags"),
        (6, b"\x01", "must be zero"),
        (92, b"\x01", "must be zero"),
        (8, bytes(4), "plain length 0"),
        (8, b"\x01\x00\x40\x00", "plain length"),
        (12, b"\xff\xff\xff\xff", "payload length"),
        (12, bytes(4), "payload length"),
        (16, b"\x01", "contradict"),
        (5, b"\x02", "contradict"),
        (80, b"\x01", "no nonce"),
    ],
)
def test_each_broken_header_field_is_refused(offset: int, value: bytes, words: str) -> None:
    raw, address = make(NOISE)
    raw[offset : offset + len(value)] = value
    for read in (parse_header, check_blob, split_blobs, lambda given: BlobDecoder().decode(given, want=address)):
        with pytest.raises(FormatError, match=words):
            read(reseal(raw))


def test_a_compressed_payload_that_saves_nothing_is_refused() -> None:
    with pytest.raises(FormatError, match="does not fit"):
        parse_header(forge(bytes(100), 100))
    with pytest.raises(FormatError, match="does not fit"):
        parse_header(forge(bytes(100), 99, flags=0))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 200])
def test_cut_short_or_too_long_is_malformed(length: int) -> None:
    raw, _ = make(NOISE)
    with pytest.raises(FormatError):
        check_blob(raw[:length])
    with pytest.raises(FormatError, match="header says"):
        check_blob(raw + bytes(length + 1))


@BOTH
@pytest.mark.parametrize("offset", [49, 96, 128, 500, -1])
def test_bit_rot_is_found_without_a_key(keys: DataKeys | None, offset: int) -> None:
    raw, address = make(NOISE, keys)
    raw[offset] ^= 0x10
    with pytest.raises(CorruptChunk, match="digest"):
        check_blob(raw)
    with pytest.raises(CorruptChunk):
        BlobDecoder(keys=keys).decode(raw, want=address)


@pytest.mark.parametrize("offset", [80, 91, 128, -1], ids=["nonce", "nonce end", "payload", "tag"])
def test_malice_fails_the_tag_though_the_digest_fits(offset: int) -> None:
    raw, address = make(NOISE, KEYS)
    raw[offset] ^= 1
    check_blob(reseal(raw))
    with pytest.raises(CorruptChunk, match="authentication"):
        BlobDecoder(keys=KEYS).decode(raw, want=address)


def test_the_whole_header_is_authenticated() -> None:
    raw, address = make(TEXT, KEYS)
    raw[8:12] = (len(TEXT) + 1).to_bytes(4, "little")
    with pytest.raises(CorruptChunk, match="authentication"):
        BlobDecoder(keys=KEYS).decode(reseal(raw), want=address)


def test_a_plain_forgery_fails_the_id() -> None:
    raw, address = make(NOISE)
    raw[128] ^= 1
    with pytest.raises(CorruptChunk, match="content does not match"):
        BlobDecoder().decode(reseal(raw), want=address)


@BOTH
def test_another_whole_chunk_is_not_taken_for_the_wanted_one(keys: DataKeys | None) -> None:
    raw, address = make(NOISE, keys)
    with pytest.raises(CorruptChunk, match=address.id.hex()) as caught:
        BlobDecoder(keys=keys).decode(raw, want=Address(address.domain, bytes(32)))
    assert caught.value.details["chunk"] == bytes(32).hex()


def test_a_key_holder_cannot_pass_other_content_off_as_a_chunk() -> None:
    encoder = BlobEncoder(keys=KEYS)
    wanted = encoder.identify(TEXT)
    raw = encoder.encode(NOISE, wanted)
    with pytest.raises(CorruptChunk, match="content does not match"):
        BlobDecoder(keys=KEYS).decode(raw, want=Address(KEYS.fingerprint, wanted))


@pytest.mark.parametrize("mine", [None, OTHER], ids=["no key", "other key"])
def test_a_wrong_key_names_both_fingerprints(mine: DataKeys | None) -> None:
    raw, address = make(TEXT, KEYS)
    with pytest.raises(FingerprintMismatch) as caught:
        BlobDecoder(keys=mine).decode(raw, want=address)
    offered = hex_fingerprint(mine.fingerprint) if mine else "none"
    assert caught.value.details == {"wanted": hex_fingerprint(KEYS.fingerprint), "offered": offered}
    # Also where the index names our key and the store hands out a chunk under another one.
    with pytest.raises(FingerprintMismatch):
        BlobDecoder(keys=mine).decode(raw, want=Address(mine.fingerprint if mine else PLAIN_DOMAIN, address.id))


def test_plain_and_encrypted_chunks_never_serve_for_each_other() -> None:
    plain, address = make(TEXT)
    with pytest.raises(CorruptChunk, match="stored blob is chunk"):
        BlobDecoder(keys=KEYS).decode(plain, want=Address(KEYS.fingerprint, address.id))
    sealed, address = make(TEXT, KEYS)
    with pytest.raises(CorruptChunk, match="stored blob is chunk"):
        BlobDecoder(keys=KEYS).decode(sealed, want=Address(PLAIN_DOMAIN, address.id))


def test_a_decoder_with_a_key_still_reads_plain_chunks() -> None:
    raw, address = make(TEXT)
    assert BlobDecoder(keys=KEYS).decode(raw, want=address) == TEXT


def hidden_size_bomb() -> bytes:
    """64 MiB of zeros in a frame that does not tell its size."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(bytes(64 << 20)) + packer.flush()


def windowed(descriptor: int) -> bytes:
    """A whole frame of 8000 equal bytes with any window descriptor (RFC 8878, 3.1.1)."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0b0100_0000, descriptor]) + (8000 - 256).to_bytes(2, "little")
    return header + (8000 << 3 | 0b011).to_bytes(3, "little") + b"x"


def test_the_windowed_frame_is_a_frame() -> None:
    data = b"x" * 8000
    chunk = BlobEncoder().identify(data)
    raw = forge(windowed(0x28), 8000, chunk=chunk)
    assert BlobDecoder().decode(raw, want=Address(PLAIN_DOMAIN, chunk)) == data


BOMBS = {
    "tells its size": zstandard.ZstdCompressor().compress(bytes(64 << 20)),
    "hides its size": hidden_size_bomb(),
    "two frames": zstandard.ZstdCompressor().compress(bytes(8000)) * 2,
    "frame and rubbish": zstandard.ZstdCompressor().compress(bytes(8000)) + b"rubbish",
    "cut short": zstandard.ZstdCompressor().compress(NOISE + bytes(3000))[:-5],
    "not zstd": b"nothing of the kind",
    "skippable frame": b"\x50\x2a\x4d\x18" + (8000).to_bytes(4, "little"),
    # A header that promises 8000 bytes and asks for a window of 2 GiB, or 64 MiB, then one block of 8000 equal bytes.
    "2 GiB window": windowed(0xA8),
    "64 MiB window": windowed(0x80),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_and_wrong_frames_are_refused_in_bounded_memory(name: str) -> None:
    raw = forge(BOMBS[name], 8000)
    decoder = BlobDecoder()
    tracemalloc.start()
    with pytest.raises(FormatError, match=f"blob {'01' * 32}"):
        decoder.decode(raw, want=Address(PLAIN_DOMAIN, b"\x01" * 32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_split_blobs_cuts_a_body_apart() -> None:
    made = [make(data, keys) for data, keys in ((TEXT, None), (NOISE, KEYS), (b"x", None))]
    body = b"".join(raw for raw, _ in made)
    parts = split_blobs(body)
    assert [header.address for header, _ in parts] == [address for _, address in made]
    assert [bytes(view) for _, view in parts] == [bytes(raw) for raw, _ in made]
    assert split_blobs(b"") == []
    with pytest.raises(FormatError, match="number 2 is cut short"):
        split_blobs(body[:-1])
    with pytest.raises(FormatError, match="128 bytes"):
        split_blobs(body + b"IBSB")


class Meddler:
    """Stands in for a compressor: calls back into the encoder while it is at work, as a second thread would."""

    def __init__(self, meddle: threading.Thread) -> None:
        self._meddle = meddle

    def compress(self, data: bytes) -> bytes:
        self._meddle.start()
        self._meddle.join()
        return data


def test_use_by_two_threads_at_once_is_loud() -> None:
    encoder = BlobEncoder()
    caught: list[BaseException] = []

    def second() -> None:
        try:
            encoder.encode(TEXT, bytes(32))
        except RuntimeError as error:
            caught.append(error)

    encoder._zstd = cast("zstandard.ZstdCompressor", Meddler(threading.Thread(target=second)))
    encoder.encode(TEXT, bytes(32))
    assert [str(error) for error in caught] == ["a BlobEncoder was used by two threads at once"]
    encoder._zstd = zstandard.ZstdCompressor()
    assert encoder.encode(TEXT, bytes(32))  # usable again afterwards


def test_the_default_of_backups_packs_nearly_as_well_as_level_3() -> None:
    lines = [f"{n % 28}:{n * 7919 % 4096} request {n * n % 65_537:x} answered in {n % 997} ms\n" for n in range(20_000)]
    data = "".join(lines).encode()[: 1 << 20]
    sizes = {level: len(BlobEncoder(level=level).encode(data, bytes(32))) for level in (2, 3)}
    assert sizes[2] < sizes[3] * 1.15
    blob = BlobEncoder(level=2).encode(data, BlobEncoder().identify(data))
    assert BlobDecoder().decode(blob, want=Address(PLAIN_DOMAIN, BlobEncoder().identify(data))) == data
