"""What is believed of a snapshot that another server offers, and in which parts it arrives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest

from ibs.core import index, limits, limits_sync, manifest
from ibs.core.ids import hex_fingerprint
from ibs.core.keys import DataKeys
from ibs.errors import FormatError, SignatureInvalid, UsageError
from ibs.services import pulling
from ibs.services.pulling import Wish, checked
from ibs.wire.reader import ReaderOpened
from ibs_tests.support.restores import SERVER_SEED, SNAPSHOT, STORE, MemorySnapshot, folder

KEYS = DataKeys.from_root(b"k" * 32)
WISH = Wish("site-b", manifest.public_key(SERVER_SEED), "main", SNAPSHOT)
OWN = ("11111111-2222-3333-4444-555555555555", manifest.public_key(b"o" * 32))


@dataclass
class Offer:
    """What the remote answers."""

    opened: ReaderOpened

    def but(self, **changes: str) -> ReaderOpened:
        return msgspec.structs.replace(self.opened, **changes)


async def offer(keys: DataKeys | None = None) -> Offer:
    snapshot = MemorySnapshot(keys=keys)
    snapshot.add_tree("t.tree", [folder(b"")])
    return Offer(await snapshot.transport().open(STORE, SNAPSHOT))


async def test_a_plain_one_is_vouched_for_by_its_own_server() -> None:
    offered = await offer()
    found = checked(offered.opened, replace(WISH, notes="n", protected=True), OWN)
    assert (found.signature.by, found.notes, found.protected) == ("server", "n", True)
    with pytest.raises(SignatureInvalid, match="not remote site-b"):
        checked(offered.opened, replace(WISH, signer=b"x" * 32), OWN)


async def test_what_was_made_here_comes_home_only_under_our_own_key() -> None:
    offered = await offer()
    mine = manifest.decode(offered.opened.manifest.encode()).datastore
    found = checked(offered.opened, replace(WISH, signer=b"x" * 32), (mine, WISH.signer))
    assert found.signer == WISH.signer
    with pytest.raises(SignatureInvalid, match="not remote site-b"):
        checked(offered.opened, WISH, (mine, OWN[1]))


async def test_a_lost_server_is_believed_only_when_its_key_is_named() -> None:
    offered = await offer()
    stranger = replace(WISH, signer=b"x" * 32)
    found = checked(offered.opened, replace(stranger, also=frozenset({WISH.signer})), OWN)
    assert found.signer == WISH.signer
    with pytest.raises(SignatureInvalid, match="not remote site-b") as caught:
        checked(offered.opened, replace(stranger, also=frozenset({b"y" * 32})), OWN)
    assert "--trust-signer" in caught.value.hint


async def test_an_encrypted_one_by_its_client() -> None:
    found = checked((await offer(KEYS)).opened, WISH, OWN)
    assert found.signature.by == "client"
    assert found.manifest.key_fingerprint == hex_fingerprint(KEYS.fingerprint)


async def test_one_snapshot_is_not_passed_off_as_another() -> None:
    offered = await offer()
    other = SNAPSHOT.replace("2026", "2025")
    with pytest.raises(SignatureInvalid, match="asked for"):
        checked(offered.opened, replace(WISH, snapshot=other), OWN)
    with pytest.raises(SignatureInvalid, match="answered with"):
        checked(offered.but(snapshot=other), WISH, OWN)
    with pytest.raises(SignatureInvalid, match="not signed"):
        checked(offered.but(signature=""), WISH, OWN)
    with pytest.raises(FormatError):
        checked(offered.but(manifest="{}"), WISH, OWN)


def test_parts_are_as_large_as_a_session_takes() -> None:
    large = bytes(limits.CHUNK_BODY_BYTES_MAX)
    parts = list(pulling._parts([b"a", b"b", large, b"c", large[:-1], b"d", b"e"]))
    assert [len(part) for part in parts] == [2, 1, 2, 2]
    assert b"".join(bytes(blob) for part in parts for blob in part) == b"ab" + large + b"c" + large[:-1] + b"de"
    assert all(sum(map(len, part)) <= limits.CHUNK_BODY_BYTES_MAX for part in parts)
    assert list(pulling._parts([])) == []


def test_a_request_asks_for_as_much_as_an_answer_holds() -> None:
    ids = np.arange(200 * 32, dtype=np.uint32).astype(np.uint8).reshape(-1, 32)
    small = list(pulling.batches_of(ids, np.full(200, 100)))
    assert [len(batch) for batch in small] == [64, 64, 64, 8]
    assert [chunk for batch in small for chunk in batch] == [bytes(row) for row in ids]
    large = list(pulling.batches_of(ids, np.full(200, limits.CHUNK_PLAIN_BYTES_MAX)))
    assert {len(batch) for batch in large[:-1]} == {limits_sync.PULL_BATCH_CHUNKS}
    lengths = np.array([4 << 20, 100, 4 << 20, 2 << 20] * 50)
    asked = iter(lengths + limits_sync.PULL_BLOB_EXTRA_BYTES)
    for batch in pulling.batches_of(ids, lengths):
        assert sum(int(next(asked)) for _ in batch) <= limits.FETCH_ANSWER_BYTES_MAX
    assert not list(pulling.batches_of(ids[:0], lengths[:0]))


async def test_an_index_that_lies_about_lengths_only_costs_requests() -> None:
    asked: list[int] = []

    class Strict:
        async def fetch(self, ids: list[bytes]) -> list[bytes]:
            asked.append(len(ids))
            if len(ids) > limits_sync.PULL_BATCH_CHUNKS:
                raise UsageError("these chunks take more than an answer holds", hint="ask for fewer")
            return ids

    ids = [bytes([number]) * 32 for number in range(16)]
    assert await pulling.fetch_batch(Strict(), ids) == ids  # type: ignore[arg-type]
    assert asked == [16, 7, 7, 2]


def test_each_chunk_is_asked_for_once_and_with_its_length() -> None:
    a, b, c = (bytes([number]) * 32 for number in (9, 1, 5))
    records = b"".join(index.tree_record(one, length, 0) for one, length in ((a, 10), (b, 20), (a, 10), (c, 30)))
    header = index.IndexHeader("tree", 40, 4, 60, 0, 1, bytes(32), a, bytes(32))
    ids, lengths = pulling.distinct_lengths(header, records)
    assert [(bytes(one), int(length)) for one, length in zip(ids, lengths, strict=True)] == [(b, 20), (c, 30), (a, 10)]
    image = index.IndexHeader("img", 32, 2, 8 << 20, 4 << 20, 0, bytes(32), bytes(32), bytes(32))
    ids, lengths = pulling.distinct_lengths(image, a + bytes(32))
    assert [bytes(one) for one in ids] == [bytes(32), a]
    assert list(lengths) == [4 << 20] * 2
    empty = index.IndexHeader("img", 32, 0, 0, 4 << 20, 0, bytes(32), bytes(32), bytes(32))
    ids, lengths = pulling.distinct_lengths(empty, b"")
    assert (ids.shape, lengths.shape) == ((0, 32), (0,))
