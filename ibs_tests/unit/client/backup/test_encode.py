"""The computing side: ids, one encoder a chunk, zero chunks for nothing, seconds where they were spent."""

from __future__ import annotations

import pytest

from ibs.client.backup.encode import Encoding, TimedEncoder
from ibs.client.backup.figures import Figures
from ibs.client.backup.items import ChunkRef, Job
from ibs.client.backup.known import Ledger
from ibs.core.blob import BlobDecoder
from ibs.core.ids import PLAIN_DOMAIN, Address
from ibs.core.index import ZERO_ID
from ibs.core.keys import DataKeys
from ibs.runtime.clock import SystemClock

KEYS = DataKeys.from_root(b"k" * 32)


def encoding(keys: DataKeys | None = None) -> tuple[Encoding, Figures, Ledger]:
    figures, ledger = Figures(), Ledger()
    return Encoding(level=3, keys=keys, ledger=ledger, figures=figures, clock=SystemClock()), figures, ledger


@pytest.mark.parametrize("keys", [None, KEYS])
def test_each_chunk_is_encoded_once(keys: DataKeys | None) -> None:
    encode, figures, ledger = encoding(keys)
    data = [b"one" * 1000, b"two" * 1000, b"one" * 1000]
    refs = [ChunkRef(memoryview(one), None) for one in data]
    blobs = encode.run(Job(refs, 0, 2))
    assert len(blobs) == 2
    assert refs[0].id == refs[2].id != refs[1].id
    domain = keys.fingerprint if keys else PLAIN_DOMAIN
    for (chunk_id, blob), plain in zip(blobs, data, strict=False):
        assert BlobDecoder(keys=keys).decode(blob, want=Address(domain, chunk_id)) == plain
    assert all(ref.view is None for ref in refs)
    wire = figures.wire()
    assert (wire["hash"].items, wire["hash"].bytes) == (3, 9000)
    assert (wire["compress"].items, wire["compress"].bytes) == (2, 6000)
    assert (wire["encrypt"].items > 0) == (keys is not None)
    assert not ledger.claim(refs[0].id)


def test_zero_chunks_are_known_by_their_hash() -> None:
    encode, _, ledger = encoding()
    zeros = bytes(5000)
    zero_id = TimedEncoder(level=3, keys=None, monotonic=SystemClock().monotonic).identify(zeros)
    refs = [ChunkRef(memoryview(zeros), None), ChunkRef(memoryview(b"x" * 5000), None)]
    blobs = encode.run(Job(refs, 0, 1, {5000: zero_id}))
    assert refs[0].id == ZERO_ID
    assert [chunk_id for chunk_id, _ in blobs] == [refs[1].id]
    assert ledger.claim(zero_id)


def test_metadata_comes_hashed_and_claimed() -> None:
    encode, _, ledger = encoding()
    ref = ChunkRef(memoryview(b"block"), None)
    ref.id = TimedEncoder(level=3, keys=None, monotonic=SystemClock().monotonic).identify(b"block")
    assert ledger.claim(ref.id)
    assert [chunk_id for chunk_id, _ in encode.run(Job([ref]))] == [ref.id]
