"""Blobs under fire: any change of valid bytes and any rubbish ends in one of our errors, in bounded memory."""

from __future__ import annotations

import contextlib
import tracemalloc

import zstandard
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibs.core import blob
from ibs.core.blob import BlobDecoder, BlobEncoder, check_blob, parse_header, split_blobs
from ibs.core.ids import PLAIN_DOMAIN, Address
from ibs.core.keys import DataKeys
from ibs.errors import CorruptChunk, FingerprintMismatch, FormatError
from ibs_tests.support.mutations import mutations

KEYS = DataKeys.from_root(bytes(range(32)))
EXPECTED = (FormatError, CorruptChunk, FingerprintMismatch)
CONTENT = st.one_of(
    st.binary(min_size=1, max_size=2000),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=50), st.integers(1, 2000)),
)
KEYS_OR_NONE = st.sampled_from([None, KEYS])
MEMORY_MAX = 16 << 20
"""Decoding takes the plaintext (at most 4 MiB) a few times over, never what a bomb asks for."""


def make(data: bytes, keys: DataKeys | None) -> tuple[bytes, Address]:
    encoder = BlobEncoder(keys=keys, entropy=lambda count: b"\x42" * count)
    chunk = encoder.identify(data)
    return bytes(encoder.encode(data, chunk)), Address(encoder.domain, chunk)


def reseal(raw: bytes) -> bytes:
    return raw[:96] + blake3(raw[:96] + raw[128:]).digest() + raw[128:]


@given(data=CONTENT, keys=KEYS_OR_NONE, level=st.sampled_from([1, 3]))
def test_round_trip(data: bytes, keys: DataKeys | None, level: int) -> None:
    encoder = BlobEncoder(level=level, keys=keys)
    chunk = encoder.identify(data)
    raw = encoder.encode(memoryview(data), chunk)
    assert BlobDecoder(keys=keys).decode(raw, want=Address(encoder.domain, chunk)) == data
    assert len(raw) <= blob.HEADER_BYTES + len(data) + (blob.TAG_BYTES if keys else 0)


@given(data=CONTENT, keys=KEYS_OR_NONE, mutate=mutations(), resealed=st.booleans())
def test_what_was_changed_never_comes_out_changed(data: bytes, keys: DataKeys | None, mutate, resealed: bool) -> None:
    """Whether by accident or with the outer digest put right again: the wanted bytes, or one of our errors."""
    raw, want = make(data, keys)
    changed = mutate(raw)
    if resealed:
        changed = reseal(changed)
    with contextlib.suppress(EXPECTED):
        assert BlobDecoder(keys=keys).decode(changed, want=want) == data


@given(data=CONTENT, keys=KEYS_OR_NONE, bit=st.integers(0, 8 * 200))
def test_any_flipped_bit_is_found_without_a_key(data: bytes, keys: DataKeys | None, bit: int) -> None:
    raw, _ = make(data, keys)
    changed = bytearray(raw)
    changed[bit // 8 % len(raw)] ^= 1 << bit % 8
    try:
        check_blob(changed)
    except (FormatError, CorruptChunk):
        return
    raise AssertionError("a flipped bit went unnoticed")


def read_all(data: bytes) -> None:
    """Everything that reads blobs, on hostile bytes; only our errors may come out."""
    for read in (parse_header, check_blob, split_blobs):
        with contextlib.suppress(EXPECTED):
            read(data)
    for keys in (None, KEYS):
        for domain in (PLAIN_DOMAIN, KEYS.fingerprint):
            try:
                BlobDecoder(keys=keys).decode(data, want=Address(domain, bytes(data[48:80]).ljust(32, b"\0")))
            except EXPECTED:
                continue
            raise AssertionError("hostile bytes passed for a chunk")


@given(data=st.binary(max_size=400))
@example(b"")
@example(b"IBSB\x01" + bytes(200))
def test_rubbish(data: bytes) -> None:
    read_all(data)
    read_all(b"IBSB\x01" + data)


@given(
    flags=st.integers(0, 255),
    plain=st.one_of(st.integers(0, 5 << 20), st.integers(0, 2**32 - 1)),
    claimed=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    domain=st.sampled_from([PLAIN_DOMAIN, KEYS.fingerprint, b"\x01" * 32]),
    nonce=st.sampled_from([bytes(12), b"\x01" * 12]),
    payload=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda tail: b"\x28\xb5\x2f\xfd" + tail),  # looks like zstd
        st.integers(1, 8 << 20).map(lambda size: zstandard.ZstdCompressor().compress(bytes(size))),
    ),
)
@settings(max_examples=300)
def test_well_sealed_nonsense_in_bounded_memory(
    flags: int, plain: int, claimed: int | None, domain: bytes, nonce: bytes, payload: bytes
) -> None:
    """Headers with a fitting digest around any payload, compression bombs among them."""
    length = len(payload) if claimed is None else claimed
    sealed = blob._HEADER.pack(b"IBSB", 1, flags, 0, plain, length, domain, b"\xee" * 32, nonce, 0)
    tracemalloc.start()
    try:
        read_all(reseal(sealed + bytes(32) + payload))
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
    finally:
        tracemalloc.stop()


@given(parts=st.lists(st.tuples(CONTENT, KEYS_OR_NONE), max_size=6), cut=st.integers(0, 10_000))
def test_bodies_split_into_what_was_joined(parts: list[tuple[bytes, DataKeys | None]], cut: int) -> None:
    made = [make(data, keys) for data, keys in parts]
    body = b"".join(raw for raw, _ in made)
    assert [(header.address, bytes(view)) for header, view in split_blobs(body)] == [
        (address, raw) for raw, address in made
    ]
    short = body[: cut % (len(body) + 1)]
    try:
        whole = split_blobs(short)
    except FormatError:
        return
    assert b"".join(bytes(view) for _, view in whole) == short
